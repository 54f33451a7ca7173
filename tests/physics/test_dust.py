"""Extinction laws: additive screens, published values, ranges."""

from __future__ import annotations

import numpy as np
import pytest

from batchflow.errors import UserError
from batchflow.physics.dust import LAWS, known_laws, open_curve

WAVELENGTH = np.array([2200.0, 2710.0, 3355.0, 4325.0, 5308.0, 8030.0, 15369.0])


def own_rv(name: str) -> float:
    return LAWS[name].rv or 3.1


@pytest.mark.parametrize("name", known_laws())
def test_two_screens_are_one(name: str) -> None:
    curve = open_curve(name, own_rv(name))
    first, second, both = (10 ** (-0.4 * curve.magnitudes(WAVELENGTH, ebv)) for ebv in (0.3, 0.9, 1.2))
    np.testing.assert_allclose(first * second, both, rtol=1e-12)


@pytest.mark.parametrize("name", known_laws())
def test_law_is_one_at_v_and_reddens_by_ebv(name: str) -> None:
    curve = open_curve(name, own_rv(name))
    blue, visual = curve.magnitudes(np.array([4405.0, 5470.0]), 1.0)
    assert visual / curve.rv == pytest.approx(1.0, abs=0.03)
    assert blue - visual == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("name", known_laws())
def test_extinction_falls_from_ultraviolet_to_infrared(name: str) -> None:
    assert (np.diff(open_curve(name, own_rv(name)).relative(WAVELENGTH)) < 0).all()


def test_ccm89_has_the_published_infrared_and_ultraviolet() -> None:
    # Cardelli, Clayton & Mathis 1989, eqs. 2 (x = 1) and 4 (x = 5), Rv = 3.1.
    infrared = 0.574 - 0.527 / 3.1
    a = 1.752 - 0.316 * 5 - 0.104 / ((5 - 4.67) ** 2 + 0.341)
    b = -3.090 + 1.825 * 5 + 1.206 / ((5 - 4.62) ** 2 + 0.263)
    found = open_curve("CCM89").relative(np.array([10000.0, 2000.0]))
    np.testing.assert_allclose(found, [infrared, a + b / 3.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "a", "b"), [("CCM89", -0.505, 3.347), ("CCM89_original", 0.32999, -2.09002)]
)
def test_optical_coefficients_are_the_named_papers(name: str, a: float, b: float) -> None:
    # The coefficients of y^8 (O'Donnell 1994, eq. 3) or y^7 (Cardelli et al. 1989, eq. 3), y = x - 1.82,
    # from differences of that order: the lower orders drop out of an 8th (7th) difference.
    order = 8 if name == "CCM89" else 7
    x = 1.3 + np.arange(order + 1) * 0.2
    leading = []
    for rv in (2.5, 5.0):
        relative = open_curve(name, rv).relative(1e4 / x)
        leading.append(np.diff(relative, n=order)[0] / (0.2**order * float(np.prod(np.arange(1, order + 1)))))
    slope = (leading[0] - leading[1]) / (1 / 2.5 - 1 / 5.0)
    assert slope == pytest.approx(b, rel=1e-5)
    assert leading[0] - slope / 2.5 == pytest.approx(a, rel=1e-5)


def test_outside_the_law_nothing_is_said() -> None:
    curve = open_curve("CCM89")
    assert curve.limits == pytest.approx((1000.0, 1e5 / 3))
    outside = curve.relative(np.array([999.0, 33400.0]))
    assert np.isnan(outside).all()
    assert np.isfinite(curve.relative(np.array([1001.0, 33300.0]))).all()


def test_unknown_law_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown extinction law 'CMM89'; did you mean 'CCM89'"):
        open_curve("CMM89")


@pytest.mark.parametrize("rv", [1.0, 7.0])
def test_rv_outside_the_law_is_refused(rv: float) -> None:
    with pytest.raises(UserError, match=f"rv = {rv:g}.*CCM89.*from 2 to 6"):
        open_curve("CCM89", rv)


def test_an_average_curve_insists_on_its_own_rv() -> None:
    with pytest.raises(UserError, match=r"rv = 3.1.*G03_SMCBar.*set rv = 2.74"):
        open_curve("G03_SMCBar")
    assert open_curve("G03_SMCBar", 2.74).rv == 2.74


def test_starburst_attenuation_has_the_published_values() -> None:
    # Calzetti et al. 2000, eq. 4 and section 5: k(V) = 4.05 and k(B) - k(V) near 1; at 1600 AA 9.97
    # (their 4.39 / 0.44); the two branches meet at 0.63 micron.
    curve = open_curve("C00", 4.05)
    assert 4.05 * curve.relative(np.array([5500.0]))[0] == pytest.approx(4.05, abs=0.05)
    assert 4.05 * curve.relative(np.array([1600.0]))[0] == pytest.approx(9.97, abs=0.05)
    below, above = curve.relative(np.array([6299.9, 6300.1]))
    assert below == pytest.approx(above, abs=0.01)
    assert np.isnan(curve.relative(np.array([1100.0, 23000.0]))).all()


def test_starburst_attenuation_insists_on_its_own_rv() -> None:
    with pytest.raises(UserError, match=r"rv = 3\.1.*C00.*set rv = 4\.05"):
        open_curve("C00")
