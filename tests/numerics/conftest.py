"""The small world of tests/distributed, and its bases made once per session."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def world():
    path = Path(__file__).parents[1] / "distributed" / "small_world.py"
    spec = importlib.util.spec_from_file_location("small_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_world"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def text_base(world, tmp_path_factory) -> Path:
    return world.make_base(tmp_path_factory.mktemp("text-base"), "text")


@pytest.fixture(scope="session")
def vl_base(world, tmp_path_factory) -> Path:
    return world.make_base(tmp_path_factory.mktemp("vl-base"), "vl")
