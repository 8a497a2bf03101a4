"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data (SIGNCL_REAL_DATA, default ../shared/data); tests that need it skip where it is absent."""
    root = Path(os.environ.get("SIGNCL_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}; set SIGNCL_REAL_DATA to its folder")
    return root
