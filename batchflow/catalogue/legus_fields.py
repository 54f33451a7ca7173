"""The 31 LEGUS fields whose cluster catalogues are public: galaxy, distance, bands.

Distances are those quoted with the catalogues (readme files of the data release; Calzetti et al. 2015,
AJ 149, 51, table 1). The bands are given where they are established; elsewhere the job has to say.

The camera follows from the catalogue itself: the sentinel 66.666 (outside the frame) shows which bands
share a footprint. F275W and F336W are UVIS, of 162 arc seconds, 7.3 square arc minutes. A band that misses
the same rows as they do is UVIS; one whose clusters spread over more than a UVIS frame is ACS. F606W and
F555W differ by some 0.2 mag in colour, which fits tell apart. The tests repeat both.
"""

from __future__ import annotations

from typing import NamedTuple


class LegusField(NamedTuple):
    """What is known of a field."""

    galaxy: str
    distance_mpc: float
    optical: tuple[str, str, str] | None = None
    """Bands of the B, V and I columns; None when they are not established."""


ULTRAVIOLET = ("wfc3_f275w", "wfc3_f336w")
"""Bands of the first two magnitude columns, in every field."""
_ACS = ("acs_f435w", "acs_f555w", "acs_f814w")
_UVIS = ("wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
_B_UVIS = ("wfc3_f438w", "acs_f555w", "acs_f814w")
_B_UVIS_606 = ("wfc3_f438w", "acs_f606w", "acs_f814w")

FIELDS = {
    "eso486-g021": LegusField("eso486-g021", 9.5, _UVIS),
    "ic4247": LegusField("ic4247", 5.11),
    "ic559": LegusField("ic559", 5.3, _UVIS),
    "ngc1313-e": LegusField("ngc1313", 4.39, _ACS),
    "ngc1313-w": LegusField("ngc1313", 4.39, _ACS),
    "ngc1433": LegusField("ngc1433", 8.3, _UVIS),
    "ngc1566": LegusField("ngc1566", 18.0, _UVIS),
    "ngc1705": LegusField("ngc1705", 5.1, _UVIS),
    "ngc3274": LegusField("ngc3274", 6.55),
    "ngc3344": LegusField("ngc3344", 7.0, _UVIS),
    "ngc3738": LegusField("ngc3738", 4.9, _B_UVIS_606),
    "ngc4248": LegusField("ngc4248", 7.8),
    "ngc4395-n": LegusField("ngc4395", 4.3, _UVIS),
    "ngc4395-s": LegusField("ngc4395", 4.3, _B_UVIS),
    "ngc4449": LegusField("ngc4449", 4.31, _ACS),
    "ngc4485": LegusField("ngc4485", 7.6, ("acs_f435w", "acs_f606w", "wfc3_f814w")),
    "ngc5238": LegusField("ngc5238", 4.51, _B_UVIS_606),
    "ngc5253": LegusField("ngc5253", 3.15, _ACS),
    "ngc5477": LegusField("ngc5477", 6.4, _B_UVIS_606),
    "ngc628-c": LegusField("ngc628", 9.9, _ACS),
    "ngc628-e": LegusField("ngc628", 9.9, ("acs_f435w", "wfc3_f555w", "acs_f814w")),
    "ugc1249": LegusField("ugc1249", 6.9, _B_UVIS_606),
    "ugc4305": LegusField("ugc4305", 3.05, _B_UVIS),
    "ugc4459": LegusField("ugc4459", 3.66, _B_UVIS),
    "ugc5139": LegusField("ugc5139", 3.98, _B_UVIS),
    "ugc5340": LegusField("ugc5340", 5.9),
    "ugc685": LegusField("ugc685", 4.83, _B_UVIS_606),
    "ugc695": LegusField("ugc695", 10.9),
    "ugc7242": LegusField("ugc7242", 5.42),
    "ugc7408": LegusField("ugc7408", 6.7, _B_UVIS_606),
    "ugca281": LegusField("ugca281", 5.9, _B_UVIS_606),
}
"""By the field's name as it stands in the file names of the release."""


def field_in(file_name: str) -> str | None:
    """Name of the field in a file name of the release.

    Parameters
    ----------
    file_name : str
        For example ``hlsp_legus_hst_acs-wfc3_ngc628-c_multiband_v1_padagb-mwext-avgapcor.tab``.

    Returns
    -------
    str or None
        A key of `FIELDS`; None when no part of the name, between underscores, is one.
    """
    parts = file_name.lower().partition(".")[0].split("_")
    return next((part for part in parts if part in FIELDS), None)


def has_bands(file_name: str) -> bool:
    """Whether it is established which bands a file of the release has.

    Parameters
    ----------
    file_name : str
        As `field_in` takes it.

    Returns
    -------
    bool
        False too for a file of no known field.
    """
    known = FIELDS.get(field_in(file_name) or "")
    return known is not None and known.optical is not None
