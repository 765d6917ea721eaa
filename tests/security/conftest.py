"""A registry with one model in a folder of the test, and the command line on it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("registry_conftest", Path(__file__).parents[1] / "registry" / "conftest.py")
assert _SPEC is not None and _SPEC.loader is not None
_THEIRS = importlib.util.module_from_spec(_SPEC)
sys.modules["registry_conftest"] = _THEIRS
_SPEC.loader.exec_module(_THEIRS)
home, registry, put, factory = _THEIRS.home, _THEIRS.registry, _THEIRS.put, _THEIRS.factory


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the repository."""
    return Path(__file__).parents[2]
