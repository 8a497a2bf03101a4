"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tensors are tiny: a second thread only waits, and pytest-xdist uses the other core


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data (SIGNCL_REAL_DATA, default ../shared/data); a test that needs it skips without it."""
    root = Path(os.environ.get("SIGNCL_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}; set SIGNCL_REAL_DATA to its folder")
    return root


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[bool, Path]:
    """The corpus of tests/systems.py, as features (False) and as pictures (True)."""
    from systems import write_corpus

    root = tmp_path_factory.mktemp("systems")
    return {pixels: write_corpus(root / f"pixels{pixels}", pixels=pixels) for pixels in (False, True)}
