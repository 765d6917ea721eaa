"""Where the real biology files lie: `../shared/data/biology` beside the repository, absent in a plain checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.contracts import DataRequest, Sample

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "biology"


@pytest.fixture(scope="session")
def real():
    """The folder of real files; tests that need it are skipped where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not there: real biology files are not part of the repository")
    return REAL


@pytest.fixture
def ask():
    """A sample from a reference and meta."""

    def make(task, reference, **meta):
        return Sample("s", task, (), reference, meta={"thinking": "on", "form": "think_answer", **meta})

    return make


@pytest.fixture
def load():
    """(paths, options) -> DataRequest."""

    def make(*paths, limit=None, **options):
        return DataRequest(paths=tuple(map(str, paths)), options=options, limit=limit)

    return make
