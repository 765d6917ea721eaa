"""A model with a DNA encoder goes through every stage of its recipe, cut to a few steps, and is measured with and without DNA."""

import itertools
import json

import pytest

from factory.config.compose import compose
from factory.contracts import DataRequest, RunContext
from factory.domains.biology.pack import PACK
from factory.plugins import load_stage


@pytest.mark.slow
def test_every_stage_takes_the_dna_model(tmp_path):
    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.load import load

    cut = [
        "eval.samples=8", "eval.validation_samples=4", "eval.batch_size=4", "eval.max_new_tokens=8", "eval.bootstrap=20",
        "stages.cpt.documents=8", "stages.cpt.optim.warmup_steps=1", "stages.sft.lessons=8", "stages.sft.epochs=1", "stages.sft.batch_size=4",
        "stages.sft.optim.vision_lr_scale=0.0", "stages.sft.optim.projector_lr_scale=1.0", "stages.sft.adapter.kind=lora",
        "stages.rl.num_steps=1", "stages.rl.samples=4", "stages.rl.prompts_per_step=2", "stages.rl.group_size=2", "stages.rl.max_new_tokens=8",
    ]  # fmt: skip
    composed = compose("biology", recipe="embedded-dna", overrides=cut)
    request = DataRequest(options=composed.plain["pack"])
    texts = [
        lesson.sample.text() + lesson.response
        for lesson in PACK.lessons("train", 0, DataRequest(limit=40, options=request.options))
    ]
    model = make_embedded("embedded-dna", tmp_path / "base", seed=0, texts=texts)
    encoders = [load(model, precision="fp32").model.dna_encoder.state_dict()]
    for name in ("cpt", "sft", "rl", "eval"):
        config = composed.config.stages[name] if name != "eval" else load_stage("eval").config_type()
        workdir = tmp_path / name
        workdir.mkdir()
        context = RunContext(name, workdir, model, PACK, "biology", 0, request, composed.plain)
        outputs = load_stage(name).run(config, context)
        if outputs.model:
            model = workdir / outputs.model
            encoders.append(load(model, precision="fp32").model.dna_encoder.state_dict())
    same = [all((a[key] == b[key]).all() for key in a) for a, b in itertools.pairwise(encoders)]
    assert same[:2] == [False, True]  # cpt trains the encoder; sft with an adapter leaves it frozen
    found = json.loads((tmp_path / "eval" / "eval.json").read_text())
    assert found["splits"]["test"]["primary"]["n"] == found["blind"]["primary"]["n"] == 8
    assert list((tmp_path / "rl").rglob("*.safetensors"))
