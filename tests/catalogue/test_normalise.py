"""The internal form: every row kept, every band left out explained."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchflow.catalogue.normalise import RawCatalogue, clean_band, flag_duplicates, normalise
from batchflow.schema import LIMIT_SIGMA, PUBLISHED, Flag, catalogue_schema

BANDS = ("wfc3_f275w", "acs_f435w")


def raw(flux, error, limit=None, **others):
    n_rows = len(flux)
    values = {
        "galaxy": ["g"] * n_rows,
        "object_id": [str(i) for i in range(n_rows)],
        "ra": np.zeros(n_rows),
        "dec": np.zeros(n_rows),
        "distance_mpc": np.full(n_rows, 5.0),
        "flux": {"acs_f435w": np.array(flux, dtype=float)},
        "error": {"acs_f435w": np.array(error, dtype=float)},
        "limit": {} if limit is None else {"acs_f435w": np.array(limit)},
    }
    return RawCatalogue(**values | others)


def column(table, name):
    return table[name].to_numpy()


nan, inf = np.nan, np.inf


@pytest.mark.parametrize(
    ("flux", "error", "limit", "flags", "usable"),
    [
        (1.0, 0.1, False, Flag(0), True),
        (-1.0, 0.1, False, Flag.NEGATIVE_FLUX, True),
        (0.0, 0.1, False, Flag(0), True),
        (nan, 0.1, False, Flag.MISSING_BAND | Flag.NO_BAND, False),
        (nan, nan, True, Flag.MISSING_BAND | Flag.NO_BAND, False),
        (1.0, nan, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (1.0, 0.0, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (1.0, -0.1, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (1.0, inf, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (inf, 0.1, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (-inf, 0.1, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (1e20, 1.0, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (1.0, 1e20, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (1e-33, 1e-31, False, Flag.BAD_ERROR | Flag.NO_BAND, False),
        (1.0, 0.1, True, Flag.UPPER_LIMIT, True),
        (1.0, nan, True, Flag.UPPER_LIMIT, True),
        (-1.0, 0.1, True, Flag.BAD_ERROR | Flag.NO_BAND, False),
    ],
)
def test_flags_of_one_measurement(flux, error, limit, flags, usable):
    table = normalise(raw([flux], [error], [limit]), "survey", BANDS)
    assert Flag(column(table, "flags")[0]) == flags
    assert np.isfinite(column(table, "flux_acs_f435w")[0]) == usable
    assert np.isfinite(column(table, "error_acs_f435w")[0]) == usable


def test_limit_keeps_its_value_and_its_own_error():
    table = normalise(raw([6.0, 6.0], [nan, 1.5], [True, True]), "survey", BANDS)
    assert column(table, "flux_acs_f435w").tolist() == [6.0, 6.0]
    assert column(table, "error_acs_f435w").tolist() == [6.0 / LIMIT_SIGMA, 1.5]
    assert column(table, "limit_acs_f435w").tolist() == [True, True]


def test_band_of_the_job_that_the_survey_lacks_is_nan_but_no_fault():
    table = normalise(raw([1.0], [0.1]), "survey", BANDS)
    assert np.isnan(column(table, "flux_wfc3_f275w")[0])
    assert not column(table, "limit_wfc3_f275w")[0]
    assert column(table, "flags")[0] == 0


def test_schema_is_the_contract():
    table = normalise(raw([1.0], [0.1]), "survey", BANDS)
    assert table.schema.equals(catalogue_schema(BANDS, PUBLISHED), check_metadata=True)


@pytest.mark.parametrize("distance", [nan, 0.0, -3.0, inf])
def test_row_without_distance_is_flagged(distance):
    table = normalise(raw([1.0], [0.1], distance_mpc=np.array([distance])), "survey", BANDS)
    assert Flag(column(table, "flags")[0]) == Flag.NO_DISTANCE


def test_duplicates_are_those_of_one_galaxy():
    rows = raw([1.0] * 4, [0.1] * 4, galaxy=["a", "a", "b", "a"], object_id=["1", "2", "1", "1"])
    table = flag_duplicates(normalise(rows, "survey", BANDS))
    assert (column(table, "flags") & Flag.DUPLICATE_ID != 0).tolist() == [True, False, False, True]


def test_galaxy_and_id_are_kept_apart():
    rows = raw([1.0] * 2, [0.1] * 2, galaxy=["a1", "a"], object_id=["2", "12"])
    assert not column(flag_duplicates(normalise(rows, "survey", BANDS)), "flags").any()


def test_no_rows_have_no_duplicates():
    empty = normalise(raw([1.0], [0.1]), "survey", BANDS).slice(0, 0)
    assert flag_duplicates(empty).num_rows == 0


numbers = st.floats(width=64)


@given(st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=20))
def test_any_numbers_give_a_value_or_a_reason(rows):
    flux, error, limit = (np.array(values) for values in zip(*rows, strict=True))
    found = clean_band(flux, error, limit)
    used = np.isfinite(found.flux)
    assert (used == np.isfinite(found.error)).all()
    assert (found.error[used] > 0).all()
    assert (found.flux[used] == flux[used]).all()
    reasons = Flag.MISSING_BAND | Flag.BAD_ERROR
    assert (used == (found.flags & reasons == 0)).all()
    assert ((found.flags & Flag.UPPER_LIMIT != 0) == (used & limit)).all()
