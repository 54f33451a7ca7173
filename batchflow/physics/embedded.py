"""The embedded engine: stellar and nebular library x dust screen x bands, into a table of fluxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError
from batchflow.physics.bands import Band, load_band
from batchflow.physics.dust import open_curve
from batchflow.physics.nodes import rv_nodes
from batchflow.physics.photometry import flux_per_luminosity
from batchflow.physics.synthesis import Synthesis
from batchflow.physics.table import Flagging, FluxTable

Floats = NDArray[np.float64]
Ranges = Mapping[str, tuple[float, float]]

EBV_NODES = np.linspace(0.0, 2.0, 101)
"""Nodes of E(B-V) [mag]; so dense that linear interpolation errs by less than 1e-4 mag."""
FEWER_EBV_NODES = np.linspace(0.0, 2.0, 41)
"""The same where other parameters vary too; it errs by less than 1e-3 mag."""
OPTIONS = ("metallicity", "rv", "covering")
"""Parameters that may vary beside age and E(B-V), in the order of the table's axes."""


class Gas(NamedTuple):
    """The ionised gas around young clusters, of the metallicity of the stars."""

    covering: float = 0.0
    """Share of the ionising light that it takes up."""
    log_u: float = -2.5
    """log10 ionisation parameter."""


NO_GAS = Gas()


class EmbeddedEngine(Flagging):
    """Fluxes of a simple stellar population behind a dust screen, from the shipped library.

    Parameters
    ----------
    bands : sequence of str or Band
        Names of shipped bands, or curves of one's own.
    metallicity : float
        Metal mass fraction of stars and gas. Between those of the library, log flux is linear in log Z.
    extinction : str
        Name of a dust law (`batchflow.physics.dust.known_laws`); it dims stars and gas alike.
    rv : float
        A(V) / E(B-V).
    gas : Gas
        Nebular emission: stellar light plus the covering fraction times that of gas all around.
    vary : mapping of str to (float, float), optional
        Ranges of ``metallicity``, ``rv``, ``covering`` that are parameters of `fluxes`, not settings.

    Raises
    ------
    UserError
        When a setting is unknown or out of range, or a band reaches beyond library or law.
    """

    def __init__(
        self,
        bands: Sequence[str | Band],
        metallicity: float = 0.02,
        extinction: str = "CCM89",
        rv: float = 3.1,
        gas: Gas = NO_GAS,
        vary: Ranges | None = None,
    ) -> None:
        self._settings = {"metallicity": metallicity, "rv": rv, "covering": gas.covering}
        self._vary = {name: (vary or {})[name] for name in OPTIONS if name in (vary or {})}
        shapes = tuple(load_band(band) if isinstance(band, str) else band for band in bands)
        gaseous = gas.covering > 0 or "covering" in self._vary
        self._synthesis = Synthesis(shapes, extinction, gas.log_u if gaseous else None)
        self._log_u = gas.log_u
        self._nodes: dict[str, Floats] = {}
        for name in OPTIONS:
            self._nodes[name] = self._nodes_of(name)
        self._check()

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the fluxes' columns."""
        return tuple(band.name for band in self._synthesis.bands)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that `fluxes` needs."""
        return ("log_age", "ebv", *self._vary)

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter."""
        return self.table().limits

    def fluxes(self, parameters: Mapping[str, ArrayLike]) -> Floats:
        """Flux densities at given parameters, read off the table.

        Parameters
        ----------
        parameters : mapping of str to float or array, shape (n,)
            ``log_age`` [log10 yr], ``ebv`` [mag], and what varies beside them.

        Returns
        -------
        ndarray, shape (n, n_bands)
            Flux densities [mJy] at 10 pc for 1 Msun formed; NaN where a parameter is NaN.

        Raises
        ------
        UserError
            When a parameter is unknown, missing or out of range.
        """
        if "log_mass" in parameters:
            raise UserError(
                "fluxes are per solar mass formed: leave log_mass out and multiply by 10**log_mass"
            )
        return self.table().fluxes(parameters)

    def realise(
        self, parameters: dict[str, NDArray[np.float32]], boxes: Mapping[str, tuple[float, float]]
    ) -> dict[str, NDArray[np.float32]]:
        """The parameters as they are: this engine computes any within its limits."""
        return parameters

    def table(self) -> FluxTable:
        """Fluxes at every age of the library and node of the other parameters."""
        return self._table

    def exact(self, ebv: Floats, **options: float) -> Floats:
        """Flux densities at the library's ages, without interpolation but in log Z.

        Parameters
        ----------
        ebv : ndarray, shape (n_ebv,)
            E(B-V) [mag].
        **options : float
            ``metallicity``, ``rv``, ``covering``, where they are not the engine's settings.

        Returns
        -------
        ndarray, shape (n_ages, n_ebv, n_bands)
            Flux densities [mJy] at 10 pc for 1 Msun formed, at the table's ages.
        """
        values = self._settings | options
        nodes = [np.array([values[name]]) for name in OPTIONS]
        return np.asarray(np.exp(self._log_flux(ebv, *nodes)[:, :, 0, 0, 0]))

    def spectrum(self, parameters: Mapping[str, float]) -> tuple[Floats, Floats]:
        """The spectrum at one point, for pictures.

        Parameters
        ----------
        parameters : mapping of str to float
            As `fluxes` takes them.

        Returns
        -------
        wavelength : ndarray, shape (n_bins,)
            Centres of the stellar library's bins [AA].
        flux : ndarray, shape (n_bins,)
            Flux density [mJy] at 10 pc for 1 Msun formed; NaN where the dust law says nothing.
        """
        values = self._settings | dict(parameters)
        library, ages = self._synthesis.library, np.log10(self._synthesis.ages)
        place = float(np.interp(values["log_age"], ages, np.arange(ages.size)))
        cell = min(int(place), ages.size - 2)
        (shares,) = self._shares(np.array([values["metallicity"]]))
        ends = (0.0,) if self._synthesis.nebular is None else (0.0, 1.0)
        log_light = sum(
            shares[i] * np.log([self._synthesis.light(int(i), end)[cell : cell + 2] for end in ends])
            for i in np.flatnonzero(shares)
        )
        logs = np.array([1 - (place - cell), place - cell]) @ np.asarray(log_light)
        light = np.exp(_mixed(logs, np.array([values["covering"]])) if len(ends) > 1 else logs)[0]
        curve = open_curve(self._synthesis.law, values["rv"])
        screen = 10 ** (-0.4 * curve.magnitudes(library.wavelength, values["ebv"]))
        return library.wavelength, light * screen * flux_per_luminosity(library.wavelength)

    def describe(self) -> dict[str, Any]:
        """What the fluxes were made from; JSON-able."""
        fixed = {name: value for name, value in self._settings.items() if name not in self._vary}
        found = {
            "engine": "embedded",
            "bands": list(self.bands),
            "pivots_AA": [round(band.pivot, 2) for band in self._synthesis.bands],
            "extinction": self._synthesis.law,
            "ssp": dict(self._synthesis.library.provenance),
            "dust_extinction": version("dust_extinction"),
        } | fixed
        if self._vary:
            found["vary"] = {name: list(limits) for name, limits in self._vary.items()}
        if self._synthesis.nebular is not None:
            found |= {"log_u": self._log_u, "nebular": dict(self._synthesis.nebular.provenance)}
        return found

    @cached_property
    def _table(self) -> FluxTable:
        ebv = FEWER_EBV_NODES if self._vary else EBV_NODES
        logs = self._log_flux(ebv, *self._nodes.values()) / np.log(10.0)
        fixed = tuple(2 + place for place, name in enumerate(OPTIONS) if name not in self._vary)
        # Single precision errs by 1e-6 here, and a table of five axes takes half the memory.
        log_flux = logs.squeeze(fixed).astype(np.float32 if self._vary else np.float64)
        axes = (np.log10(self._synthesis.ages), ebv, *(self._nodes[name] for name in self._vary))
        return FluxTable(self.parameters, axes, self.bands, log_flux, self._log_surviving())

    def _log_flux(self, ebv: Floats, metallicity: Floats, rv: Floats, covering: Floats) -> Floats:
        """Natural log flux on (age, E(B-V), metallicity, R(V), covering, band)."""
        shares = self._shares(metallicity)
        used = np.flatnonzero(shares.any(axis=0))
        ends = np.zeros(1) if self._synthesis.nebular is None else np.array([0.0, 1.0])
        found = [
            np.tensordot(shares[:, used], self._synthesis.log_flux(used, ebv, value, ends), axes=1)
            for value in rv
        ]
        logs = np.moveaxis(np.stack(found, axis=3), 0, 2)
        return _mixed(logs, covering) if ends.size > 1 else logs

    def _log_surviving(self) -> Floats:
        """log10 of the surviving mass fraction, (n_ages,) or (n_ages, n_metallicities)."""
        shares = self._shares(self._nodes["metallicity"])
        logs = np.log10(self._synthesis.library.surviving[:, 1:]).T @ shares.T
        return np.asarray(logs if "metallicity" in self._vary else logs[:, 0])

    def _shares(self, metallicity: Floats) -> Floats:
        """Weights of the library's metallicities, shape (n, n_metallicities), in the logarithm of flux."""
        known = self._synthesis.library.metallicities
        return np.stack(
            [np.interp(np.log(metallicity), np.log(known), row) for row in np.eye(known.size)], axis=1
        )

    def _nodes_of(self, name: str) -> Floats:
        """Nodes of an option: its range's edges and what lies between, or its one value."""
        if name not in self._vary:
            return np.array([self._settings[name]])
        limits = self._vary[name]
        if name == "rv":
            return rv_nodes(self._synthesis, self._places, limits)
        if name == "covering":
            return np.array(limits)
        known = self._synthesis.library.metallicities
        return np.concatenate([limits[:1], known[(known > limits[0]) & (known < limits[1])], limits[1:]])

    @property
    def _places(self) -> NDArray[np.intp]:
        """Metallicities of the library that are used, by their place in it."""
        return np.flatnonzero(self._shares(self._nodes["metallicity"]).any(axis=0))

    def _check(self) -> None:
        known = self._synthesis.library.metallicities
        limits = {"metallicity": (known[0], known[-1]), "covering": (0.0, 1.0)}
        sources = {"metallicity": "the stellar library", "covering": "a share"}
        for name, (low, high) in limits.items():
            for value in self._nodes[name][[0, -1]]:
                if not low <= value <= high:
                    raise UserError(f"{name} = {value:g}; {sources[name]} has {low:g} to {high:g}")
        curves = [open_curve(self._synthesis.law, float(value)) for value in self._nodes["rv"]]
        self._synthesis.check_reach(curves[0])


def _mixed(logs: Floats, covering: Floats) -> Floats:
    """Log flux at covering fractions, (..., n_covering, n), of those at none and all, (..., 2, n)."""
    bare, full = logs[..., :1, :], logs[..., 1:, :]
    return np.asarray(bare + np.log1p(covering[:, None] * np.expm1(full - bare)))
