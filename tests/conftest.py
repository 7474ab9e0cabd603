"""What the tests share."""

import gc
import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: a core a worker

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run whole commands take longest: they are handed out first."""
    items.sort(key=lambda item: not commands(item))


def pytest_collection_finish() -> None:
    """What is loaded stays, so that no collection of garbage walks it, and there are fewer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def commands(item: pytest.Item) -> bool:
    """Whether the test's file has names from `command_line.py`."""
    names = vars(getattr(item, "module", None) or object).values()
    return any(getattr(name, "__module__", "") == "command_line" for name in names)
