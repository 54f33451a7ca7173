"""The Milky Way's extinction by band: published coefficients, the thin screen's limit, sign and inverse."""

from __future__ import annotations

import numpy as np
import pytest

from batchflow.errors import UserError
from batchflow.physics.bands import Band, load_band
from batchflow.physics.dust import open_curve
from batchflow.physics.embedded import EmbeddedEngine
from batchflow.physics.foreground import deredden, foreground_coefficients

SCHLAFLY_FINKBEINER = {
    # Schlafly & Finkbeiner 2011 (ApJ 737, 103), table 6, R(V) = 3.1: A / E(B-V) with the E(B-V) of Schlegel,
    # Finkbeiner & Davis 1998; read from a public copy (jonathansick/starfisher on GitHub).
    "wfc3_f218w": 7.760,
    "wfc3_f225w": 6.989,
    "wfc3_f275w": 5.487,
    "wfc3_f336w": 4.453,
    "wfc3_f390w": 3.896,
    "wfc3_f438w": 3.623,
    "wfc3_f475w": 3.248,
    "wfc3_f555w": 2.855,
    "wfc3_f606w": 2.488,
    "wfc3_f625w": 2.259,
    "wfc3_f775w": 1.643,
    "wfc3_f814w": 1.536,
    "wfc3_f850lp": 1.208,
    "wfc3_f105w": 0.969,
    "wfc3_f110w": 0.881,
    "wfc3_f125w": 0.726,
    "wfc3_f140w": 0.613,
    "wfc3_f160w": 0.512,
    "acs_f435w": 3.610,
    "acs_f475w": 3.268,
    "acs_f555w": 2.792,
    "acs_f606w": 2.471,
    "acs_f625w": 2.219,
    "acs_f775w": 1.629,
    "acs_f814w": 1.526,
    "acs_f850lp": 1.243,
}
PER_SFD = 3.626 - 2.742
"""E(B-V) that this table itself gives for 1 mag of theirs: Landolt B less Landolt V."""


def test_coefficients_are_the_published_ones() -> None:
    found = foreground_coefficients(list(SCHLAFLY_FINKBEINER))
    ratio = np.array([found[band] * PER_SFD / value for band, value in SCHLAFLY_FINKBEINER.items()])
    # They average over a star of 7000 K, we over a young cluster; measured: 0.96 (F110W) to 1.03 (F225W).
    assert abs(np.median(ratio) - 1) < 0.01
    assert np.abs(ratio - 1).max() < 0.045


def test_coefficients_are_the_limit_of_a_thin_screen() -> None:
    bands = ["wfc3_f225w", "wfc3_f275w", "wfc3_f555w", "acs_f814w", "wfc3_f110w"]
    engine, thin = EmbeddedEngine(bands, extinction="F99"), 1e-3
    age = int(np.abs(engine.table().nodes[0] - 7.5).argmin())
    clear, dimmed = engine.exact(np.array([0.0, thin]))[age]
    found = foreground_coefficients(bands)
    assert list(found) == bands
    np.testing.assert_allclose(list(found.values()), -2.5 * np.log10(dimmed / clear) / thin, rtol=1e-4)


def test_a_narrow_band_has_the_curves_value() -> None:
    band = Band("line", np.array([5540.0, 5548.0]), np.array([1.0, 1.0]))
    expected = open_curve("F99").magnitudes(np.array([5544.0]), 1.0)[0]
    assert foreground_coefficients([band])["line"] == pytest.approx(expected, rel=1e-3)


def test_dereddened_fluxes_are_brighter_and_bluer_and_reddening_them_again_is_the_inverse() -> None:
    bands = ["wfc3_f275w", "wfc3_f814w"]
    blue, red = foreground_coefficients(bands).values()
    observed, ebv = np.array([0.01, np.nan, 3.0]), np.array([0.05, 0.02, 0.0])
    clear = deredden(observed, blue, ebv)
    assert clear[0] > deredden(observed, red, ebv)[0] > observed[0]
    assert np.isnan(clear[1])
    assert clear[2] == observed[2]
    np.testing.assert_allclose(-2.5 * np.log10(clear[0] / observed[0]), -blue * 0.05)
    np.testing.assert_allclose(deredden(clear, blue, -ebv), observed)


def test_it_undoes_a_screen_in_front_of_a_cluster() -> None:
    bands = ["wfc3_f336w", "wfc3_f555w", "acs_f814w"]
    engine = EmbeddedEngine(bands, extinction="F99")
    clear, seen = engine.fluxes({"log_age": 7.5, "ebv": np.array([0.0, 0.04])})
    found = [deredden(seen[[i]], a, 0.04)[0] for i, a in enumerate(foreground_coefficients(bands).values())]
    np.testing.assert_allclose(found, clear, rtol=3e-4)


def test_bands_beyond_the_law_take_one_that_reaches_further() -> None:
    near, far = foreground_coefficients(["nircam_f300m", "nircam_f480m"]).values()
    assert near > far > 0
    # Gordon et al. 2023 at 4.8 micron, R(V) 3.1.
    pivot = np.array([load_band("nircam_f480m").pivot])
    assert far == pytest.approx(open_curve("G23").magnitudes(pivot, 1.0)[0], rel=0.02)


def test_unknown_bands_and_bands_beyond_the_library_are_refused() -> None:
    with pytest.raises(UserError, match="unknown band 'wfc3_f555'; did you mean 'wfc3_f555w'"):
        foreground_coefficients(["wfc3_f555"])
    far = Band("far", np.array([50_000.0, 70_000.0]), np.ones(2))
    with pytest.raises(UserError, match=r"band far covers 50000 to 70000 AA.*leave foreground_ebv out"):
        foreground_coefficients([far])
