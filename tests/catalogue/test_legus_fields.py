"""Which camera took which band of a LEGUS field: told by the catalogues' own footprints."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from batchflow.catalogue.legus import find_shift, read_numbers
from batchflow.catalogue.legus_fields import FIELDS
from batchflow.catalogue.read import read_with_summary
from batchflow.config import load_job
from batchflow.settings.catalogue import CatalogueSettings

OUTSIDE = 66.666
UVIS_AREA = 8.0
"""A frame of 162 arc seconds, with room for dithers [square arc minutes]."""
# The same footprint in every band: nothing to tell cameras by.
ALIKE = ("ngc3274", "ngc4248", "ugc695", "eso486-g021", "ic559", "ngc1433", "ngc1566", "ngc1705", "ngc3344")


@pytest.fixture(scope="module")
def job(shared):
    return load_job("jobs/legus.toml")


def bands_of(job):
    """Bands that the job takes each field to have, by field."""
    found = {}
    for entry in job.catalogue:
        for path in entry.paths:
            field = path.name.split("_")[4]
            optical = entry.bands[2:] if entry.bands else FIELDS[field].optical
            found[field] = (path, *optical)
    return found


def footprint(path):
    values = read_numbers(path)
    shift = find_shift(values, path)
    outside = values[:, 5 + shift : 15 + shift : 2] == OUTSIDE
    ra, dec = values[:, 3 + shift], values[:, 4 + shift]
    east = (ra - np.median(ra)) * np.cos(np.radians(np.median(dec)))
    points = 60 * np.stack([east, dec - np.median(dec)], axis=1)
    return outside, [ConvexHull(points[~band]).volume for band in outside.T]


def test_the_job_has_all_fields(job):
    assert set(bands_of(job)) == set(FIELDS)


def test_cameras_are_those_of_the_footprints(job):
    told = 0
    for field, (path, *optical) in bands_of(job).items():
        outside, area = footprint(path)
        if not outside.any():
            assert field in (*ALIKE, "ngc4395-n")
            assert max(area) < UVIS_AREA
            continue
        for column, band in enumerate(optical, start=2):
            if area[column] > UVIS_AREA:
                assert band.startswith("acs"), (field, band, area[column])
                told += 1
            elif outside[:, 1].any() and np.array_equal(outside[:, column], outside[:, 1]):
                assert band.startswith("wfc3"), (field, band)
                told += 1
    assert told >= 55


def test_all_fields_are_read_as_one_catalogue(job):
    counts, surveys = {}, {}
    for entry in job.catalogue:
        _, summary = read_with_summary(entry, job.model.bands)
        counts |= summary.galaxies
        surveys |= summary.surveys
    assert set(surveys) == set(FIELDS)
    assert sum(counts.values()) == sum(surveys.values()) == 6217
    assert surveys["ngc628-c"] + surveys["ngc628-e"] == counts["ngc628"] == 1017 + 259


def test_a_pattern_makes_each_field_a_survey(shared):
    pattern = shared / "data/legus/tab/*ngc628*.tab"
    entry = CatalogueSettings(path=pattern, format="legus", name="whatever", classes=(1,))
    bands = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "wfc3_f555w", "acs_f814w")
    table, summary = read_with_summary(entry, bands)
    assert set(summary.surveys) == {"ngc628-c", "ngc628-e"}
    east = table.filter([name == "ngc628-e" for name in table["survey"].to_pylist()])
    assert np.isnan(east["flux_acs_f555w"].to_numpy()).all()
    assert np.isfinite(east["flux_wfc3_f555w"].to_numpy()).any()
    assert east["object_id"][0].as_py().startswith("ngc628-e-")
