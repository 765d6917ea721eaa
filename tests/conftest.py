"""Settings that every test needs before torch is imported, and the small world that several folders share."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

# Two OpenMP threads can be many times slower than one on a shared machine; cores are used by processes (pytest -n 2).
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def world():
    """The module tests/distributed/small_world.py, under its own name, so that processes can import it too."""
    path = Path(__file__).parent / "distributed" / "small_world.py"
    spec = importlib.util.spec_from_file_location("small_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_world"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def text_base(world, tmp_path_factory) -> Path:
    """Folder of the small text model."""
    return world.make_base(tmp_path_factory.mktemp("text-base"), "text")


@pytest.fixture(scope="session")
def vl_base(world, tmp_path_factory) -> Path:
    """Folder of the small vision-language model."""
    return world.make_base(tmp_path_factory.mktemp("vl-base"), "vl")
