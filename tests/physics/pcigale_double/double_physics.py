"""What both doubles of pcigale share: formulae for spectra, dust, filters; SED; modules. See README.md."""

from __future__ import annotations

import os
import time
from typing import ClassVar

import numpy as np

Rules = dict[str, tuple[str, str, object]]

GRID = np.geomspace(91.0, 2500.0, 400)
"""Wavelengths of the stars [nm]."""
LINES = np.array([372.7, 486.1, 500.7, 656.3])
"""Wavelengths that the nebula adds [nm]."""
SSP_AGES = np.geomspace(0.1, 20_000.0, 220)
"""Ages of the grid of simple stellar populations [Myr]."""
METALLICITIES = (0.0001, 0.0004, 0.004, 0.008, 0.02, 0.05)
OPTIONS = "cigale_list(options=0.0001 & 0.0004 & 0.004 & 0.008 & 0.02 & 0.05)"
FILTERS = {
    "V_B90": 550.0,
    "hst.wfc3.F275W": 271.0,
    "hst.wfc3.F336W": 335.0,
    "hst.wfc3.F438W": 432.0,
    "hst.wfc3.F555W": 531.0,
    "hst.wfc3.F814W": 804.0,
    "hst.wfc.F435W": 433.0,
    "hst.wfc.F814W": 806.0,
    "spitzer.irac.ch1": 3560.0,
}
"""Centres [nm]; the curves are Gaussian, 5 % wide."""
FORKED: list[str] = []
"""What called the command line."""


def spectrum(age_myr: float, metallicity: float, imf: int) -> np.ndarray:
    """Stars of one age, 1 Msun formed; redder and fainter with age and metallicity."""
    temperature = 4000.0 + 26000.0 / (1 + np.log1p(age_myr)) ** 0.8 * (0.02 / metallicity) ** 0.02
    planck = (GRID / 500) ** -5.0 / np.expm1(1.4388e7 / GRID / temperature)
    return (1.3 if imf else 1.0) * planck / (1 + age_myr) ** 0.7


def living(age_myr: float) -> float:
    return 1.0 / (1 + 0.08 * np.log1p(age_myr))


def extinction(wavelength: np.ndarray, rv: float) -> np.ndarray:
    return rv * (550.0 / wavelength) ** 1.3


class SED:
    """A spectrum with notes; `compute_fnu` as pcigale has it: mJy, NaN where the filter is not covered."""

    def __init__(self) -> None:
        self.wavelength_grid = None
        self.luminosity = None
        self.sfh = None
        self.info: dict[str, object] = {}

    def copy(self) -> SED:
        new = SED()
        new.__dict__.update(self.__dict__)
        new.info = dict(self.info)
        return new

    def compute_fnu(self, filter_name: str) -> float:
        centre = FILTERS[filter_name]
        if self.wavelength_grid[-1] < 1.2 * centre:
            return float("nan")
        weight = np.exp(-0.5 * ((self.wavelength_grid / centre - 1) / 0.05) ** 2)
        steps = np.gradient(self.wavelength_grid)
        return float((weight * self.luminosity * steps).sum() / (weight * steps).sum() * 1e6)


class Module:
    """A module: its parameters are those listed by the class, by keyword."""

    rules: ClassVar[Rules] = {}

    def __init__(self, name: str, **given: object) -> None:
        if set(given) != set(self.rules):
            raise KeyError(
                f"The parameters passed are different from the expected one: {set(given) ^ set(self.rules)}"
            )
        self.name, self.given = name, given


class Ssp(Module):
    rules: ClassVar[Rules] = {"index": ("cigale_list(dtype=int, minvalue=0)", "index of the SSP", 0)}

    def process(self, sed: SED) -> None:
        sed.info["ssp.index"] = self.given["index"]
        assert isinstance(self.given["index"], int)


class Bc03Ssp(Module):
    rules: ClassVar[Rules] = {
        "imf": ("cigale_list(dtype=int, options=0. & 1.)", "0 Salpeter, 1 Chabrier", 0),
        "metallicity": (OPTIONS, "metallicity", 0.02),
        "separation_age": ("cigale_list(dtype=int, minvalue=0)", "Myr", 10),
    }

    def process(self, sed: SED) -> None:
        age = float(SSP_AGES[sed.info["ssp.index"]])
        sed.wavelength_grid = GRID
        sed.luminosity = spectrum(age, self.given["metallicity"], self.given["imf"])
        sed.info |= {"stellar.age": age, "stellar.m_star": living(age)}


class Sfh2Exp(Module):
    rules: ClassVar[Rules] = {
        "tau_main": ("cigale_list()", "Myr", 6000.0),
        "tau_burst": ("cigale_list()", "Myr", 50.0),
        "f_burst": ("cigale_list(minvalue=0., maxvalue=0.9999)", "", 0.01),
        "age": ("cigale_list(dtype=int, minvalue=0.)", "Myr", 5000),
        "burst_age": ("cigale_list(dtype=int, minvalue=1.)", "Myr", 20),
        "sfr_0": ("float(min=0)", "", 1.0),
        "normalise": ("boolean()", "", True),
    }

    def process(self, sed: SED) -> None:
        sed.sfh = int(self.given["age"])
        assert self.given["tau_main"] < 0.1, "the double knows bursts only"
        sed.info["sfh.age"] = sed.sfh


class Bc03(Module):
    rules: ClassVar[Rules] = Bc03Ssp.rules
    averaged = True
    """Whether age N stands for N-0.9 .. N Myr."""

    def process(self, sed: SED) -> None:
        if self.averaged and self.given["separation_age"] == 0:
            raise ValueError("operands could not be broadcast together")
        ages = sed.sfh - np.linspace(0.9, 0.0, 10) if self.averaged else [float(sed.sfh)]
        stars = [spectrum(age, self.given["metallicity"], self.given["imf"]) for age in ages]
        sed.wavelength_grid, sed.luminosity = GRID, np.mean(stars, axis=0)
        sed.info["stellar.m_star"] = living(float(sed.sfh))


class M2005(Bc03):
    rules: ClassVar[Rules] = Bc03Ssp.rules | {
        "metallicity": ("cigale_list(options=0.001 & 0.01 & 0.02 & 0.04)", "", 0.02)
    }

    def process(self, sed: SED) -> None:
        super().process(sed)
        sed.info["stellar.mass_alive"] = sed.info.pop("stellar.m_star")


class Nebular(Module):
    rules: ClassVar[Rules] = {
        "logU": ("cigale_list(options=-4.0 & -3.0 & -2.0 & -1.0)", "", -2.0),
        "f_esc": ("cigale_list(minvalue=0., maxvalue=1.)", "", 0.0),
        "emission": ("boolean()", "", True),
    }

    def process(self, sed: SED) -> None:
        grid = np.sort(np.concatenate([sed.wavelength_grid, LINES]))
        sed.luminosity = np.interp(grid, sed.wavelength_grid, sed.luminosity)
        sed.luminosity[np.isin(grid, LINES)] *= 1 + (1 - self.given["f_esc"]) * (5 + self.given["logU"])
        sed.wavelength_grid = grid


class Dustext(Module):
    rules: ClassVar[Rules] = {
        "E_BV": ("cigale_list(minvalue=0.)", "mag", 0.3),
        "Rv": ("cigale_list(minvalue=0.)", "", 3.1),
        "law": ("cigale_list(dtype=int, options=0 & 1 & 2)", "0 CCM, 1 SMC, 2 LMC", 0),
        "filters": ("string()", "separated by &", "V_B90 & FUV"),
    }
    curve = None

    def process(self, sed: SED) -> None:
        for name in self.given["filters"].split("&"):
            FILTERS[name.strip()]
        if self.curve is None:
            self.curve = extinction(sed.wavelength_grid, self.given["Rv"])
        sed.luminosity = sed.luminosity * 10 ** (-0.4 * self.given["E_BV"] * self.curve)
        sed.info["attenuation.E_BV"] = self.given["E_BV"]


class CalzLeit(Dustext):
    rules: ClassVar[Rules] = {
        "E_BVs_young": ("cigale_list(minvalue=0.)", "mag", 0.3),
        "E_BVs_old_factor": ("cigale_list(minvalue=0., maxvalue=1.)", "", 0.44),
        "uv_bump_amplitude": ("cigale_list(minvalue=0.)", "", 0.0),
        "powerlaw_slope": ("cigale_list()", "", 0.0),
        "filters": ("string()", "separated by &", "V_B90"),
    }

    def process(self, sed: SED) -> None:
        assert self.given["E_BVs_old_factor"] == 1.0, "the double knows one screen only"
        if self.curve is None:
            self.curve = extinction(sed.wavelength_grid, 4.05)
        sed.luminosity = sed.luminosity * 10 ** (-0.4 * self.given["E_BVs_young"] * self.curve)


def work() -> None:
    """Take the time that an SED takes."""
    until = time.thread_time() + float(os.environ.get("PCIGALE_DOUBLE_SECONDS", "0"))
    while time.thread_time() < until:
        pass


def listing() -> str:
    """Name of the class attribute that lists a module's parameters."""
    return "parameters" if os.environ.get("PCIGALE_DOUBLE_PARAMETERS") else "parameter_list"


def offered(cls: type[Module]) -> type[Module]:
    """A module's class as pcigale offers it."""
    return type(cls.__name__, (cls,), {listing(): cls.rules})
