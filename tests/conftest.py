"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# As the workers have it (cluster.DASK_SETTINGS), and before anything imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real catalogues and reference fluxes, beside the checkout; not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("the folder shared/ with real catalogues is not beside the checkout")
    return SHARED
