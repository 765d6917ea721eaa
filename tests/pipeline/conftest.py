"""The fake kit as an installed package: on sys.path here, on PYTHONPATH for workers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# For `in_process.py`; test folders are no packages.
sys.path.insert(0, str(Path(__file__).parent))

from factory.plugins import load_stage

KIT = Path(__file__).parent / "fakekit"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny base folder, with pack and stage kinds of the kit installed."""
    monkeypatch.syspath_prepend(str(KIT))
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, [str(KIT), os.environ.get("PYTHONPATH", "")])))
    load_stage.cache_clear()
    from fakekit.train import make_base

    yield make_base(tmp_path / "base")
    load_stage.cache_clear()
