"""Registered models: full weights (text, vision-language) and an adapter, with a record as a build writes it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """FACTORY_HOME of the test."""
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def record():
    """Fields of a record, which a test may change: `record(domain="pathology")`."""

    def make(**more):
        from factory.registry.records import LineageStep, ModelRecord

        fields = dict(
            name="demo", version=0, domain="timeseries", stage="sft",
            base={"ref": "qwen3-0.6b", "hub_id": "Qwen/Qwen3-0.6B", "hash": "ab", "revision": None, "licence": "Apache-2.0"},
            artifacts={}, lineage=(LineageStep("00-base", "base", None, "f0", "h0"), LineageStep("02-sft", "sft", "00-base", "f1", "h1")),
            config={"seed": 3}, seed=3, versions={"factory": "0.1.0"},
            data={"pack": {"name": "timeseries", "version": "0.2.0", "license": "Apache-2.0"}, "files": {},
                  "sources": [{"id": "made", "license": "Apache-2.0", "bundled": True}, {"id": "other", "license": "CC-BY-NC-4.0"}]},
            evals={"sft": {"test": {"name": "accuracy", "value": 0.75, "n": 40, "ci": [0.6, 0.86]}, "validation": {"name": "accuracy", "value": 0.7}},
                   "base": {"test": {"name": "accuracy", "value": 0.25, "n": 40, "ci": [0.14, 0.4]}, "validation": None}},
            licence="Apache-2.0", intended_use="Teaching.", not_for="Decisions.", run="demo", created="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        return ModelRecord(**{**fields, **more})

    return make


@pytest.fixture
def registered(home, record):
    """Put a folder into the registry: id of the model."""

    def put(folder: Path, **more) -> str:
        from factory.registry.models import Registry

        return Registry(home / "registry").register(record(**more), folder).id

    return put


@pytest.fixture
def factory(capfd: pytest.CaptureFixture[str]):
    """Call the command in this process: (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        from factory.cli.app import run

        capfd.readouterr()
        code = run([str(word) for word in words])
        return (code, *capfd.readouterr())

    return call
