"""How the rows of a training step are shared, and what each share contributes.

The parts of a batch are the same however many cores there are, and their gradients are added in order:
the weights that come out are the same to the last digit.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from batchflow.flow.density import Batch
from batchflow.flow.model import ConditionalFlow

PART_ROWS = 512
"""Rows that a core takes through the network at once: fewer cost more a row, more leave cores idle."""


def parts(rows: int, device: torch.device) -> list[slice]:
    """Cut a batch into the parts that go through the network side by side.

    Parameters
    ----------
    rows : int
        Of the batch.
    device : torch.device
        Where they are; on a GPU, which shares them itself, there is one part.

    Returns
    -------
    list of slice
        Of like size, `PART_ROWS` or little more; one for a batch smaller than two.
    """
    number = max(1, rows // PART_ROWS) if device.type == "cpu" else 1
    edges = [place * rows // number for place in range(number + 1)]
    return [slice(*edge) for edge in pairwise(edges)]


def slope(flow: ConditionalFlow, examples: Batch, total: int) -> tuple[Tensor, Tensor]:
    """Share of a batch's mean loss that some of its rows make, and the gradient.

    Parameters
    ----------
    flow : ConditionalFlow
        Its trained weights may lie anywhere.
    examples : Batch
        The rows.
    total : int
        Rows of the whole batch.

    Returns
    -------
    tuple of Tensor, shapes () and (n_weights,)
        Loss [nat], and its gradient by all weights in order.
    """
    loss = flow.loss(*examples) / total
    found = torch.autograd.grad(loss, list(flow.parameters()))
    return loss.detach(), nn.utils.parameters_to_vector(found)
