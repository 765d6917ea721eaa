"""Tiny model folders that share a base, and runs of the merge stage on them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from factory.contracts import DataRequest, Manifest, Message, RunContext, Sample
from factory.stages.merge import STAGE
from factory.stages.merge.config import MergeConfig

WORDS = ("wait", "alternatively", "the", "sky", "is", "red", "blue", "first", "however", "so")


def texts() -> list[str]:
    return [f"{a} {b} {c}. {b.capitalize()}, {a}" for a in WORDS for b in WORDS for c in WORDS]


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    from factory.stages.models.embedded import make_embedded

    return make_embedded("embedded-text", tmp_path_factory.mktemp("base") / "model", seed=1, texts=texts())


@pytest.fixture(scope="session")
def sibling(tmp_path_factory, base) -> Path:
    """The base with other weights: what another stage could have made of it."""
    import torch

    from factory.stages.models.load import load, save

    loaded = load(base, precision="fp32")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return save(loaded, tmp_path_factory.mktemp("sibling") / "model")


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, base) -> Path:
    """A LoRA adapter on the base with weights that are not zero."""
    import torch

    from factory.config.schema import AdapterConfig, AdapterKind
    from factory.stages.models.load import load, save

    loaded = load(base, precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=2, alpha=4))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return save(loaded, tmp_path_factory.mktemp("adapter") / "model")


def samples(split, seed, request):
    for index in range(request.limit or 4):
        yield Sample(f"{split}{index}", "sky", (Message("user", f"the sky {WORDS[index % 10]}"),), "blue", split=split)


def pack():
    manifest = Manifest("small", "Small", "1", "Apache-2.0", "tests", "anything else")
    return SimpleNamespace(manifest=manifest, samples=samples)


@pytest.fixture(autouse=True)
def colours(monkeypatch):
    """Verifier workers find `colours.py`; test folders are no packages."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.fixture
def run_stage(tmp_path):
    """run_stage({stage: model folder}, **config) -> (workdir, Outputs)."""

    def run(models, *, start_dir=None, build=None, domain="small", its_pack=None, **settings):
        workdir = tmp_path / "work"
        workdir.mkdir()
        ctx = RunContext(
            stage="merge", workdir=workdir, model_dir=start_dir or Path("nowhere"), pack=its_pack or pack(), domain=domain, seed=7,
            request=DataRequest(), build={"precision": "fp32"} | (build or {}),
            inputs={name: folder.parent for name, folder in models.items()},
        )  # fmt: skip
        config = MergeConfig(**{"reads": list(models)} | settings)
        return workdir, STAGE.run(config, ctx)

    return run
