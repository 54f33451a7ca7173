"""Growth: time and memory of every process, for catalogues and for numbers of mocks from small to large.

    python tests/benchmarks/bench_growth.py mocks [ROWS ...]
    python tests/benchmarks/bench_growth.py catalogue --run RUN [OBJECTS ...] [--draws 200] [--set ...]

Each size runs as a user would run it (`batchflow mocks`, `batchflow infer`, two local workers). RUN is a
finished run of bench_reference.py, whose model is used; the catalogue is 20,000 clusters of its problem
repeated under new ids, in galaxies of unlike size. Lines are straight where `marginal_ms` (time a thousand
more rows take, from a size to the next) does not rise, memory is flat where the peaks do not. 10^6 objects
of 200 draws take 3 GB of disk and some 25 minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
from bench_mocks import write_job as write_mocks_job
from bench_reference import DISTANCE, observe
from harness import batchflow, report, watch

from batchflow.config import load_job, parse_job
from batchflow.mocks.noise import DEFAULT_SURVEY
from batchflow.schema import error_column, flux_column
from batchflow.settings.overrides import apply_overrides
from batchflow.stages import resolved

BLOCK = 20_000
GALAXIES = 40
MOCKS, OBJECTS = (100_000, 1_000_000, 5_000_000), (1000, 10_000, 100_000)


def write_catalogue(path: Path, objects: int, run: Path, galaxies: int = GALAXIES) -> None:
    """Blocks of the same photometry, each row with an id of its own; bounded memory."""
    job = load_job(run / "job.toml", [])
    _, flux, error, _ = observe(job, min(BLOCK, objects))
    names = [flux_column(b) for b in job.model.bands] + [error_column(b) for b in job.model.bands]
    columns = dict(zip(names, np.concatenate([flux, error], 1).T, strict=True))
    # A galaxy's share of the clusters falls as one over its rank.
    share = np.cumsum(1 / np.arange(1, galaxies + 1))
    writer = None
    for start in range(0, objects, len(flux)):
        rows = slice(0, min(len(flux), objects - start))
        number = np.arange(start, start + rows.stop)
        rank = np.searchsorted(share / share[-1], (number * 0.6180339887498949) % 1)
        table = pa.table(
            {"object_id": number.astype(str), "galaxy": [f"G{i:03d}" for i in rank]}
            | {name: column[rows] for name, column in columns.items()}
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def write_job(folder: Path, run: Path, draws: int, sets: list[str]) -> Path:
    """The job of the model, with the catalogue; two workers. The model lies in its output."""
    values = resolved(load_job(run / "job.toml", []))
    values["name"], values["output"] = "growth", str(folder / "run")
    entry = {"path": str(folder / "catalogue.parquet"), "format": "table", "name": DEFAULT_SURVEY}
    values["catalogue"] = [entry | {"distance_mpc": DISTANCE, "unit": "mJy"}]
    values["cluster"] = {"cpu_workers": 2, "dashboard": "off"}
    values["infer"] = {"draws": draws, "rows_per_part": 2000}
    apply_overrides(values, sets)
    path = folder / "job.toml"
    path.write_text(tomli_w.dumps(resolved(parse_job(values, str(path), folder))))
    shutil.copytree(run / "model", folder / "run" / "model", dirs_exist_ok=True)
    return path


def grow_mocks(folder: Path, rows: int) -> dict[str, Any]:
    """Figures of so many mocks."""
    found = watch(batchflow("mocks", str(write_mocks_job(folder, rows, 2))))
    return _figures(found._asdict(), rows, folder / "run", "mocks")


def grow_catalogue(folder: Path, objects: int, words: argparse.Namespace) -> dict[str, Any]:
    """Figures of a catalogue of so many objects."""
    write_catalogue(folder / "catalogue.parquet", objects, words.run)
    job = write_job(folder, words.run, words.draws, words.set)
    found = watch(batchflow("infer", str(job)))
    return _figures(found._asdict(), objects, folder / "run", "infer") | {"draws": words.draws}


def _figures(found: dict[str, Any], rows: int, run: Path, stage: str) -> dict[str, Any]:
    recorded = json.loads((run / "logs" / "stages.json").read_text())[stage]
    size = sum(path.stat().st_size for path in run.rglob("*.parquet"))
    return found | {"rows": rows, "stage_s": recorded["seconds"], "gib": size / 2**30}


def with_margins(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside each size what a thousand rows more cost, since the size before [ms]."""
    for before, after in zip([{"rows": 0, "wall_s": 0.0}, *found], found, strict=False):
        after["marginal_ms"] = 1e6 * (after["wall_s"] - before["wall_s"]) / (after["rows"] - before["rows"])
    return found


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["mocks", "catalogue"])
    parser.add_argument("sizes", type=int, nargs="*")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--set", action="append", default=[])
    words = parser.parse_intermixed_args()
    if words.what == "catalogue" and words.run is None:
        parser.error("catalogue needs --run RUN, a finished run of bench_reference.py")
    sizes = words.sizes or (MOCKS if words.what == "mocks" else OBJECTS)
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as name:
            folder = Path(name)
            is_mocks = words.what == "mocks"
            found.append(grow_mocks(folder, size) if is_mocks else grow_catalogue(folder, size, words))
            print(json.dumps(found[-1]), flush=True)
    report({"what": words.what, "sizes": with_margins(found)})


if __name__ == "__main__":
    main()
