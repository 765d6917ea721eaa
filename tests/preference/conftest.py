"""Tiny random bases made once per session, and runs of the stages on them."""

import sys
from pathlib import Path

import pytest

# The rank program imports the module by its name too; test folders are no packages.
sys.path.insert(0, str(Path(__file__).parent))

import taste


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return taste.make_base(tmp_path_factory.mktemp("taste-text") / "base")


@pytest.fixture(scope="session")
def vl_base(tmp_path_factory):
    return taste.make_base(tmp_path_factory.mktemp("taste-vl") / "base", "vl")


@pytest.fixture
def run_stage(base, tmp_path):
    """run_stage(kind, folder=, stop_after=, …, **config) -> (workdir, rows of the log, Outputs or None)."""

    def run(kind, folder="run", *, stop_after=None, model=None, pack=None, inputs=None, **settings):
        from factory.plugins import load_stage

        rows = []

        def log(**row):
            rows.append(row)
            if len(rows) == stop_after:
                raise KeyboardInterrupt

        ctx = taste.context(tmp_path / folder, model or base, pack=pack, log=log, inputs=inputs)
        try:
            outputs = load_stage(kind).run(taste.config(kind, **settings), ctx)
        except KeyboardInterrupt:
            outputs = None
        return ctx.workdir, rows, outputs

    return run
