"""Memory that a training and its hands see alike: the weights, a batch, the gradients of its parts."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from batchflow.flow.density import Batch
from batchflow.train.parts import parts

LINE = 16
"""Numbers of single precision in a line of the cache: arrays begin at one."""


class Shape(NamedTuple):
    """What decides the size of a board."""

    weights: int
    """Trained numbers of the flow."""
    rows: int
    """Examples of a batch."""
    parameters: int
    features: int


class Board:
    """Tensors of single precision laid over memory that several processes have mapped."""

    def __init__(self, shape: Shape, descriptor: int) -> None:
        self.parts = parts(shape.rows, torch.device("cpu"))
        memory = mmap.mmap(descriptor, 0)
        place, found = 0, []
        for size in _sizes(shape, len(self.parts)):
            count = math.prod(size)
            flat = torch.frombuffer(memory, dtype=torch.float32, count=count, offset=4 * place)
            found.append(flat.view(size))
            place += _padded(size)
        self.weights, self.slopes, self.losses, *batch = found
        self.batch = Batch(*batch)

    @staticmethod
    def bytes(shape: Shape) -> int:
        """Memory that a board takes."""
        count = len(parts(shape.rows, torch.device("cpu")))
        return 4 * sum(map(_padded, _sizes(shape, count)))


def _sizes(shape: Shape, n_parts: int) -> list[tuple[int, ...]]:
    """Of the weights, the gradient and the loss of each part, and the columns of a batch."""
    batch = [(shape.rows, shape.parameters), (shape.rows, shape.features), (shape.rows,)]
    return [(shape.weights,), (n_parts, shape.weights), (n_parts,), *batch]


def _padded(size: Sequence[int]) -> int:
    return -(-math.prod(size) // LINE) * LINE


def lay_out(weights: Sequence[Tensor], memory: Tensor, keep: bool = True) -> None:
    """Move weights into one stretch of memory, in order; what refers to them stays as it is.

    Parameters
    ----------
    weights : sequence of Tensor
        Their `data` become views of the memory.
    memory : Tensor, shape (n,)
        As long as all weights together.
    keep : bool
        Whether the memory takes the weights' values, instead of the weights those of the memory.
    """
    for weight, own in zip(weights, views(memory, weights), strict=True):
        if keep:
            own.copy_(weight.detach())
        weight.data = own


def views(memory: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut one stretch of memory, shape (n,), into tensors of the shapes of others, in order."""
    parts = memory.split([one.numel() for one in like])
    return [part.view_as(one) for part, one in zip(parts, like, strict=True)]
