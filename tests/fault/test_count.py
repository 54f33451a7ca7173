"""docs/damage.md counts these tests as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault(0)
HERE = Path(__file__).parent


def test_the_page_says_what_is_tried():
    done = subprocess.run([sys.executable, HERE / "count.py"], capture_output=True, text=True, check=True)
    page = HERE.parents[1] / "docs" / "damage.md"
    assert done.stdout in page.read_text(encoding="utf-8"), "put there what tests/fault/count.py prints"
