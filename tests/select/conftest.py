"""The colour pack as an installed package, and a base that answers its questions by chance, made once per session."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from factory.plugins import load_stage

ROOT = Path(__file__).parents[2]
KITS = (Path(__file__).parent / "kit", ROOT / "tests" / "pipeline" / "fakekit")


@pytest.fixture(scope="session")
def kit():
    """`colours` and the fake kit on sys.path here and on PYTHONPATH for workers."""
    before = os.environ.get("PYTHONPATH")
    sys.path[:0] = [str(path) for path in KITS]
    os.environ["PYTHONPATH"] = ":".join(filter(None, [*map(str, KITS), str(ROOT), before]))
    load_stage.cache_clear()
    import colours_bench

    yield colours_bench
    for path in KITS:
        sys.path.remove(str(path))
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before
    load_stage.cache_clear()


@pytest.fixture(scope="session")
def taught(kit, tmp_path_factory) -> Path:
    import torch

    torch.set_num_threads(1)
    return kit.make_base(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def select(kit, taught, tmp_path):
    """select(folder=…, model=…, **settings) -> (workdir, Outputs)."""

    def run(folder="run", model=None, ctx=None, **settings):
        return tmp_path / folder, kit.select(tmp_path / folder, model or taught, ctx=ctx, **settings)

    return run
