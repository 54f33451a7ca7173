"""Ids of clusters that are not there: the nearest ones."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Sequence

NEAREST = 3
"""Ids named where one is not there."""
LOOKED_AT = 4000
"""Ids compared letter by letter; of more, those that are neighbours in the order of letters."""


def no_cluster(table: str, wanted: str, known: Sequence[str]) -> str:
    """What to say of an id that is not there.

    Parameters
    ----------
    table : str
        Where it was looked for.
    wanted : str
        The id.
    known : sequence of str
        Those that are there, in any order.

    Returns
    -------
    str
        A sentence that names the nearest.
    """
    ordered = sorted(known)
    at = bisect_left(ordered, wanted)
    likely = (
        ordered if len(ordered) < LOOKED_AT else ordered[max(at - LOOKED_AT // 2, 0) : at + LOOKED_AT // 2]
    )
    close = difflib.get_close_matches(wanted, likely, n=NEAREST, cutoff=0.0)
    nearest = f"nearest: {', '.join(close)}" if close else "it has none at all"
    return f"{table} has no cluster {wanted!r}; {nearest}"
