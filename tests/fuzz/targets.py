"""What is fuzzed: each function takes bytes from outside, and lets no error through but `UserError`.

An audit hook watches what they do: no file is written outside a folder of the fuzzer's own, no program is
started, nothing is unpickled.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import dask.delayed  # noqa: F401 - unpickles something of its own as it is imported

from batchflow.errors import UserError

FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class")
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.truncate",
)
_watched: list[str] = []
"""The folder that may be written in, while something is watched."""
_broken: list[str] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watched:
        return
    if event in FORBIDDEN:
        _broken.append(f"{event} {arguments[:1]}")
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (writes or event in CHANGES) and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        inside = Path(path).is_relative_to(_watched[-1])
        if path != os.devnull and not inside and "__pycache__" not in path:
            _broken.append(f"{event} {path}")


sys.addaudithook(_hook)


@contextmanager
def harmless() -> Iterator[Path]:
    """A folder of one's own for a block in which nothing but a `UserError` may happen."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outer = Path(name).resolve()
        folder, scratch = outer / "work", outer / "scratch"
        folder.mkdir()
        scratch.mkdir()
        _broken.clear()
        _watched.append(str(outer))
        # Compressed catalogues and large queries have temporary files: theirs are watched, too.
        before, tempfile.tempdir = tempfile.tempdir, str(scratch)
        try:
            with suppress(UserError):
                yield folder
        finally:
            tempfile.tempdir = before
            _watched.pop()
        assert not _broken, str(_broken)
        assert not list(scratch.iterdir())


JOB = """name = "a"
output = "run"
[model]
bands = ["wfc3_f336w", "wfc3_f555w"]
[prior]
log_age = {uniform = [6.0, 10.0]}
[[catalogue]]
path = "c.csv"
format = "table"
[cluster]
site = "local"
"""


def job_file(data: bytes) -> None:
    """A job file, read, checked and planned."""
    from batchflow.check import problems
    from batchflow.config import load_job
    from batchflow.stages import from_resolved, resolved

    with harmless() as folder:
        (folder / "job.toml").write_bytes(data)
        job = load_job(folder / "job.toml")
        problems(job)
        again = from_resolved(resolved(job), "again")
        assert resolved(again) == resolved(job)


def override(text: str) -> None:
    """A word of `--set`."""
    from batchflow.config import load_job

    with harmless() as folder:
        (folder / "job.toml").write_text(JOB)
        load_job(folder / "job.toml", [text])


def catalogue(data: bytes, suffix: str) -> None:
    """A catalogue, read to its end."""
    from batchflow.catalogue.read import read_with_summary
    from batchflow.settings.catalogue import CatalogueSettings

    with harmless() as folder:
        path = folder / f"c.{suffix}"
        path.write_bytes(data)
        entry = CatalogueSettings(
            path=path, name="s", galaxy="g", distance_mpc=3.0, bands=("wfc3_f275w",), unit="AB"
        )
        read_with_summary(entry, ("wfc3_f275w", "acs_f435w"))


@cache
def model_folder() -> dict[str, bytes]:
    """Files of a small model that nobody trained."""
    import numpy as np

    from batchflow.flow.checkpoint import new_network, save_model
    from batchflow.flow.network import Specification
    from batchflow.mocks.noise import NoiseModel
    from batchflow.settings.train import FlowSettings

    one = np.ones((1, 2))
    noise = NoiseModel(
        ("wfc3_f336w", "wfc3_f555w"), ("only",), depth=1e-5 * one, photon=0 * one, fractional=0 * one,
        scatter=0.2 * one, correlation=np.ones(1), brightness=np.array([[0.5, 3.0]]),
        limit_fraction=np.zeros(1), systematic=0.05,
    )  # fmt: skip
    boxes = {"log_age": (6.0, 10.0), "log_mass": (2.0, 7.0), "ebv": (0.0, 1.5)}
    flow = FlowSettings(couplings=3, hidden=8, bins=4, encoder_layers=1)
    network = new_network(Specification(noise.bands, boxes, flow, noise), seed=1)
    with tempfile.TemporaryDirectory() as name:
        save_model(Path(name), network)
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def model(files: dict[str, bytes], restamp: bool) -> None:
    """A model folder, opened; its description given a right checksum of itself, as a forger would."""
    import json

    from batchflow.flow.checkpoint import load_model
    from batchflow.flow.description import write_description

    with harmless() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if restamp:
            try:
                values = json.loads(files["model.json"])
            except (ValueError, RecursionError):
                return
            if not isinstance(values, dict):
                return
            import hashlib

            values["weights_sha256"] = hashlib.sha256(files["weights.safetensors"]).hexdigest()
            write_description(folder, values)
        load_model(folder)


def flux_table(data: bytes) -> None:
    """A flux table."""
    from batchflow.physics.table import FluxTable

    with harmless() as folder:
        (folder / "t.safetensors").write_bytes(data)
        FluxTable.load(folder / "t.safetensors")


@cache
def table_bytes() -> bytes:
    """A small flux table."""
    import numpy as np

    from batchflow.physics.table import FluxTable

    axes = (np.array([6.0, 8.0, 10.0]), np.array([0.0, 1.0]))
    table = FluxTable(("log_age", "ebv"), axes, ("wfc3_f336w",), np.zeros((3, 2, 1)), np.zeros(3))
    with tempfile.TemporaryDirectory() as name:
        table.save(Path(name) / "t")
        return (Path(name) / "t").read_bytes()


SECRET = "the-secret-9b1"
_RUNS: list[Path] = []


def asked_run() -> Path:
    """A small run beside a file that no query may read."""
    if not _RUNS:
        for place in (Path(__file__).parents[1], Path(__file__).parents[1] / "results"):
            if str(place) not in sys.path:
                sys.path.append(str(place))
        from asked_run import make_asked_run

        folder = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
        import atexit

        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "secret.csv").write_text(f"a\n{SECRET}\n")
        make_asked_run(folder / "run")
        (folder / "run" / "job.toml").write_text(f"name = '{SECRET}'\n")
        _RUNS.append(folder)
    return _RUNS[0]


def sql(text: str) -> None:
    """A query: it reads the run's own tables and writes nothing."""
    from batchflow.results.query import Limits, query

    folder = asked_run()
    before = _stamps(folder)
    with harmless():
        answer = query(folder / "run", text, Limits(seconds=2.0, memory_gib=0.5))
        if SECRET not in text:
            assert SECRET not in str(answer.slice(0, 100).to_pylist())
    assert _stamps(folder) == before


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def galaxy(name: str) -> None:
    """A name of a galaxy, from the catalogue to a query: it stays in its table's folder, and comes back."""
    import pyarrow as pa

    from batchflow import schema
    from batchflow.catalogue.partition import write_catalogue
    from batchflow.paths import RunFolder
    from batchflow.results.query import query

    columns = {"galaxy": pa.array([name]), "object_id": pa.array(["1"])}
    wanted = schema.catalogue_schema(("wfc3_f555w",))
    arrays = [columns.get(field.name, pa.nulls(1, field.type)).cast(field.type) for field in wanted]
    with harmless() as folder:
        rows = pa.Table.from_arrays(arrays, schema=wanted)
        (part,) = write_catalogue([rows], RunFolder(folder / "run").catalogue, 10, {})
        assert part.path.resolve().parent.parent == folder / "run" / "catalogue"
        assert [item.name for item in folder.iterdir()] == ["run"]
        assert query(folder / "run", "SELECT galaxy FROM catalogue")["galaxy"].to_pylist() == [name]
