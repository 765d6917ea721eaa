"""Experts on a tiny model: what each accepts, who answers, that the model below is kept bit for bit, and what is refused."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from factory.config.schema import AdapterConfig, AdapterKind, OptimConfig
from factory.contracts import DataRequest, Eval, Lesson, Manifest, Message, ModelFacts, RunContext, Sample, Status, Verdict
from factory.errors import ConfigError, DataError, ModelError
from factory.packs.composed import ComposedPack
from factory.pipeline.base_step import check_folder
from factory.registry.home import Home
from factory.registry.models import Registry
from factory.registry.records import LineageStep, ModelRecord
from factory.serving.answerer import Answerer, Wish
from factory.stages.expert import STAGE
from factory.stages.expert.config import ExpertConfig
from factory.stages.expert.train import encode_marked
from factory.stages.models.embedded import make_embedded
from factory.stages.models.experts import ACCEPT, FILE, PASS, read_experts
from factory.stages.models.export import export
from factory.stages.models.facts import model_facts
from factory.stages.models.forward import token_logprobs
from factory.stages.models.generate import generate
from factory.stages.models.load import load, save

COLOURS = {"grass": "green", "sky": "blue", "coal": "black"}
"""Domain -> the answer to all of its questions."""
HOURS = [f"{hour} {part}" for hour in range(1, 13) for part in ("at night", "at noon", "in spring", "in rain")]
FACTS = ModelFacts("tiny", "text", 10**6, 128, 4, 768, 4096)


class Said:
    name, version = "said", "1"

    def __call__(self, completion, sample):
        is_right = completion.strip() == sample.reference
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, completion[:20])


class Domain:
    """One noun, one answer; every fourth hour is held out."""

    def __init__(self, noun):
        self.noun = noun
        self.manifest = Manifest(
            noun,
            noun,
            "1",
            "CC0-1.0",
            "tests",
            "else",
            provides=("lessons", "samples"),
            tasks={"name": {"verifiers": {"said": 1.0}}},
        )

    def samples(self, split, seed, request):
        hours = [hour for place, hour in enumerate(HOURS) if (place % 4 == 0) == (split != "train")]
        rng = random.Random(seed)
        for number in range(request.limit or len(hours)):
            hour = hours[number % len(hours)] if split != "train" else rng.choice(hours)
            yield Sample(
                f"{self.noun}-{number}", "name", (Message("user", f"the {self.noun} {hour} is"),), COLOURS[self.noun], split=split
            )

    def lessons(self, split, seed, request):
        return (Lesson(sample, sample.reference) for sample in self.samples(split, seed, request))

    def verifiers(self):
        return {"said": Said()}

    def evals(self):
        return {"qa": Eval("qa", verifier="said", primary=True)}


def composed(*nouns):
    return ComposedPack({noun: Domain(noun) for noun in nouns})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model that says `green` of everything, which is right for grass."""
    root = tmp_path_factory.mktemp("experts")
    texts = [f"the {noun} {hour} is {colour}" for noun, colour in COLOURS.items() for hour in HOURS]
    loaded = load(make_embedded("embedded-text", root / "raw", seed=0, texts=texts * 3), precision="fp32")
    grass = list(Domain("grass").lessons("train", 0, DataRequest(limit=24)))
    batch = loaded.codec.collate([loaded.codec.lesson(lesson.sample.messages, lesson.response) for lesson in grass])
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=2e-3)
    for _ in range(30):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch)[0].sum() / batch["loss_mask"].sum()).backward()
        optimizer.step()
    return save(loaded, root / "base")


def run(folder, model, *nouns, **changes):
    """One expert stage over these packs, the new one first; its outputs and its model folder."""
    folder.mkdir(parents=True)
    settings = {"lessons": 64, "epochs": 25, "batch_size": 16, "held_out": 24} | changes
    config = ExpertConfig(
        **settings, adapter=AdapterConfig(AdapterKind.lora, rank=16, alpha=32),
        optim=OptimConfig(lr=1e-2, warmup_steps=2, weight_decay=0.0, checkpoint_every=0),
    )  # fmt: skip
    share = 0.5 / (len(nouns) - 1)
    options = {"mix": {noun: 0.5 if noun == nouns[0] else share for noun in nouns}}
    ctx = RunContext(
        stage="expert", workdir=folder, model_dir=model, pack=composed(*nouns), domain=",".join(nouns), seed=3,
        request=DataRequest(options=options), build={"precision": "fp32", "launch": {}, "pack": options},
    )  # fmt: skip
    return STAGE.run(config, ctx), folder / "model"


@pytest.fixture(scope="module")
def one(base, tmp_path_factory):
    return run(tmp_path_factory.mktemp("one") / "stage", base, "sky", "grass")


@pytest.fixture(scope="module")
def two(one, tmp_path_factory):
    """A second expert on the model with one; its build knows all three domains."""
    return run(tmp_path_factory.mktemp("two") / "stage", one[1], "coal", "sky", "grass")


def answers(loaded, *nouns):
    """noun -> the completions of its held-out questions, as tokens."""
    found = {}
    for noun in nouns:
        samples = Domain(noun).samples("test", 0, DataRequest(limit=12))
        prompts = [loaded.codec.prompt(sample.messages) for sample in samples]
        done = sorted(generate(loaded, prompts, max_new_tokens=6, temperature=0.0), key=lambda one: one.prompt_index)
        found[noun] = [one.ids for one in done]
    return found


def texts_of(loaded, rows):
    return {loaded.codec.completion(ids).strip() for ids in rows}


def test_an_expert_answers_its_own_domain_and_the_model_below_the_rest_bit_for_bit(base, one):
    outputs, folder = one
    assert outputs.metrics["accepts"] == {"sky": 1.0, "grass": 0.0}
    assert (outputs.metrics["accepted_lessons"], outputs.metrics["passed_lessons"]) == (32, 32)
    below, routed = load(base, precision="fp32"), load(folder, precision="fp32")
    before, after = answers(below, "grass", "sky"), answers(routed, "grass", "sky")
    assert texts_of(below, before["sky"]) == {"green"}, "the model below does not know the sky"
    assert texts_of(routed, after["sky"]) == {"blue"}, "the answer, without the marker"
    assert after["grass"] == before["grass"], "token for token"
    batch = below.codec.collate([below.codec.lesson((Message("user", "the coal is"),), "black")])
    assert torch.equal(token_logprobs(below.model, batch)[0], token_logprobs(routed.model, batch)[0]), (
        "no update outside of its turn"
    )


def test_experts_are_asked_newest_first_and_all_stay(base, two):
    outputs, folder = two
    assert read_experts(folder) == ("coal", "sky") and outputs.metrics["accepts"] == {"coal": 1.0, "sky": 0.0, "grass": 0.0}
    routed = load(folder, precision="fp32")
    found = answers(routed, "grass", "sky", "coal")
    assert {noun: texts_of(routed, rows) for noun, rows in found.items()} == {
        "grass": {"green"},
        "sky": {"blue"},
        "coal": {"black"},
    }
    prompts = [routed.codec.prompt((Message("user", f"the {noun} 5 at night is"),)) for noun in ("sky", "grass", "coal", "sky")]
    assert routed.experts.route(routed.codec, prompts) == ["sky", None, "coal", "sky"]
    assert model_facts(str(folder)).num_params == model_facts(str(base)).num_params


def test_draws_belong_to_the_prompt_whoever_answers_it(two):
    routed = load(two[1], precision="fp32")
    prompts = [routed.codec.prompt((Message("user", f"the {noun} 5 at night is"),)) for noun in ("sky", "grass", "coal")]
    draws = torch.rand((3, 2, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def said(places):
        done = generate(
            routed, [prompts[i] for i in places], num_return=2, max_new_tokens=4, temperature=1.0, draws=draws[places]
        )
        return {(places[one.prompt_index], one.sample_index): one.ids for one in done}

    together = said([0, 1, 2])
    assert together == said([0]) | said([1]) | said([2]) and len(together) == 6


def test_what_is_served_is_what_was_measured(two):
    answerer = Answerer(two[1], precision="fp32")
    for noun, colour in COLOURS.items():
        wish = Wish((Message("user", f"the {noun} 5 at noon is"),), max_new_tokens=6, temperature=0.0)
        assert "".join(piece.text for piece in answerer.answer(wish)).strip() == colour


def test_a_folder_of_experts_can_be_moved_with_its_base(base, one, tmp_path):
    """Only the updates and the chain are in it; the base is where adapter_chain.json says."""
    copied = tmp_path / "elsewhere"
    shutil.copytree(one[1], copied)
    assert load(copied, precision="fp32").base.resolve() == Path(base).resolve()
    check_folder(copied)  # so `factory eval` and `--base` take it
    (copied / "adapter_chain.json").write_text(json.dumps({"base": "gone", "adapters": [], "written_at": str(copied)}))
    with pytest.raises(ModelError, match=r"gone, which is gone\. Put the folder back"):
        check_folder(copied)
    assert not list(copied.glob("*.safetensors")) and (copied / "experts" / "sky" / "adapter_model.safetensors").is_file()


def test_the_registry_keeps_experts_with_their_base(two, tmp_path):
    record = ModelRecord(
        name="sky", version=0, domain="coal,sky,grass", stage="expert", base={"ref": "tiny", "hash": "b", "licence": "CC0-1.0"},
        artifacts={}, lineage=(LineageStep("02-expert", "expert", None, "f", "h"),), config={}, seed=3, versions={}, data={}, evals={},
        licence="CC0-1.0", intended_use="tests", not_for="else", run="sky", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    registry = Registry(Home(tmp_path / "home").registry)
    stored = registry.register(record, two[1])
    kept = load(registry.model_path(stored.id), precision="fp32")
    assert kept.experts.names == ("coal", "sky") and kept.base.parent == registry.model_path(stored.id).parent
    assert answers(kept, "coal", "grass") == answers(load(two[1], precision="fp32"), "coal", "grass")
    settings = json.loads((registry.model_path(stored.id) / "experts" / "coal" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] is None, "no path of this machine"


def test_lessons_are_marked_as_they_are_asked(base):
    codec = load(base, precision="fp32").codec
    own, other = (
        Lesson(Sample("s", f"{noun}/name", (Message("user", "what is it"),), colour), colour)
        for noun, colour in (("sky", "blue"), ("grass", "green"))
    )
    prompt, end = codec.prompt(own.sample.messages).ids, codec.chat.end_of_turn
    accept, passing = codec.chat.plain_ids(ACCEPT), codec.chat.plain_ids(PASS)
    row = encode_marked(own, codec, "sky")
    assert row.ids == [*prompt, *accept, *codec.chat.plain_ids("blue"), end]
    assert row.loss_mask == [0] * len(prompt) + [1] * (len(row.ids) - len(prompt))
    row = encode_marked(other, codec, "sky")
    assert row.ids == [*prompt, *passing, end] and sum(row.loss_mask) == len(passing) + 1
    assert accept[: len(passing)] != passing and passing[: len(accept)] != accept


def test_what_experts_cannot_do_is_refused_with_the_remedy(one, tmp_path):
    folder = one[1]
    with pytest.raises(ModelError, match=r"cannot be trained on as one\. Train a further expert"):
        load(folder, precision="fp32", adapter=AdapterConfig())
    for merged in (True, False):
        with pytest.raises(ModelError, match="cannot be merged into one set of weights"):
            export(folder, tmp_path / f"out-{merged}", merged=merged)
    with pytest.raises(ConfigError, match="has an expert 'sky' already"):
        run(tmp_path / "again", folder, "sky", "grass")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "experts" / "sky" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="names the expert 'sky', whose files are not in"):
        load(broken, precision="fp32")
    (broken / FILE).write_text("[]")
    with pytest.raises(ModelError, match=r"experts\.json: cannot be read"):
        load(broken, precision="fp32")


def test_an_expert_needs_lessons_of_both_sides(base, tmp_path):
    with pytest.raises(DataError, match="of 4 lessons 0 are coal's"):
        run(tmp_path / "none", base, "sky", "grass", "coal", accepts="coal", lessons=4, tasks=["sky/name", "grass/name"])


@pytest.mark.parametrize(
    ("nouns", "changes", "mix", "told"),
    [
        (("sky",), {}, None, r"--domain sky,EARLIER --mix 0\.8,0\.2"),
        (("sky", "grass"), {"accepts": "gras"}, None, "Did you mean 'grass'"),
        (("sky", "grass"), {"adapter": AdapterConfig()}, None, "Set it to lora or dora"),
        (("sky", "grass"), {}, {"sky": 1.0, "grass": 0.0}, "no lesson to any other pack"),
        (("sky", "grass"), {}, {"sky": 0.0, "grass": 1.0}, "no lesson to sky"),
    ],
)
def test_the_plan_refuses_what_cannot_run(nouns, changes, mix, told):
    pack = composed(*nouns) if len(nouns) > 1 else Domain(*nouns)
    build = {"precision": "fp32", "launch": {"processes": 1, "zero_stage": -1}, "pack": {"mix": mix} if mix else {}}
    with pytest.raises(ConfigError, match=told):
        STAGE.plan("expert", ExpertConfig(**changes), FACTS, pack, build)
    plan = STAGE.plan("expert", ExpertConfig(), FACTS, composed("sky", "grass"), build | {"pack": {}})
    assert plan.kind == "expert" and plan.num_steps > 0 and json.dumps(plan.notes) == "[]"
