"""Names, units and flags."""

import pyarrow as pa
import pytest
from astropy import units

from batchflow import schema


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("flux_wfc3_f275w", "mJy"),
        ("error_acs_f814w", "mJy"),
        ("log_age", "dex(yr)"),
        ("log_age_q16", "dex(yr)"),
        ("published_log_mass", "dex(solMass)"),
        ("log_mass_current_q50", "dex(solMass)"),
        ("ebv_map", "mag"),
        ("mode_log_age_std", "dex(yr)"),
        ("mode_weight", ""),
        ("ra", "deg"),
        ("distance_mpc", "Mpc"),
        ("efficiency", ""),
        ("object_id", ""),
    ],
)
def test_units(column, unit):
    assert schema.unit_of(column) == unit


def test_every_unit_is_one_that_astropy_reads():
    names = [field.name for field in schema.posterior_schema(list(schema.PARAMETER_UNITS))]
    assert {str(units.Unit(schema.unit_of(name))) for name in names} >= {"dex(yr)", "mag", "Mpc"}


def test_posterior_columns_are_the_documented_ones():
    found = schema.posterior_schema(["log_age", "log_mass", "ebv"]).names
    for parameter in ("log_age", "log_mass", "ebv"):
        for suffix in ("mean", "std", "q02", "q16", "q50", "q84", "q97", "map"):
            assert f"{parameter}_{suffix}" in found
    documented = ["galaxy", "object_id", "ra", "dec", "n_bands", "n_modes", "efficiency", "log_evidence"]
    documented += [
        "log_evidence_error",
        "ood_pvalue",
        "mode_weight",
        "mode_ebv",
        "mode_ebv_std",
        "ppc_chi2",
        "ppc_pvalue",
        "flags",
        "published_log_age",
        "log_mass_current_q50",
    ]
    assert set(documented) <= set(found)


def test_flags_are_distinct_bits_and_explained():
    values = [flag.value for flag in schema.Flag]
    assert len(set(values)) == len(values)
    assert all(value & (value - 1) == 0 for value in values)
    assert pa.scalar(sum(values), pa.int32()).as_py() == sum(values)
