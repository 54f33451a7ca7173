"""The column `flags` in words, and how often each bit is set in a run."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from batchflow.results.tables import open_run
from batchflow.schema import Flag


@cache
def flag_meanings() -> dict[str, str]:
    """What each bit says.

    Returns
    -------
    dict of str to str
        Name to meaning, in the order of the bits: the text under each member of `schema.Flag`.
    """
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(Flag))).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    found: dict[str, str] = {}
    for before, after in pairwise(statements):
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr):
            name, text = before.targets[0], after.value
            if isinstance(name, ast.Name) and isinstance(text, ast.Constant):
                found[name.id] = " ".join(str(text.value).split())
    return found


def explain_flags() -> pa.Table:
    """Every bit of `flags`.

    Returns
    -------
    pyarrow.Table
        Columns ``bit`` (its value), ``name``, ``meaning``.
    """
    meanings = flag_meanings()
    rows = [{"bit": bit.value, "name": bit.name, "meaning": meanings.get(str(bit.name), "")} for bit in Flag]
    return pa.Table.from_pylist(rows)


def count_flags(folder: str | Path) -> pa.Table:
    """How many clusters of each galaxy carry each flag.

    Parameters
    ----------
    folder : str or Path
        The run folder.

    Returns
    -------
    pyarrow.Table
        A row a flag that is set anywhere, and one, ``(none)``, of those without any; columns ``flag``,
        ``bit``, one a galaxy, ``all`` and ``share``. The first row counts the clusters.

    Raises
    ------
    UserError
        When the folder holds no posteriors.
    """
    counts: dict[str, Counter[str]] = {}
    for batch in open_run(folder).posterior.dataset.to_batches(columns=["galaxy", "flags"]):
        galaxies = np.array(batch["galaxy"].to_pylist(), dtype=object)
        flags = np.asarray(batch["flags"].to_numpy(zero_copy_only=False))
        for galaxy in sorted(set(galaxies)):
            counts.setdefault(galaxy, Counter()).update(_count(flags[galaxies == galaxy]))
    total = sum(counts.values(), Counter())
    names = ["clusters", "(none)", *(str(flag.name) for flag in Flag if total[str(flag.name)])]
    rows = [_row(name, counts, total) for name in names]
    return pa.Table.from_pylist(rows)


def _count(flags: np.ndarray) -> dict[str, int]:
    found = {str(flag.name): int(((flags & flag.value) != 0).sum()) for flag in Flag}
    return found | {"clusters": len(flags), "(none)": int((flags == 0).sum())}


def _row(name: str, counts: dict[str, Counter[str]], total: Counter[str]) -> dict[str, object]:
    bit = Flag[name].value if name in Flag.__members__ else None
    by_galaxy = {galaxy: counts[galaxy][name] for galaxy in sorted(counts)}
    share = total[name] / max(total["clusters"], 1)
    return {"flag": name, "bit": bit} | by_galaxy | {"all": total[name], "share": share}
