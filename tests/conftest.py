"""Fixtures shared by the tests."""

import gc
import os
import sys
from pathlib import Path

import pytest

# tensors are tiny: a second thread only waits, and pytest-xdist uses the other core; in processes of tests too
os.environ.setdefault("OMP_NUM_THREADS", "1")
# no test downloads from the hub; without this, each unknown name waits half a minute for an answer
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# compiling takes a third of the collection time: workers and child processes reuse the compiled files of the first
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# waiting for the disk guards files against a power cut, which no test makes; processes that tests start do wait
os.fsync = lambda handle: None

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow`: run the tests that are marked slow too."""
    parser.addoption("--slow", action="store_true", help="also run the tests that are marked slow (make test-all)")


def pytest_configure(config: pytest.Config) -> None:
    """One thread for tensors; two workers compile the tests from both ends, and read the other's half."""
    if config.getoption("numprocesses", None):
        return  # the process that only starts the workers needs no torch
    import torch

    torch.set_num_threads(1)
    worker = getattr(config, "workerinput", {}).get("workerid", "gw0")
    if int(worker.removeprefix("gw")) % 2 and [Path(word).resolve() for word in config.args] == [TESTS]:
        config.args = [str(path) for path in sorted(TESTS.rglob("test_*.py"), reverse=True)]


def pytest_collection_finish() -> None:
    """Modules and tests stay until the end: the search for garbage need not go through them again and again."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session")
def made_site(tmp_path_factory) -> Path:
    """The corpus and the run of tests/web_site.py, made once for all workers of pytest-xdist; copy what you change."""
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
"""The slowest test files, slowest first, so that two workers that take complete files finish at the same time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the slow files first, in a fixed order that does not depend on the collection order; skip slow tests."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: (place.get(item.path.stem, len(LONG)), item.path))
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: `make test-all` or `pytest --slow` runs it")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)
