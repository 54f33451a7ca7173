"""Draws from the cells."""
from __future__ import annotations
import math
from collections.abc import Mapping
import torch
from torch import Tensor
from batchflow.infer.cells import Cells
from batchflow.infer.likelihood import Photometry, TorchFluxTable
from batchflow.infer.mass_fit import Range, draw_mass, fit_mass
from batchflow.settings import Range as Box


def draw_cells(cells: Cells, table: TorchFluxTable, boxes: Mapping[str, Box], photometry: Photometry, limits: Range, base: Tensor):
    n, nd = base.shape[:2]
    count = torch.bincount(cells.cluster, minlength=n)
    start = count.cumsum(0) - count
    place = torch.arange(len(cells.cluster)) - start[cells.cluster]
    padded = cells.log_share.new_full((n, int(count.max())), -torch.inf, dtype=torch.float64)
    padded[cells.cluster, place] = cells.log_share.double()
    log_p = padded.log_softmax(1)
    reached = log_p.exp().cumsum(1)
    pick = torch.searchsorted(reached, (base[..., 0].double() * reached[:, -1:]).contiguous(), right=True)
    pick = torch.minimum(pick, count[:, None] - 1)
    which = (start[:, None] + pick).reshape(-1)
    size = cells.size[which]
    at = cells.low[which] + size * base[..., 1:-1].reshape(-1, size.shape[1])
    log_q = log_p.gather(1, pick).reshape(-1).float() - size.log().sum(1)
    log_flux = table({name: at[:, i] for i, name in enumerate(boxes)})
    owner = torch.arange(n).repeat_interleave(nd)
    lim = Range(*(e[owner] for e in limits))
    fit = fit_mass(photometry.rows(owner), log_flux, lim)
    mass, lq = draw_mass(fit, lim, base[..., -1].reshape(-1))
    return torch.cat([at, mass[:, None]], 1).reshape(n, nd, -1), (log_q + lq).reshape(n, nd)
