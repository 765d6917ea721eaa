"""A registry in a folder of the test, records to put into it, and the command line on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from factory.registry.home import Home
from factory.registry.models import Registry
from factory.registry.records import LineageStep, ModelRecord


class Ended(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def make_record(name: str = "toy", **changes: Any) -> ModelRecord:
    """A record of a run with base, cpt, a control and sft; `sft` was kept."""
    steps = (
        LineageStep("00-base", "base", None, "f0", "b" * 64), LineageStep("01-base-eval", "eval", "00-base", "f1", "e0"),
        LineageStep("02-cpt", "cpt", "00-base", "f2", "h2"), LineageStep("04-ctl", "sft", "00-base", "f4", "h4"),
        LineageStep("06-sft", "sft", "02-cpt", f"f6-{name}", f"h6-{name}"),
        LineageStep("07-sft-eval", "eval", "06-sft", f"f7-{name}", f"e6-{name}"),
    )  # fmt: skip
    stages = {
        "cpt": {"kind": "cpt", "documents": 64, "optim": {"lr": 0.004}}, "ctl": {"kind": "sft", "control": True},
        "sft": {"kind": "sft", "lessons": 32, "epochs": 2, "adapter": {"kind": "none", "rank": 16}},
    }  # fmt: skip
    made = ModelRecord(
        name=name, version=0, domain="toy", stage="sft", base={"ref": "embedded-text", "hash": "b" * 64, "licence": "Apache-2.0"},
        artifacts={}, lineage=steps, config={"recipe": "short", "stages": stages, "eval": {"bootstrap": 200, "seed": 1}}, seed=0,
        versions={"torch": "2"}, data={"pack": {"name": "toy", "version": "1", "hash": "p"}, "files": {"a.jsonl": "d" * 64}},
        evals={"base": {"validation": {"name": "accuracy", "value": 0.2}}, "ctl": {"validation": {"name": "accuracy", "value": 0.9}},
               "sft": {"test": {"name": "accuracy", "value": 0.75, "n": 40, "ci": [0.6, 0.86]},
                       "validation": {"name": "accuracy", "value": 0.7}}},
        licence="CC0-1.0", intended_use="tests", not_for="use", run=name, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return replace(made, **changes)


def make_folder(folder: Path, weights: str = "w", **files: str) -> Path:
    """A model folder."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(weights)
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home.registry)


@pytest.fixture
def put(registry: Registry, tmp_path: Path) -> Callable[..., ModelRecord]:
    """`put("name", "weights", …changes of the record)` registers a model."""
    number = iter(range(1000))

    def register(name: str = "toy", weights: str = "w", **changes: Any) -> ModelRecord:
        return registry.register(make_record(name, **changes), make_folder(tmp_path / f"model-{next(number)}", weights))

    return register


@pytest.fixture
def factory(home: Home, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Call the command in this process."""

    def call(*words: str) -> Ended:
        from factory.cli.app import run

        capfd.readouterr()
        code = run(words)
        return Ended(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def making() -> Any:
    """The two makers above, for tests that build registries of their own."""
    return type("Making", (), {"record": staticmethod(make_record), "folder": staticmethod(make_folder)})
