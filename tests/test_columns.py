"""Every column of every table has a description, a unit that astropy reads and a valid UCD."""

import pyarrow as pa
import pytest
from astropy import units
from astropy.io.votable.ucd import check_ucd

from batchflow import schema
from batchflow.columns import Column, describe, spectral_part
from batchflow.physics.bands import known_bands, load_band
from batchflow.train.history import SCHEMA as HISTORY
from batchflow.validate.schemas import shaped, validation_schemas
from batchflow.validation_columns import describe_validation
from batchflow.votable import described

PARAMETERS = list(schema.PARAMETER_UNITS)


def all_columns():
    bands = known_bands()
    tables = [
        schema.mocks_schema(PARAMETERS, bands),
        schema.catalogue_schema(bands, schema.PUBLISHED),
        schema.posterior_schema(PARAMETERS),
        schema.fit_schema(PARAMETERS),
        schema.draws_schema(PARAMETERS),
        HISTORY,
    ]
    more = {
        "member",
        "_healpix_29",
        "log_age_low",
        "few_clusters",
        "n_left_out",
        "n_clusters",
        "medians",
        "q97",
    }
    plain = {name for table in tables for name in table.names} | more
    checked = {name for table in validation_schemas(PARAMETERS).values() for name in table.names}
    return sorted(
        [(name, describe) for name in plain] + [(name, describe_validation) for name in checked], key=str
    )


@pytest.mark.parametrize(("name", "described"), all_columns())
def test_every_column_is_described(name, described):
    found = described(name)
    assert found.description
    assert found.description.isascii()
    assert "{" not in found.description + found.ucd
    assert check_ucd(found.ucd, check_controlled_vocabulary=True, has_colon=False), found.ucd
    assert units.Unit(found.unit) is not None


def test_what_is_published_is_told_from_what_is_found_of_it():
    assert describe("published_log_age").description == "log10 of the age, as published with the catalogue"
    assert describe("published_radius").description == "radius, as published with the catalogue"
    for name in ("published_mode", "published_pvalue", "published_outside_prior"):
        assert "as published" not in describe_validation(name).description


def test_short_names_of_the_validation_are_not_known_elsewhere():
    for name in ("n", "count", "name", "value", "median"):
        assert describe_validation(name).description
        assert not describe(name).description


def test_a_table_of_the_validation_has_its_columns_even_when_it_is_empty():
    nothing = shaped("overlap_summary", pa.table({}), PARAMETERS)
    assert nothing.schema.equals(validation_schemas(PARAMETERS)["overlap_summary"])
    rows = pa.table({"meaning": ["m"], "n": [2.0], "reason": ["r"], "share": [1], "survey": ["s"]})
    found = shaped("reasons", rows, PARAMETERS)
    assert found.column_names == ["survey", "reason", "n", "share", "meaning"]
    assert (found["n"].type, found["share"].type) == (pa.int64(), pa.float64())


def test_a_column_that_is_not_in_the_manual_is_not_written():
    with pytest.raises(KeyError, match="'colour'"):
        shaped("reasons", pa.table({"colour": ["blue"]}), PARAMETERS)


def test_a_column_described_without_a_unit_gets_none_from_its_name():
    """`error_growth` is a factor, not the error of a flux in a band called growth."""
    field = describe_validation("error_growth").field("error_growth", pa.float64())
    (found,) = described(pa.schema([field]))
    assert found.metadata == field.metadata
    assert b"unit" not in found.metadata
    own = pa.field("log_age", pa.float32(), metadata={"mine": "1"})
    assert described(pa.schema([own]))[0].metadata[b"unit"] == b"dex(yr)"


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
