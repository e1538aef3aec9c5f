"""Export a merged checkpoint to ONNX (fp32, with KV cache) and check it against torch.

Goes in: a checkpoint folder. Comes out: a folder with `model.onnx`, `config.json`,
`tokenizer.json` and `export.json` (the measured difference). Does not quantize.

Optimum traces the decoder; the graph takes `input_ids`, `attention_mask`, `position_ids` and
`past_key_values.N.key/value`, and gives `logits` and `present.N.key/value`. A tied vocabulary table
is stored once (the head reads it through a Transpose, which ONNX Runtime folds at load).

    >>> export_onnx(Path("merged"), Path("variants/onnx-fp32")).max_logit_difference < 1e-2
    True
"""

import contextlib
import io
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subterra.quantize.onnx_quantize import load_graph, save_graph
from subterra.quantize.onnx_vocabulary import share_table
from subterra.quantize.torch_reference import load_model
from subterra.quantize.variants import missing_checkpoint
from subterra.runtime.errors import ExportError, MissingExtraError
from subterra.runtime.files import replacing_folder, write_json

if TYPE_CHECKING:
    import onnxruntime

TASK = "text-generation-with-past"

SHIPPED = ("config.json", "generation_config.json", "tokenizer.json")
"""Files beside the graph that an engine reads; the others that optimum writes are dropped."""

PROBE_TOKENS = 48
"""Tokens of the probe; the last third is fed through the KV cache."""

DIFFERENCE_LIMIT = 1e-2
"""Largest tolerated logit difference to torch; fp32 rounding gives 1e-4 to 1e-3."""

NOISY_LOGGERS = ("optimum", "transformers", "torch.onnx", "onnxruntime", "root")


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """What was measured on an exported graph."""

    max_logit_difference: float
    """Largest absolute logit difference to torch over the probe, in nats."""
    same_top: float
    """Share of probe positions with the same most likely token."""
    probe_tokens: int
    opset: int


def export_onnx(merged: Path, target: Path) -> OnnxExport:
    """Write `target`, an fp32 ONNX folder of the checkpoint `merged`.

    Raises:
        ExportError: the checkpoint is missing, of an unknown architecture, or the graph disagrees
            with torch by more than DIFFERENCE_LIMIT.
        MissingExtraError: optimum is not installed.
        ResourceError: the folder cannot be written.
    """
    if not (merged / "config.json").is_file():
        raise missing_checkpoint(merged)
    model = load_model(merged)
    with replacing_folder(target) as folder:
        _trace(model, folder, merged)
        _share_table(folder)
        _tidy(folder, merged)
        measured = _compare(model, folder)
        if not measured.max_logit_difference <= DIFFERENCE_LIMIT:
            raise ExportError(
                f"the ONNX graph differs from torch by {measured.max_logit_difference:.3g} "
                f"(limit {DIFFERENCE_LIMIT:g})",
                hint="use the GGUF variants: subterra quantize --variants F16,Q8_0",
            )
        write_json(folder / "export.json", asdict(measured))
    return measured


def session(graph: Path, threads: int = 0) -> "onnxruntime.InferenceSession":
    """Open a graph on the CPU without log lines.

    Raises:
        ExportError: ONNX Runtime refuses the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises its own types, none of them exported
        raise ExportError(
            f"ONNX Runtime refuses {graph}: {_first_line(error)}",
            hint="delete the folder and run subterra quantize again",
        ) from error


def run_graph(
    graph: "onnxruntime.InferenceSession", tokens: NDArray[np.int64], split: int
) -> NDArray[np.float32]:
    """Logits (T, V) of `tokens` (T,), the first `split` at once, the rest through the KV cache."""
    past = {
        i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
        for i in graph.get_inputs()
        if i.name.startswith("past_key_values")
    }
    inputs = {i.name for i in graph.get_inputs()}
    outputs = [o.name for o in graph.get_outputs()]
    logits = []
    for start, end in ((0, split), (split, len(tokens))):
        feeds = {
            "input_ids": tokens[None, start:end],
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
        }
        feeds = {name: array for name, array in feeds.items() if name in inputs}
        results = dict(zip(outputs, graph.run(None, feeds | past), strict=True))
        past = {name: results[name.replace("past_key_values", "present")] for name in past}
        logits.append(results["logits"][0])
    return np.concatenate(logits).astype(np.float32, copy=False)


def _trace(model: Any, folder: Path, merged: Path) -> None:
    """Write `model.onnx` as torch traces it under optimum's configuration of the architecture.

    Optimum's own entry point would load, check and save the graph three times more.
    """
    try:
        with _offline(), _quiet():
            from optimum.exporters.onnx import export
            from optimum.exporters.tasks import TasksManager

            constructor = TasksManager.get_exporter_config_constructor(
                "onnx", model=model, task=TASK, library_name="transformers"
            )
            config = constructor(model.config, use_past=True, use_past_in_inputs=True)
            export(model, config, folder / "model.onnx", disable_dynamic_axes_fix=True)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "optimum-onnx", "quantize") from error
    except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ExportError(
            f"optimum cannot export {merged}: {_first_line(error)}",
            hint="use the GGUF variants: subterra quantize --variants F16,Q8_0",
        ) from error


def _share_table(folder: Path) -> None:
    """Store a table once that is both embedding and head: the tracer folds the head's transpose."""
    model = load_graph(folder / "model.onnx")
    if share_table(model):
        save_graph(model, folder)


def _tidy(folder: Path, merged: Path) -> None:
    """Keep the graph, its data and what an engine reads."""
    for name in SHIPPED:
        if (merged / name).is_file():
            shutil.copyfile(merged / name, folder / name)
    for file in folder.iterdir():
        if file.name not in SHIPPED and not file.name.startswith("model.onnx"):
            file.unlink()


def _compare(model: Any, folder: Path) -> OnnxExport:
    import onnx
    import torch

    tokens = np.random.default_rng(0).integers(
        0, int(model.config.vocab_size), PROBE_TOKENS, dtype=np.int64
    )
    with torch.inference_mode():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].float().numpy()
    actual = run_graph(session(folder / "model.onnx"), tokens, split=PROBE_TOKENS * 2 // 3)
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    return OnnxExport(
        max_logit_difference=float(np.abs(actual - expected).max()),
        same_top=float((actual.argmax(-1) == expected.argmax(-1)).mean()),
        probe_tokens=PROBE_TOKENS,
        opset=max(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx")),
    )


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep every Hugging Face library off the network while the block runs."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence tracer warnings and the libraries' prints; errors still raise."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
