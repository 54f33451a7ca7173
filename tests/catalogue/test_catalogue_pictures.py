"""Pictures of a catalogue: what is on them, and that it is where it should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchflow.catalogue.command import Request, describe_file, understand
from batchflow.catalogue.pictures import ARROW, REDDENINGS, catalogue_figure, colour_pairs

QUICKSTART = Path(__file__).resolve().parents[2] / "jobs" / "quickstart_clusters.ecsv"
PIVOTS = {
    "wfc3_f275w": 2710.0,
    "wfc3_f336w": 3355.0,
    "acs_f435w": 4330.0,
    "wfc3_f438w": 4325.0,
    "acs_f475w": 4747.0,
    "acs_f555w": 5360.0,
    "acs_f814w": 8060.0,
    "wfc3_f110w": 11534.0,
    "wfc3_f160w": 15370.0,
}


@pytest.fixture(scope="module")
def drawn():
    understood = understand(Request((QUICKSTART,)))
    found = describe_file(understood)
    return found, catalogue_figure(found, understood.model)


def axes_of(figure):
    return [axes for area in figure.subfigs for axes in area.axes if axes.axison]


def test_a_panel_a_band_and_two_of_colours(drawn):
    found, figure = drawn
    labels = [axes.get_xlabel() for axes in axes_of(figure)]
    assert labels[:5] == [f"{band} [mag, Vega]" for band in found.noise.bands]
    assert labels[5:] == ["wfc3_f555w - wfc3_f814w [mag, Vega]", "wfc3_f438w - wfc3_f555w [mag, Vega]"]
    vertical = [axes.get_ylabel() for axes in axes_of(figure)[5:]]
    assert vertical == ["wfc3_f336w - wfc3_f438w [mag, Vega]", "wfc3_f275w - wfc3_f336w [mag, Vega]"]


def test_the_noise_model_lies_on_its_points(drawn):
    found, figure = drawn
    panel = axes_of(figure)[3]
    points, line = panel.get_lines()[:2]
    expected = np.interp(points.get_xdata(), line.get_xdata(), line.get_ydata())
    ratio = points.get_ydata() / expected
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)
    scatter = 10 ** (2 * found.noise.scatter[0, 3])
    assert (ratio < scatter).mean() > 0.95


def test_blue_is_up_and_the_points_are_on_the_panel(drawn):
    for axes in axes_of(drawn[1])[5:]:
        low, high = axes.get_ylim()
        assert low > high
        points = axes.get_lines()[0]
        x, y = points.get_xdata(), points.get_ydata()
        left, right = axes.get_xlim()
        assert ((x > left) & (x < right) & (y > high) & (y < low)).mean() > 0.97


def test_tracks_of_three_reddenings_go_red_with_the_arrow(drawn):
    axes = axes_of(drawn[1])[5]
    lines = [line for line in axes.get_lines() if line.get_label().startswith("E(B-V)")]
    assert [line.get_label() for line in lines] == [f"E(B-V) = {value:g}" for value in REDDENINGS]
    middles = [float(np.mean(line.get_xdata())) for line in lines]
    assert middles[0] < middles[1] < middles[2]
    arrow = next(text for text in axes.texts if getattr(text, "arrow_patch", None) is not None)
    per_mag = (middles[1] - middles[0]) / (REDDENINGS[1] - REDDENINGS[0])
    assert arrow.xy[0] - arrow.xyann[0] == pytest.approx(ARROW * per_mag, rel=0.1)
    assert arrow.xy[1] > arrow.xyann[1]


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (
            ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w"),
            [
                (("wfc3_f336w", "acs_f435w"), ("acs_f555w", "acs_f814w")),
                (("wfc3_f275w", "wfc3_f336w"), ("acs_f435w", "acs_f555w")),
            ],
        ),
        (
            ("wfc3_f275w", "wfc3_f336w", "acs_f475w", "acs_f814w", "wfc3_f110w", "wfc3_f160w"),
            [
                (("wfc3_f336w", "acs_f475w"), ("acs_f475w", "acs_f814w")),
                (("wfc3_f275w", "wfc3_f336w"), ("wfc3_f336w", "acs_f475w")),
            ],
        ),
        (
            ("acs_f814w", "wfc3_f110w", "wfc3_f160w"),
            [(("acs_f814w", "wfc3_f110w"), ("wfc3_f110w", "wfc3_f160w"))],
        ),
        (("wfc3_f336w", "acs_f814w"), []),
    ],
)
def test_colours_that_the_bands_allow(bands, expected):
    assert colour_pairs({band: PIVOTS[band] for band in bands}, dict.fromkeys(bands, 10)) == expected


def test_of_two_blue_bands_the_better_measured_one_is_drawn():
    bands = ("wfc3_f336w", "acs_f435w", "wfc3_f438w", "acs_f555w", "acs_f814w")
    measured = dict.fromkeys(bands, 10) | {"wfc3_f438w": 50}
    ((vertical, _),) = colour_pairs({band: PIVOTS[band] for band in bands}, measured)
    assert vertical == ("wfc3_f336w", "wfc3_f438w")


def test_two_bands_have_errors_and_no_colours():
    understood = understand(Request((QUICKSTART,), bands=("wfc3_f336w", "wfc3_f814w")))
    figure = catalogue_figure(describe_file(understood), understood.model)
    assert len(axes_of(figure)) == 2


def test_every_band_shows_the_surveys_that_have_most_of_it():
    understood = understand(Request((QUICKSTART,), overrides=["noise_by=galaxy"]))
    figure = catalogue_figure(describe_file(understood), understood.model)
    for axes in axes_of(figure)[:5]:
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        assert sorted(name.rpartition("Demo-")[2] for name in names) == ["A", "B", "C"]
        assert names[0].endswith("Demo-B")
        assert any(len(line.get_xdata()) > 50 and line.get_marker() == "." for line in axes.get_lines())
