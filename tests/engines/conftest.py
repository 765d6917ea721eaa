"""A small taught policy, runs of the RL stage with an engine, and the two servers: a scripted one, and the real vLLM."""

import os
import sys
from pathlib import Path

import pytest

from factory.config.schema import AdapterConfig, OptimConfig, VllmConfig
from factory.contracts import DataRequest, RunContext
from factory.stages.rl import STAGE
from factory.stages.rl.config import RlConfig

# The verifier workers inherit this path and import the module by its name; test folders are no packages.
sys.path.insert(0, str(Path(__file__).parents[1] / "rl"))

import learnable


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A model folder: the embedded text model, taught for 40 steps to answer `red`, `green` or `blue` at random."""
    import torch

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load, save

    root = tmp_path_factory.mktemp("policy")
    loaded = load(make_embedded("embedded-text", root / "raw", seed=0, texts=learnable.texts()), precision="fp32")
    batch = loaded.codec.collate([loaded.codec.lesson(lesson.sample.messages, lesson.response) for lesson in learnable.lessons()])
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch)[0].sum() / batch["loss_mask"].sum()).backward()
        optimizer.step()
    save(loaded, root / "taught")
    return root / "taught"


@pytest.fixture
def run_stage(base, tmp_path):
    """run_stage(vllm={...}, on_row=None, **config) -> (workdir, rows of the log, Outputs)."""

    def run(vllm, folder="run", on_row=None, adapter=None, **changes):
        workdir, rows = tmp_path / folder, []
        workdir.mkdir(exist_ok=True)

        def log(**row):
            rows.append(row)
            if on_row is not None:
                on_row(row)

        settings = {"num_steps": 3, "samples": 4, "prompts_per_step": 4, "group_size": 8, "max_new_tokens": 6, "preset": "grpo"}
        config = RlConfig(
            **settings | {"engine": "vllm"} | changes, adapter=AdapterConfig(**adapter or {}),
            optim=OptimConfig(lr=1e-3, warmup_steps=0, checkpoint_every=1, weight_decay=0.0),
        )  # fmt: skip
        build = {
            "precision": "fp32", "mixture": {}, "launch": {"threads": 1, "vllm": vllm},
            "pool": {"workers": 1, "max_error_rate": 1.0},
        }  # fmt: skip
        ctx = RunContext(
            stage="rl", workdir=workdir, model_dir=base, pack=learnable.pack("exact"), domain="learnable:VERIFIERS", seed=7,
            request=DataRequest(), build=build, log=log,
        )  # fmt: skip
        return workdir, rows, STAGE.run(config, ctx)

    return run


@pytest.fixture(scope="session")
def real_vllm():
    """Settings of the real server; the test is skipped where vLLM's environment is not set up (`factory doctor` says how)."""
    from factory.stages.rl.engines.vllm_server import vllm_python

    python = vllm_python(VllmConfig(), os.environ)
    if not python.is_file():
        pytest.skip(f"no vLLM environment at {python}: `factory doctor` prints how to make it; FACTORY_VLLM_PYTHON names another")
    return {"python": str(python)}
