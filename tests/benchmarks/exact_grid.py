"""The exact posterior of the reference problem, by quadrature over all three parameters; NumPy alone.

Age and reddening: the cells of the engine's own flux table where the likelihood is not negligible, each
with Gauss-Legendre points of its own (within a cell the log flux is a smooth, bilinear function). Mass:
Gauss-Legendre points in panels about the least-squares mass, cut at the prior's edges. Nothing of the
package's likelihood or noise code is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchflow.physics.table import FluxTable

Floats = NDArray[np.float64]
POINTS = 2
"""Quadrature points of a cell along age and along E(B-V)."""
NEGLIGIBLE = 14.0
"""Cells whose corners all lie this far [nat] below the best corner are left out."""
PANELS = ((-40.0, -4.0, 8), (-4.0, 0.0, 8), (0.0, 5.0, 10))
"""Panels in mass: from, to (in the least-squares error), and number of points; the first begins at the
prior's edge, for the likelihood of a weak signal never vanishes. Twice as many points in all axes change
the log evidence by less than 0.002."""


class ExactGrid:
    """Evidence and joint density under a flat prior, for noise sqrt(s^2 + (k f)^2)."""

    def __init__(
        self, table: FluxTable, boxes: dict[str, tuple[float, float]], fraction: float, distance_mpc: float
    ) -> None:
        assert table.parameters == ("log_age", "ebv")
        self.table, self.boxes, self.fraction = table, boxes, fraction
        self.log_shift = 2 * np.log10(distance_mpc * 1e5)
        self.nodes = [self._within(*pair) for pair in zip(table.parameters, table.nodes, strict=True)]
        self.volume = float(np.prod([high - low for low, high in boxes.values()]))
        ages, ebvs = np.meshgrid(*self.nodes, indexing="ij")
        corners = table.fluxes({"log_age": ages.ravel(), "ebv": ebvs.ravel()})
        self.corners = corners.reshape(*ages.shape, -1)
        self._make_points()

    def _within(self, name: str, nodes: Floats) -> Floats:
        low, high = self.boxes[name]
        return np.unique(np.concatenate([[low], nodes[(nodes > low) & (nodes < high)], [high]]))

    def _make_points(self) -> None:
        """Fluxes (n_cells, points, n_bands) and log of the quadrature weight (n_cells, points)."""
        place, weight = np.polynomial.legendre.leggauss(POINTS)
        axes, widths = [], []
        for nodes in self.nodes:
            size = np.diff(nodes)
            axes.append(nodes[:-1, None] + size[:, None] * (place + 1) / 2)
            widths.append(size[:, None] * weight / 2)
        shape = (len(axes[0]), len(axes[1]), POINTS, POINTS)
        ages = np.broadcast_to(axes[0][:, None, :, None], shape)
        ebvs = np.broadcast_to(axes[1][None, :, None, :], shape)
        measure = widths[0][:, None, :, None] * widths[1][None, :, None, :]
        fluxes = self.table.fluxes({"log_age": ages.ravel(), "ebv": ebvs.ravel()})
        self.points = fluxes.reshape(*shape[:2], POINTS**2, -1)
        self.weight = measure.reshape(*shape[:2], POINTS**2)

    def log_evidence(self, flux: Floats, depth: Floats) -> Floats:
        """Ln of the evidence [ln mJy^-n_bands]; flux (n, n_bands), depth (n, 1)."""
        return np.array([self._one(*pair) for pair in zip(flux, depth[:, 0], strict=True)])

    def log_joint(self, theta: Floats, flux: Floats, depth: Floats | float) -> Floats:
        """Ln of likelihood and prior at log_age, log_mass, ebv: theta (n, 3)."""
        per_mass = self.table.fluxes({"log_age": theta[:, 0], "ebv": theta[:, 2]})
        model = per_mass * 10 ** (theta[:, 1] - self.log_shift)[:, None]
        found: Floats = self._log_likelihood(flux, depth, model) - np.log(self.volume)
        return found

    def _log_likelihood(self, flux: Floats, depth: Floats | float, model: Floats) -> Floats:
        variance = depth**2 + (self.fraction * model) ** 2
        found: Floats = -0.5 * ((flux - model) ** 2 / variance + np.log(2 * np.pi * variance)).sum(-1)
        return found

    def _one(self, flux: Floats, depth: float) -> float:
        centre, _ = self._mass(flux, depth, self.corners)
        best = self._log_likelihood(flux, depth, self.corners * np.exp(centre)[..., None])
        kept = best > best.max() - NEGLIGIBLE
        cells = kept[:-1, :-1] | kept[1:, :-1] | kept[:-1, 1:] | kept[1:, 1:]
        points, weight = self.points[cells].reshape(-1, len(flux)), self.weight[cells].ravel()
        log_mass, mass_weight = self._mass_points(flux, depth, points)
        log_like = np.stack(
            [self._log_likelihood(flux, depth, points * np.exp(column)[:, None]) for column in log_mass.T], 1
        )
        top = log_like.max()
        total = (np.exp(log_like - top) * mass_weight * weight[:, None]).sum()
        return float(top + np.log(total) - np.log(self.volume))

    def _mass(self, flux: Floats, depth: float, per_mass: Floats) -> tuple[Floats, Floats]:
        """Natural log of the least-squares mass over the distance squared, and its error."""
        variance = depth**2 + (self.fraction * flux) ** 2
        norm = (per_mass**2 / variance).sum(-1)
        signal = np.maximum((per_mass * flux / variance).sum(-1) / np.sqrt(norm), 0)
        amplitude = 0.5 * (signal + np.sqrt(signal**2 + 4)) / np.sqrt(norm)
        return np.log(amplitude), 1 / (1 + signal)

    def _mass_points(self, flux: Floats, depth: float, per_mass: Floats) -> tuple[Floats, Floats]:
        """Quadrature points in ln mass (n, points), and their weights in log10 mass."""
        centre, width = self._mass(flux, depth, per_mass)
        low, high = (np.log(10) * (edge - self.log_shift) for edge in self.boxes["log_mass"])
        columns, weights = [], []
        for first, last, n in PANELS:
            place, weight = np.polynomial.legendre.leggauss(n)
            start = np.full_like(centre, low) if first == PANELS[0][0] else (centre + first * width)
            start, end = np.clip(start, low, high), np.clip(centre + last * width, low, high)
            size = (end - start)[:, None]
            columns.append(start[:, None] + size * (place + 1) / 2)
            weights.append(size * weight / 2 / np.log(10))
        return np.concatenate(columns, 1), np.concatenate(weights, 1)
