"""Which stages of a run are begun and not ended, from the names of its files alone."""

from __future__ import annotations

import tomllib
from typing import Any

from batchflow.paths import RunFolder, unescape

MADE_BY = {
    **{"mocks": "mocks", "history": "train", "validation": "validate", "population": "population"},
    **{"catalogue": "infer", "posterior": "infer", "draws": "infer", "fit": "fit"},
}
"""The command that makes each table."""


def unfinished_stages(run: RunFolder) -> list[str]:
    """What a reader of the results should know.

    Parameters
    ----------
    run : RunFolder
        The run.

    Returns
    -------
    list of str
        A sentence for each stage that has left something, or whose input is there, and is not done; none
        for a folder without job and catalogue, as `reweight` makes.
    """
    found = [_mocks(run), _train(run), *(_parts(run, stage) for stage in ("infer", "fit"))]
    return [text for text in found if text]


def _mocks(run: RunFolder) -> str:
    settings = _job(run).get("mocks", {})
    rows, size = settings.get("rows"), settings.get("rows_per_shard")
    made = len(list(run.mocks.glob("shard-*.parquet")))
    if not rows or not size or not made or made >= (wanted := -(-rows // size)):
        return ""
    return f"mocks: {made} of {wanted} shards are made"


def _train(run: RunFolder) -> str:
    begun = run.mocks.is_dir() or run.model.is_dir()
    return "train: there is no model" if begun and not (run.model / "model.json").is_file() else ""


def _parts(run: RunFolder, stage: str) -> str:
    """State of a stage that makes a file for each part of the catalogue."""
    folders = [run.posterior, run.draws] if stage == "infer" else [run.root / stage]
    wanted = {path.relative_to(run.catalogue) for path in run.catalogue.glob("galaxy=*/part-*.parquet")}
    left = [part for part in sorted(wanted) if not all((folder / part).is_file() for folder in folders)]
    # The classical fit is a choice; posteriors are what a catalogue is there for.
    if not left or (stage == "fit" and not folders[0].is_dir()):
        return ""
    galaxies = sorted({unescape(part.parent.name.removeprefix("galaxy=")) for part in left})
    shown = ", ".join(galaxies[:5]) + (f" and {len(galaxies) - 5} more" if len(galaxies) > 5 else "")
    done = len(wanted) - len(left)
    return f"{stage}: {done} of {len(wanted)} parts of the catalogue are done; lacking {shown}"


def _job(run: RunFolder) -> dict[str, Any]:
    try:
        return tomllib.loads(run.job.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
