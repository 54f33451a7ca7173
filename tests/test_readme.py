"""The README's own examples and those of docs/, word for word, on the run that `make demo` leaves."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}

NOT_RUN = {
    r"make (demo|test)": "the gate runs both",
    r"\. \.venv/bin/activate": "a shell's own; the programs are called beside this Python",
    r"pip install ": "what the tests stand on is installed",
    r"batchflow catalogue m33_phatter_clusters\.fits": "needs a catalogue that is not part of the repository",
    r"batchflow (check|submit) JOB": "needs a batch system: tests/slurm runs them on a Slurm of their own",
    r"batchflow jobs RUN; batchflow cancel RUN": "needs a batch system",
    r"batchflow export \S+ \S+ --format hats": "needs cdshealpix: tests/results/test_export_hats.py runs it",
}
"""Commands that these tests do not run, and why."""
OVERWRITES = {"reweight": "runs/quickstart/reweighted"}
EXPORTED = ("clusters.fits", "young.ecsv", "draws.parquet")


def blocks(text):
    """Lines of indented blocks, and of fenced ones of the shell."""
    fenced = re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = re.findall(r"^    (\S.*)$", plain, re.MULTILINE)
    return [*lines, *(line for block in fenced for line in block.splitlines() if line)]


def commands(text):
    programs = ("batchflow ", "make ", "pip ", ". ", "python ")
    return [re.split(r"\s+# ", line)[0].strip() for line in blocks(text) if line.startswith(programs)]


def reason(command):
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


ALL = list(dict.fromkeys(line for text in (README, *PAGES.values()) for line in commands(text)))
RUN = [line for line in ALL if reason(line) is None]


def test_every_command_is_run_or_excused():
    for line in RUN:
        assert re.match(r"batchflow [a-z-]+ ((jobs|runs)/quickstart\S*|clusters\.fits)( |$)", line), line
    for pattern, why in NOT_RUN.items():
        assert any(re.match(pattern, line) for line in ALL), f"no page shows {pattern} ({why}) any more"


def test_the_readme_shows_commands():
    shown = {"check", "run", "status", "query", "model", "model-card", "flags", "reweight", "population"}
    assert {line.split()[1] for line in commands(README) if line in RUN} >= shown | {
        "export",
        "provenance",
        "cite",
    }


@pytest.fixture(scope="module")
def demo():
    if not (ROOT / "runs" / "quickstart" / "posterior").is_dir():
        pytest.fail("runs/quickstart is absent: run `make demo` first")
    before = [name for name in EXPORTED if (ROOT / name).exists()]
    assert not before, f"{before} would be overwritten: move them"
    yield
    for name in EXPORTED:
        (ROOT / name).unlink(missing_ok=True)


@pytest.mark.docs
@pytest.mark.parametrize("command", RUN)
def test_command(command, demo):
    # The README has the environment activated: its programs lie beside this Python.
    program, name, *arguments = shlex.split(command)
    if name in OVERWRITES:  # it never overwrites
        shutil.rmtree(ROOT / OVERWRITES[name], ignore_errors=True)
    if name == "export":  # several pages write the same file
        (ROOT / arguments[1]).unlink(missing_ok=True)
    found = Path(sys.executable).with_name(program)
    done = subprocess.run([found, name, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr


@pytest.mark.docs
@pytest.mark.parametrize("sql", re.search(r"```sql\n(.*?)```", README, re.DOTALL)[1].strip().split("\n\n"))
def test_query(sql, demo):
    from batchflow.results.query import query

    assert query(ROOT / "runs" / "quickstart", sql).num_columns >= 2


@pytest.mark.docs
def test_python(monkeypatch, demo):
    monkeypatch.chdir(ROOT)
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    names = {}
    exec(compile(code[0], "README.md", "exec"), names)
    assert names["posterior"].summary.num_rows == 1
    assert 6 <= names["posterior"].summary["log_age_q50"][0].as_py() <= 10.14
    assert len(names["run"].posterior.to_pandas()) == 500


@pytest.mark.docs
def test_the_layout_named_is_the_layout_made(demo):
    folder = ROOT / "runs" / "quickstart"
    for line in re.findall(r"^    runs/NAME/(\S+)", README, re.MULTILINE):
        pattern = line.rstrip("/,").replace("=...", "=*")
        assert list(folder.glob(pattern)), f"{line} is not in {folder}"


@pytest.mark.parametrize("text", [README, *PAGES.values()], ids=["README.md", *PAGES])
def test_job_files_shown_are_ones_that_load(text):
    from batchflow.config import parse_job

    base = {"name": "x", "output": "x", "model": {"bands": ["wfc3_f555w"]}}
    for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        import tomllib

        given = tomllib.loads(block)
        model = base["model"] | given.get("model", {})
        parse_job(base | given | {"model": model}, "the page", ROOT / "jobs")
