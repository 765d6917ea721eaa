"""Fake run folders: what `factory mix` reads of a run, and nothing else."""

import json

import pytest
import yaml


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """make_run(name, weights, score, …) -> folder under $FACTORY_HOME/runs."""
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path))

    def make(name, weights, score, *, stage="rl", key=None, tasks=None, seed=0, lr=1e-4, metric="accuracy"):
        folder = tmp_path / "runs" / name
        step = folder / "stages" / f"07-{stage}-eval"
        step.mkdir(parents=True)
        section = {"kind": "rl", "optim": {"lr": lr}, "pieces": {"sampler": {"mix": {"by": "source"}}}}
        config = {"domain": "pathology", "seed": seed, "pack": {}, "stages": {"sft": {"kind": "sft"}, stage: section}}
        if key is None:
            section["pieces"]["sampler"]["mix"]["weights"] = weights
        else:
            config["pack"][key] = weights
        (folder / "resolved.yaml").write_text(yaml.safe_dump(config))
        figures = {"primary": {"name": metric, "value": score}, "tasks": {t: {"value": v} for t, v in (tasks or {}).items()}}
        # The test split says something else: it must never be read.
        wrong = {"primary": {"name": metric, "value": 0.123}, "tasks": {}}
        (step / "eval.json").write_text(json.dumps({"splits": {"validation": figures, "test": wrong}}))
        return folder

    return make
