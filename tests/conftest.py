"""Fixtures shared by the tests."""

import gc
import os
import sys
from pathlib import Path

import pytest

# Tensors are tiny, so one thread is enough, and pytest-xdist uses the other cores. Child processes inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test downloads from the hub. Without this, each unknown name would wait half a minute for a timeout.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Compiling takes a third of the collection time, so workers and child processes share compiled files.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# fsync only protects against power loss, which no test simulates. Child processes still use it.
os.fsync = lambda handle: None

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--slow`, which also runs the tests marked slow."""
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow (make test-all)")


def pytest_configure(config: pytest.Config) -> None:
    """Sets one thread for torch. Odd workers collect in reverse, so two workers compile half of the tests each."""
    if config.getoption("numprocesses", None):
        return  # this process only starts the workers and needs no torch
    import torch

    torch.set_num_threads(1)
    worker = getattr(config, "workerinput", {}).get("workerid", "gw0")
    if int(worker.removeprefix("gw")) % 2 and [Path(word).resolve() for word in config.args] == [TESTS]:
        config.args = [str(path) for path in sorted(TESTS.rglob("test_*.py"), reverse=True)]


def pytest_collection_finish() -> None:
    """Freezes modules and tests, which live until the end, so that garbage collection skips them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data (SIGNCL_REAL_DATA, default ../shared/data). Tests that need it are skipped without it."""
    root = Path(os.environ.get("SIGNCL_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}; set SIGNCL_REAL_DATA to its folder")
    return root


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[bool, Path]:
    """The corpus of tests/systems.py, as features (key False) and as pictures (key True)."""
    from systems import write_corpus

    root = tmp_path_factory.mktemp("systems")
    return {pixels: write_corpus(root / f"pixels{pixels}", pixels=pixels) for pixels in (False, True)}


@pytest.fixture(scope="session")
def made_site(tmp_path_factory) -> Path:
    """Corpus and run of tests/web_site.py, made once for all pytest-xdist workers. Copy it before changing files."""
    from web_site import make_site

    root = tmp_path_factory.getbasetemp()
    place = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "site"
    make_site(place)
    return place


LONG = (
    *("test_paper_tables", "test_systems", "test_train", "test_pages", "test_paper_analysis", "test_web"),
    *("test_paper_recipes", "test_paper_runs", "test_compile", "test_paper_check", "test_cli", "test_official"),
    *("test_plugins", "test_rehearsal", "test_sign2gpt", "test_token_contrast", "test_ranks", "test_synthetic"),
    *("test_smkd", "test_pose", "test_extraction", "test_i3d", "test_freezing", "test_probes", "test_contract"),
    *("test_server_life", "test_hostile_names"),
)
"""The slowest test files, slowest first, so that two workers with complete files finish at about the same time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Moves slow files to the front, in an order independent of collection, and skips slow tests without `--slow`."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: (place.get(item.path.stem, len(LONG)), item.path))
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: `make test-all` or `pytest --slow` runs it")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)
