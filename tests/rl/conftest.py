"""A tiny policy that answers with a random colour, made once per session, and runs of the stage on it."""

import sys
from pathlib import Path

import pytest

from factory.config.schema import OptimConfig
from factory.contracts import DataRequest, RunContext
from factory.stages.rl import STAGE
from factory.stages.rl.config import RlConfig

# The verifier workers inherit this path and import the module by its name; test folders are no packages.
sys.path.insert(0, str(Path(__file__).parent))

import learnable
import seeing
from hypothesis import settings

# A test machine may be shared: how long one example takes says nothing about the code.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A model folder: the embedded text model, taught for 40 steps to answer `red`, `green` or `blue` at random."""
    import torch

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load, save

    root = tmp_path_factory.mktemp("policy")
    loaded = load(make_embedded("embedded-text", root / "raw", seed=0, texts=learnable.texts()), precision="fp32")
    rows = [loaded.codec.lesson(lesson.sample.messages, lesson.response) for lesson in learnable.lessons()]
    batch = loaded.codec.collate(rows)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch)[0].sum() / batch["loss_mask"].sum()).backward()
        optimizer.step()
    save(loaded, root / "taught")
    return root / "taught"


@pytest.fixture(scope="session")
def seeing_base(tmp_path_factory):
    """A model folder: the embedded vision-language model, taught to think, zoom and answer with a random colour."""
    return seeing.taught(tmp_path_factory.mktemp("seeing"))


@pytest.fixture
def run_seeing(run_stage, seeing_base):
    """As `run_stage`, with the vision-language policy and questions about images."""

    def run(*args, **changes):
        return run_stage(*args, kit=seeing, model_dir=seeing_base, **{"max_new_tokens": 40, "group_size": 4} | changes)

    return run


@pytest.fixture
def run_stage(base, tmp_path):
    """run_stage(folder=…, verifier=…, build=…, **config) -> (workdir, rows of the log, Outputs)."""

    def run(folder="run", verifier="exact", build=None, stop_after=None, kit=learnable, model_dir=base, **changes):
        workdir = tmp_path / folder
        workdir.mkdir(exist_ok=True)
        logged = []

        def log(**row):
            logged.append(row)
            if stop_after is not None and len(logged) == stop_after:
                raise KeyboardInterrupt

        optim = {"lr": 1e-3, "warmup_steps": 0, "checkpoint_every": 2, "weight_decay": 0.0}
        optim.update(changes.pop("optim", {}))
        changes.setdefault("preset", "grpo")
        config = RlConfig(
            **{"num_steps": 4, "samples": 4, "prompts_per_step": 4, "group_size": 8, "max_new_tokens": 6} | changes,
            optim=OptimConfig(**optim),
        )
        plain = {
            "precision": "fp32",
            "mixture": {},
            "launch": {},
            "pool": {"workers": 1, "timeout_s": 120.0, "max_error_rate": 1.0},
        }
        ctx = RunContext(
            stage="rl",
            workdir=workdir,
            model_dir=model_dir,
            pack=kit.pack(verifier),
            domain=f"{kit.__name__}:VERIFIERS",
            seed=7,
            request=DataRequest(),
            build=plain | (build or {}),
            log=log,
        )
        return workdir, logged, STAGE.run(config, ctx)

    return run
