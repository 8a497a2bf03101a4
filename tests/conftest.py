"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

# tensors are tiny: a second thread only waits, and pytest-xdist uses the other core; in processes of tests too
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)


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


LONG = (
    *("test_paper_tables", "test_systems", "test_train", "test_pages", "test_paper_analysis", "test_web"),
    *("test_paper_recipes", "test_paper_runs", "test_compile", "test_paper_check", "test_cli", "test_official"),
    *("test_plugins", "test_rehearsal", "test_sign2gpt", "test_token_contrast", "test_ranks", "test_synthetic"),
    *("test_smkd", "test_pose", "test_extraction", "test_i3d", "test_freezing", "test_probes", "test_contract"),
    *("test_server_life", "test_hostile_names"),
)
"""Files that take longest, longest first: two workers that take whole files in this order end at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
