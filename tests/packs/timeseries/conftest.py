"""Where the real files lie, and small helpers."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "timeseries"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real series; the test is skipped where it is not."""
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there: the real files are not part of the repository")
    return DATA
