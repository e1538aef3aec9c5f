"""All trained parameters of a model as one vector, their gradients as another.

One vector is averaged, clipped and stepped in one operation, and can lie in memory that several
processes share.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatParameters:
    """Moves parameters into one fp32 vector (N,), and their gradients into another."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        values: Tensor | None = None,
        gradient: Tensor | None = None,
    ) -> None:
        """Take the parameters over; from now on they are views.

        Args:
            parameters: what is trained, fp32.
            values: (N,) vector to take the values from, instead of the parameters' own.
            gradient: (N,) vector for the gradients, zero.
        """
        if values is None:
            values = torch.cat([p.detach().flatten() for p in parameters])
        self.values = values
        self.gradient = torch.zeros_like(values) if gradient is None else gradient
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.data = self.values[start:end].view_as(parameter)
            parameter.grad = self.gradient[start:end].view_as(parameter)
            start = end
