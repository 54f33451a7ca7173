"""Every column of every table has a description, a unit that astropy reads and a valid UCD."""

import pyarrow as pa
import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd

from batchflow import schema
from batchflow.columns import Column, describe, spectral_part
from batchflow.physics.bands import known_bands, load_band
from batchflow.train.history import SCHEMA as HISTORY
from batchflow.validate.calibrate import recovery
from batchflow.validate.compare import compare_published

PARAMETERS = list(schema.PARAMETER_UNITS)


def all_names():
    bands = known_bands()
    tables = [
        schema.mocks_schema(PARAMETERS, bands),
        schema.catalogue_schema(bands, schema.PUBLISHED),
        schema.posterior_schema(PARAMETERS),
        schema.fit_schema(PARAMETERS),
        schema.draws_schema(PARAMETERS),
        HISTORY,
    ]
    return sorted({name for table in tables for name in table.names} | {"member", "_healpix_29"})


@pytest.mark.parametrize("name", all_names())
def test_every_column_is_described(name):
    found = describe(name)
    assert found.description
    assert found.description.isascii()
    assert "{" not in found.description + found.ucd
    assert check_ucd(found.ucd, check_controlled_vocabulary=True, has_colon=False), found.ucd
    assert units.Unit(found.unit) is not None


def test_columns_of_the_validation_are_described():
    import numpy as np

    draws = {"log_age": np.linspace(6, 7, 20).reshape(2, 10)}
    found = recovery(draws, np.full((2, 10), 0.1), {"log_age": np.array([6.2, 6.8])})
    table = schema.posterior_schema(["log_age", "log_mass", "ebv"])
    row = {field.name: [] if pa.types.is_list(field.type) else 1.0 for field in table}
    row |= {
        "galaxy": "g",
        "survey": "s",
        "object_id": "1",
        "class_": 1,
        "n_bands": 5,
        "n_modes": 1,
        "flags": 0,
    }
    compared = compare_published(pa.Table.from_pylist([row], schema=table))
    others = {"n_lost", "efficiency", "member_spread", "verdict", "shift_z", "pvalue_corrected", "reference"}
    others |= {"reason", "exact_log_age_q50", "difference_ebv", "true_ebv", "log_age_low", "medians", "q97"}
    others |= {"way", "level", "tests", "few_clusters", "kl_exact", "share", "n_left_out", "low", "meaning"}
    for name in {*found.column_names, *compared.column_names, *others}:
        column = describe(name)
        assert column.description, name
        assert check_ucd(column.ucd, check_controlled_vocabulary=True), name


def test_an_unknown_column_has_nothing():
    assert describe("my_own") == Column()
    assert describe("log_age_q33") == Column()


def test_a_field_carries_it_all():
    metadata = schema.field("log_age_q16", pa.float32()).metadata
    assert metadata[b"unit"] == b"dex(yr)"
    assert metadata[b"ucd"] == b"stat.percentile;time.age"
    assert metadata[b"description"] == b"log10 of the age: 16 % quantile of the posterior"
    assert schema.field("my_own", pa.string()).metadata is None


@pytest.mark.parametrize("band", known_bands())
def test_the_part_of_the_spectrum_is_that_of_the_curve(band):
    """The word from the filter's name holds its pivot wavelength, to the 6 % that broad filters are off."""
    ranges = {
        **{"em.UV.200-300nm": (200, 300), "em.opt.U": (300, 400), "em.opt.B": (400, 500)},
        **{"em.opt.V": (500, 600), "em.opt.R": (600, 750), "em.opt.I": (750, 1000), "em.IR.J": (1000, 1500)},
        **{"em.IR.H": (1500, 2000), "em.IR.K": (2000, 3000), "em.IR.3-4um": (3000, 4000)},
        "em.IR.4-8um": (4000, 8000),
    }
    low, high = ranges[spectral_part(band)]
    pivot = load_band(band).pivot / 10
    assert 0.94 * low <= pivot <= 1.06 * high or band in {"nircam_f150w2", "nircam_f322w2"}


def test_a_name_without_a_wavelength_has_no_part():
    assert spectral_part("my_band") == ""
    assert describe("flux_my_band") == Column("mJy", "phot.flux.density", "flux density in my_band")
