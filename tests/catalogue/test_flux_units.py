"""Magnitudes and units, against their definitions."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest

from batchflow.catalogue.units import converted, flux_error, flux_from_magnitude, flux_unit
from batchflow.errors import UserError


def test_ab_magnitude_is_that_of_astropy():
    magnitudes = np.array([-2.5, 0.0, 16.4, 24.37])
    expected = (magnitudes * u.ABmag).to_value(u.mJy)
    assert flux_from_magnitude(magnitudes) == pytest.approx(expected, rel=1e-6)


def test_vega_magnitude_zero_is_vega():
    """SVO gives Vega 3631 Jy x 10^(-0.4 x 1.4815) = 927.75 Jy in WFC3/UVIS F275W."""
    assert flux_from_magnitude(np.zeros(1), 1.4815)[0] == pytest.approx(927.75e3, rel=1e-3)


def test_error_is_the_derivative_of_the_flux():
    step = 1e-5
    magnitude = np.array([18.0, 25.0])
    slope = (flux_from_magnitude(magnitude - step) - flux_from_magnitude(magnitude + step)) / (2 * step)
    assert flux_error(flux_from_magnitude(magnitude), np.array([0.1, 0.3])) == pytest.approx(
        slope * [0.1, 0.3], rel=1e-8
    )


def test_magnitude_that_no_number_holds_is_infinite():
    assert np.isinf(flux_from_magnitude(np.array([-1e4]))[0])


@pytest.mark.parametrize(
    ("in_file", "stated", "system", "scale"),
    [
        ("", "uJy", "flux", 1e-3),
        ("Jy", "uJy", "flux", 1e3),
        ("nJy", "mJy", "flux", 1e-6),
        ("erg / (s cm2 Hz)", "mJy", "flux", 1e26),
        ("mag(AB)", "mJy", "AB", 1.0),
        ("VEGAMAG", "AB", "Vega", 1.0),
        ("mag", "Vega", "Vega", 1.0),
        ("", "AB", "AB", 1.0),
    ],
)
def test_unit_of_the_file_is_believed_first(in_file, stated, system, scale):
    found = flux_unit(in_file, stated, "file, column 'f'")
    assert found.system == system
    assert found.scale == pytest.approx(scale)


@pytest.mark.parametrize("unit", ["km / s", "ct", "dex(mJy)", "furlongs"])
def test_unit_that_is_no_flux_names_column_and_both_units(unit):
    with pytest.raises(UserError, match="here: column 'f'") as caught:
        flux_unit(unit, "uJy", "here: column 'f'")
    assert unit in str(caught.value)
    assert "uJy" in str(caught.value)


def test_plain_mag_needs_a_system():
    with pytest.raises(UserError, match='unit = "Vega"'):
        flux_unit("mag", "mJy", "here")


def test_published_ages_in_years_become_logarithms():
    assert converted(np.array([1.0, 100.0]), "Myr", "dex(yr)", "x") == pytest.approx([6.0, 8.0])
    assert converted(np.array([7.5]), "dex(yr)", "dex(yr)", "x") == pytest.approx([7.5])
    assert converted(np.array([10.0]), "hourangle", "deg", "x") == pytest.approx([150.0])


def test_position_in_a_unit_that_is_no_angle():
    with pytest.raises(UserError, match=r"'kg'.*deg"):
        converted(np.zeros(1), "kg", "deg", "file: column 'ra'")
