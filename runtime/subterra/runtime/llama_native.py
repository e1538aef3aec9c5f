"""The few calls of llama.cpp that subterra uses, with our errors and our lifetimes.

Goes in: a GGUF path; batches of (token, position, sequence, wants logits). Comes out: logits.
Only the low-level bindings are used: the high-level class detokenises quadratically and copies
logits it does not need. Does not know texts, prefixes or replies.

    >>> model = NativeModel(Path("model-Q8_0.gguf"))
    >>> context = NativeContext(model, context_tokens=2048, threads=2)
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.errors import EngineError

# Read when OpenMP is loaded. Threads that spin at barriers wait for a neighbour's time slice: on
# two busy cores 5 tokens/s instead of 16, on two free ones no difference was measured.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import llama_cpp.llama_cpp as native

__all__ = ["Batch", "NativeContext", "NativeModel", "native"]

GGUF_MAGIC = b"GGUF"
LOG_WARNING, LOG_ERROR = 3, 4
AMX_VARIABLE = "SUBTERRA_AMX"
"""Set to 1 where llama.cpp was built with sound AMX kernels: they double the speed."""

ABORTED = 2
NO_ROOM = 1

_log_lines: deque[str] = deque(maxlen=8)


@native.llama_log_callback  # type: ignore[untyped-decorator]
def _collect_log(level: int, text: bytes, _: object) -> None:
    if level in (LOG_WARNING, LOG_ERROR):
        _log_lines.append(text.decode("utf-8", "replace").strip())


class NativeModel:
    """A GGUF file mapped into memory, CPU only."""

    def __init__(self, path: Path, *, vocabulary_only: bool = False) -> None:
        """Load `path`, or only what stands in it beside the weights.

        Raises:
            EngineError: the file is missing, not GGUF, or llama.cpp refuses it.
        """
        _check_file(path)
        native.llama_log_set(_collect_log, ctypes.c_void_p(0))  # instead of writing to stderr
        native.llama_backend_init()
        _log_lines.clear()
        params = native.llama_model_default_params()
        params.n_gpu_layers = 0
        params.load_mode = native.LLAMA_LOAD_MODE_MMAP
        params.use_extra_bufts = not _amx_may_crash()
        params.vocab_only = vocabulary_only
        self.path = path
        self.handle: Any = native.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise EngineError(
                f"llama.cpp refuses {path}: {_last_log()}",
                hint="make the file again with: subterra quantize",
            )
        self.vocab_size = int(
            native.llama_vocab_n_tokens(native.llama_model_get_vocab(self.handle))
        )

    def close(self) -> None:
        """Free the weights; every context must be closed before."""
        if self.handle:
            native.llama_model_free(self.handle)
            self.handle = None


@dataclass(slots=True)
class Batch:
    """Tokens for one decode, in the order in which their logits come back."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    outputs: list[bool] = field(default_factory=list)

    def add(self, token: int, position: int, sequence: int, *, output: bool) -> None:
        """Append one token of one sequence."""
        self.tokens.append(token)
        self.positions.append(position)
        self.sequences.append(sequence)
        self.outputs.append(output)

    def __len__(self) -> int:
        return len(self.tokens)


class NativeContext:
    """A KV cache of one or more sequences, and the decoding in it."""

    def __init__(
        self,
        model: NativeModel,
        *,
        context_tokens: int,
        threads: int,
        sequences: int = 1,
        batch_tokens: int = 512,
        outputs: int = 1,
    ) -> None:
        """Reserve `sequences` caches of `context_tokens` each and room for `outputs` logit rows.

        Raises:
            EngineError: llama.cpp cannot make the context (memory, or a model that is no decoder).
        """
        self.vocab_size: Final = model.vocab_size
        self.batch_tokens: Final = batch_tokens
        self.abort: Callable[[], bool] | None = None
        self._lock = threading.Lock()
        self._abort_callback = native.ggml_abort_callback(self._should_abort)
        params = native.llama_context_default_params()
        params.n_ctx = context_tokens * sequences
        params.n_batch = params.n_ubatch = batch_tokens
        params.n_seq_max = sequences
        params.n_outputs_max = max(outputs, sequences)
        params.n_threads = params.n_threads_batch = threads
        # with 16 sequences a step takes 106 ms with flash attention, 82 ms without (2 cores)
        params.flash_attn_type = (
            native.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if sequences == 1
            else native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.kv_unified = False
        params.offload_kqv = params.op_offload = False
        params.no_perf = True
        _log_lines.clear()
        self._handle: Any = native.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise EngineError(
                f"llama.cpp cannot open a context of {context_tokens} tokens: {_last_log()}",
                hint="open the engine with a smaller context, or fewer slots",
            )
        self._memory = native.llama_get_memory(self._handle)
        self._batch = native.llama_batch_init(batch_tokens, 0, 1)
        self._views = _batch_views(self._batch, batch_tokens)

    def decode(self, batch: Batch) -> NDArray[np.float32] | None:
        """Run one batch of at most `batch_tokens` tokens.

        Returns:
            Logits (R, V) of the R tokens that wanted them, valid until the next decode; None when
            `abort` turned true meanwhile (the caller then trims its sequences).

        Raises:
            EngineError: the context is closed or full, or llama.cpp fails.
        """
        with self._lock:
            self._check_open()
            self._fill(batch)
            use_abort = self.abort is not None and len(batch) > 1
            native.llama_set_abort_callback(
                self._handle,
                self._abort_callback if use_abort else native.ggml_abort_callback(),
                None,
            )
            code = native.llama_decode(self._handle, self._batch)
            if code == ABORTED:
                return None
            if code != 0:
                raise _decode_error(code)
            return self._logits(sum(batch.outputs))

    def keep(self, sequence: int, length: int) -> bool:
        """Drop a sequence's cache from position `length` on; False when the model cannot.

        Models with a recurrent state cannot drop a part: their sequence is then emptied.
        """
        with self._lock:
            self._check_open()
            if native.llama_memory_seq_rm(self._memory, sequence, length, -1):
                return True
            native.llama_memory_seq_rm(self._memory, sequence, -1, -1)
            return False

    def close(self) -> None:
        """Free the cache; waits for a running decode."""
        with self._lock:
            if self._handle:
                native.llama_batch_free(self._batch)
                native.llama_free(self._handle)
                self._handle = None

    def _check_open(self) -> None:
        if not self._handle:
            raise EngineError("the engine is closed", hint="open it again")

    def _fill(self, batch: Batch) -> None:
        tokens, positions, outputs = self._views
        size = len(batch)
        tokens[:size] = batch.tokens
        positions[:size] = batch.positions
        outputs[:size] = batch.outputs
        for index, sequence in enumerate(batch.sequences):
            self._batch.n_seq_id[index] = 1
            self._batch.seq_id[index][0] = sequence
        self._batch.n_tokens = size

    def _logits(self, rows: int) -> NDArray[np.float32]:
        if rows == 0:
            return np.empty((0, self.vocab_size), np.float32)
        pointer = native.llama_get_logits(self._handle)
        return np.ctypeslib.as_array(pointer, (rows, self.vocab_size))

    def _should_abort(self, _: object) -> bool:
        return self.abort is not None and self.abort()


def _batch_views(
    batch: Any, size: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
    return (
        np.ctypeslib.as_array(batch.token, (size,)),
        np.ctypeslib.as_array(batch.pos, (size,)),
        np.ctypeslib.as_array(batch.logits, (size,)),
    )


def _amx_may_crash() -> bool:
    """Tell whether llama.cpp was built with AMX kernels that nobody vouched for.

    GCC 12 drops stores before `ldtilecfg`, so a build without `-fno-tree-dse -fno-dse` crashes on
    the first quantised batch (llama.cpp issue 20824). The only switch at run time turns the
    repacked kernels off as well.
    """
    has_amx = b"AMX_INT8 = 1" in (native.llama_print_system_info() or b"")
    return has_amx and os.environ.get(AMX_VARIABLE) != "1"


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise EngineError(
            f"cannot read the model {path}: {error.strerror}", hint="check the path"
        ) from error
    if magic != GGUF_MAGIC:
        raise EngineError(f"{path} is not a GGUF file", hint="make one with: subterra quantize")


def _decode_error(code: int) -> EngineError:
    if code == NO_ROOM:
        return EngineError(
            "the context is full", hint="open the engine with a larger context, or fewer slots"
        )
    return EngineError(
        f"llama.cpp failed with code {code}: {_last_log()}", hint="open the engine again"
    )


def _last_log() -> str:
    return "; ".join(line for line in _log_lines if line) or "no reason given"
