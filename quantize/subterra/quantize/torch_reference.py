"""The merged checkpoint in torch at fp32: the truth that every variant is compared with.

Goes in: a checkpoint folder and token ids. Comes out: logits. Does not generate text and knows no
quantisation.

    >>> TorchReference(Path("merged")).logits([1, 9690, 198]).shape
    (3, 49152)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subterra.quantize.variants import missing_checkpoint
from subterra.runtime.errors import EngineError, ModelError


def load_model(merged: Path) -> Any:
    """Load a checkpoint as an fp32 transformers model, from local files only.

    Raises:
        ExportError: there is no checkpoint.
        ModelError: the checkpoint is damaged.
    """
    if not (merged / "config.json").is_file():
        raise missing_checkpoint(merged)
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(merged), dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and safetensors raise a dozen unrelated types
        raise ModelError(
            f"cannot load the checkpoint {merged}: {str(error).splitlines()[0]}",
            hint="run subterra merge again",
        ) from error
    return model.eval()


class TorchReference:
    """Logits of a checkpoint; the head is computed only at the positions asked for."""

    name = "torch"

    def __init__(self, merged: Path, *, threads: int | None = None) -> None:
        """Load the checkpoint.

        Raises:
            ExportError: there is no checkpoint.
            ModelError: the checkpoint is damaged.
        """
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._model = load_model(merged)
        self.vocab_size = int(self._model.config.vocab_size)
        self.context_tokens = int(self._model.config.max_position_embeddings)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits (T, V) after each token."""
        return self.logits_at(tokens, np.arange(len(tokens)))

    def logits_at(self, tokens: Sequence[int], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Logits (R, V) after the tokens at the positions `rows`.

        Raises:
            EngineError: the text is longer than the model's context.
        """
        import torch

        if len(tokens) > self.context_tokens:
            raise EngineError(
                f"{len(tokens)} tokens are more than the context of {self.context_tokens}",
                hint="score shorter dialogues",
            )
        ids = torch.tensor([list(tokens)], dtype=torch.long)
        with torch.inference_mode():
            output = self._model(
                ids, use_cache=False, logits_to_keep=torch.from_numpy(np.asarray(rows))
            )
        array: NDArray[np.float32] = output.logits[0].float().numpy()
        return array

    def close(self) -> None:
        """Free the weights."""
        self._model = None
