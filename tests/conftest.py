"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchflow.machine import WORKER_VARIABLES

# As the workers have it, and before anything imports torch.
os.environ.setdefault("GOMP_SPINCOUNT", WORKER_VARIABLES["GOMP_SPINCOUNT"])

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def dasks_own_scheduler() -> Iterator[None]:
    """No client of ours is the default of the process: what else uses dask in it keeps its own scheduler."""
    yield
    if dask := sys.modules.get("dask"):
        assert dask.config.get("scheduler", None) is None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real catalogues and reference fluxes, beside the checkout; not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with real catalogues is not beside the checkout")
    return SHARED


DOUBLES = Path(__file__).parent / "physics" / "pcigale_double"


def forget_pcigale() -> None:
    """Let the next import find pcigale anew, and the next engine be opened anew."""
    from batchflow.physics.engine import _opened

    for name in [name for name in sys.modules if name.split(".")[0] in ("pcigale", "double_physics")]:
        del sys.modules[name]
    _opened.cache_clear()


def _double(line: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    forget_pcigale()
    folders = [str(DOUBLES / line), str(DOUBLES)]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    # Workers of a test's cluster are processes of their own.
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*folders, *([known] if known else [])]))
    yield line
    forget_pcigale()


@pytest.fixture
def new_cigale(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The double of pcigale of 2022 in pcigale's place."""
    yield from _double("new", monkeypatch)


@pytest.fixture
def old_cigale(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The double of pcigale 0.9 in pcigale's place."""
    yield from _double("old", monkeypatch)


@pytest.fixture(params=["new", "old", "real"])
def any_cigale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both doubles of pcigale in turn, and the real one where it is installed."""
    if request.param != "real":
        yield from _double(request.param, monkeypatch)
        return
    forget_pcigale()
    if importlib.util.find_spec("pcigale") is None:
        pytest.skip("pcigale itself is not installed here; the doubles stand for it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old pcigale on a new Python has many
        yield "real"
    forget_pcigale()


CHROMIUM_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1300,1100",
)


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Debian's chromium, headless, that keeps its console's messages."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    monkeypatch.setenv("SE_OFFLINE", "true")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
