"""The page in a real browser while a small job runs."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
JOB = Path(__file__).resolve().parents[2] / "jobs" / "quickstart.toml"
OVERRIDES = (
    "mocks.rows=4000000",  # two seconds of work
    "mocks.rows_per_shard=100000",
    "train.max_minutes=0.05",
    "train.batch=4096",
    "flow.hidden=16",
    "flow.couplings=2",
    "infer.draws=20",
    "infer.rows_per_part=20",
    "validate.mocks=50",
    "cluster.cpu_workers=1",
    "cluster.dashboard=127.0.0.1:0",
)
SEEN = """
const rows = [];
const walk = (node) => {
  if (node.shadowRoot) walk(node.shadowRoot);
  for (const child of node.children || []) walk(child);
  if (node.tagName === "TR") rows.push([...node.children].map((cell) => cell.innerText));
};
walk(document.body);
return rows;
"""
"""What a reader sees of the table of stages, shadow roots of Bokeh's widgets included."""
READ = "return Bokeh.documents[0].get_model_by_name(arguments[0]).data"


@pytest.fixture
def job(tmp_path):
    """A run under way, and the address of its dashboard."""
    sets = [word for override in (*OVERRIDES, f"output={tmp_path / 'run'}") for word in ("--set", override)]
    said = tmp_path / "said.txt"
    with said.open("w") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "batchflow", "run", str(JOB), *sets],
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )
    try:
        yield wait_for(lambda: re.search(r"dashboard (http://[\d.:]+)", said.read_text()), 60)[1], said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def wait_for(found, seconds):
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return value


def stages(browser):
    """Units done and left of each stage, as the page shows them."""
    rows = [row for row in browser.execute_script(SEEN) if row[0] != "stage"]
    return {row[0]: tuple(int(cell.replace(",", "")) for cell in row[2:4]) for row in rows}


def test_numbers_move_while_a_job_runs(browser, job, tmp_path):
    address, said = job
    browser.get(f"{address}/batchflow")
    wait_for(lambda: browser.execute_script("return Boolean(window.Bokeh && Bokeh.documents.length)"), 30)
    first = wait_for(lambda: stages(browser), 60)
    seen = [first]
    deadline = time.monotonic() + 200
    while "infer" not in seen[-1] or seen[-1]["infer"][1] > 0:
        assert time.monotonic() < deadline, (seen[-1], said.read_text())
        time.sleep(0.2)
        with contextlib.suppress(KeyError):
            seen.append(stages(browser))
        if "infer" in seen[-1] and seen[-1]["infer"][0] > 5:
            break
    mocks = [found["mocks"][0] for found in seen if "mocks" in found]
    assert len(set(mocks)) >= 3
    assert mocks == sorted(mocks)
    assert all(done + left == 40 for done, left in (found["mocks"] for found in seen if "mocks" in found))
    assert len(browser.execute_script(READ, "losses")["percent"]) > 0
    assert sum(browser.execute_script(READ, "galaxies")["wanted"]) == 26
    assert min(browser.execute_script(READ, "memory")["mebibytes"]) > 20
    time.sleep(2)
    browser.save_screenshot(os.environ.get("BATCHFLOW_SCREENSHOT", str(tmp_path / "page.png")))
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        text = answer.read().decode()
    assert 'batchflow_stage_units_done{stage="mocks"} 40' in text
    assert "batchflow_efficiency_bucket" in text
