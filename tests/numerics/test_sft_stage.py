"""The cpt and sft stages as a build uses them: plan, run, learn, save, refuse."""

import json
from types import SimpleNamespace

import pytest
import torch

from factory.contracts import DataRequest, Lesson, Message, Sample
from factory.errors import ConfigError, DataError
from factory.plugins import load_stage
from factory.stages.cpt.config import CptConfig
from factory.stages.cpt.general import count_general, read_general
from factory.stages.metrics import read_metrics
from factory.stages.models.codec import Codec
from factory.stages.models.facts import model_facts
from factory.stages.models.load import load
from factory.stages.objectives import TokenNLL
from factory.stages.sft.config import SftConfig
from factory.stages.sft.train import encode, shorten

torch.set_num_threads(1)
BUILD = {"precision": "fp32", "launch": {"processes": 2, "zero_stage": -1, "threads": 1}}


def plan(world, kind, config, ref="embedded-text", modality="text"):
    return load_stage(kind).plan(kind, config, model_facts(ref, modality), world.SmallPack(modality), BUILD)


def test_cpt_plan_counts_steps_and_tokens(world):
    found = plan(world, "cpt", CptConfig(documents=100, epochs=3, batch_size=32, pack_length=256))
    # 300 documents in batches of 32: 9 full ones and one of 12
    assert (found.num_samples, found.num_steps, found.num_tokens) == (300, 10, 300 * 256)
    assert found.peak_memory_bytes > 0 and "weights" in found.memory_formula and found.notes == ()


def test_sft_plan_counts_steps(world):
    found = plan(world, "sft", SftConfig(lessons=64, epochs=2, batch_size=32), "embedded-vl", "vl")
    assert (found.num_samples, found.num_steps) == (128, 4)


@pytest.mark.parametrize(("kind", "items"), [("cpt", {"documents": 100}), ("sft", {"lessons": 100})])
def test_plan_counts_the_pictures_that_are_kept_between_epochs(world, kind, items):
    kept, small, none, once = (
        plan(world, kind, world.stage_config(kind, **items, **more), "embedded-vl", "vl")
        for more in ({"epochs": 3}, {"epochs": 3, "cache_mb": 2}, {"epochs": 3, "cache_mb": 0}, {"epochs": 1})
    )
    # 64 x 64 pixels of three channels as float32
    assert kept.peak_memory_bytes - none.peak_memory_bytes == 100 * 64 * 64 * 3 * 4
    assert small.peak_memory_bytes - none.peak_memory_bytes == 2 * 2**20 and "2 MiB" in small.memory_formula
    assert once.peak_memory_bytes == none.peak_memory_bytes and "kept" not in once.memory_formula


def test_plan_says_when_the_general_share_has_no_files(world):
    (note,) = plan(world, "cpt", CptConfig(general_share=0.2)).notes
    assert note == "general_share is 0 instead of 0.2: stages.cpt.general_paths names no files"
    (note,) = plan(world, "cpt", CptConfig(documents=50, general_share=0.2, general_paths=["web.jsonl"])).notes
    assert note == "10 of 50 documents are general text from web.jsonl"


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("cpt", CptConfig(general_share=1.0), r"stages\.cpt\.general_share is 1\.0"),
        ("cpt", CptConfig(documents=0), r"stages\.cpt\.documents is 0; give 1 or more"),
        ("cpt", CptConfig(pack_length=9000), r"stages\.cpt\.pack_length is 9000; the model reads 2 to 4096 tokens"),
        ("sft", SftConfig(max_length=0), r"stages\.sft\.max_length is 0"),
        ("sft", SftConfig(batch_size=0), r"stages\.sft\.batch_size is 0"),
    ],
)
def test_plan_refuses_what_cannot_run(world, kind, config, message):
    with pytest.raises(ConfigError, match=message):
        plan(world, kind, config)


def test_plan_refuses_a_pack_without_the_data(world):
    pack = SimpleNamespace(manifest=SimpleNamespace(name="bare", provides=("samples",)))
    facts = model_facts("embedded-text", "text")
    for kind, config, what in (("cpt", CptConfig(), "corpus"), ("sft", SftConfig(), "lessons")):
        with pytest.raises(ConfigError, match=f"pack 'bare' provides no {what}"):
            load_stage(kind).plan(kind, config, facts, pack, BUILD)


def web(tmp_path, num):
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps({"text": f"general text {i} <image>"}) + "\n" for i in range(num)))
    return str(path)


def test_general_documents_are_drawn_from_the_whole_file_with_the_seed(tmp_path):
    config = CptConfig(documents=100, general_share=0.2, general_paths=[web(tmp_path, 400)])
    assert count_general(config) == 20
    first, again, other = (read_general(config, DataRequest(), seed) for seed in (1, 1, 2))
    assert len(first) == 20 and first == again and first != other
    assert len({d.id for d in first}) == 20 and all("<image>" not in d.text for d in first)
    assert any("general text 3" in d.text for d in first + other)  # not only the head of the file


def test_every_general_row_is_equally_likely(tmp_path):
    config = CptConfig(documents=20, general_share=0.5, general_paths=[web(tmp_path, 40)])
    hits = [0] * 40
    for seed in range(200):
        for document in read_general(config, DataRequest(), seed):
            hits[int(document.text.split()[2])] += 1
    # 200 draws of 10 out of 40: each row 50 times on average, standard deviation sqrt(200 * 1/4 * 3/4) = 6.1; 5 of them = 31
    assert all(19 <= count <= 81 for count in hits)


def test_general_rows_without_text_stop_the_load(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"body": "x"}\n' * 5)
    with pytest.raises(DataError):
        read_general(CptConfig(general_share=0.5, general_paths=[str(path)]), DataRequest(), 0)


def held_out_loss(world, model_dir, kind):
    loaded = load(model_dir, precision="fp32")
    if kind == "cpt":
        rows = [loaded.codec.document(d.text) for d in world.SmallPack().corpus("train", 0, DataRequest(limit=8))]
    else:
        rows = [encode(lesson, loaded.codec) for lesson in world.SmallPack().lessons("train", 0, DataRequest(limit=8))]
    batch = loaded.codec.collate(rows)
    with torch.no_grad():
        loss, _ = TokenNLL().loss(loaded.model, batch, TokenNLL().counts(batch))
    return float(loss)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("cpt", {"documents": 40, "epochs": 2, "batch_size": 8, "pack_length": 96}),
        ("cpt", {"documents": 40, "epochs": 2, "batch_size": 8, "pack_length": 0}),
        ("sft", {"lessons": 40, "epochs": 2, "batch_size": 8, "max_length": 256}),
    ],
)
def test_a_stage_learns_saves_and_logs(world, text_base, tmp_path, kind, settings):
    config = world.stage_config(kind, optim={"lr": 5e-3, "checkpoint_every": 0}, **settings)
    ctx = world.context(tmp_path / "work", text_base)
    outputs = load_stage(kind).run(config, ctx)
    before, after = held_out_loss(world, text_base, kind), held_out_loss(world, ctx.workdir / outputs.model, kind)
    assert after < before - 1.0
    rows = read_metrics(ctx.workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 11)) and {row["total"] for row in rows} == {10}
    assert {"loss", "lr", "grad_norm", "tokens", "tokens_per_s"} <= rows[0].keys()
    assert outputs.metrics["num_steps"] == 10 and outputs.metrics["last_step"]["loss"] == rows[-1]["loss"]


def test_packing_changes_no_figure_of_a_run(world, text_base, tmp_path):
    losses = []
    for pack_length in (0, 96):
        config = world.stage_config("cpt", documents=24, batch_size=8, pack_length=pack_length, optim={"checkpoint_every": 0})
        ctx = world.context(tmp_path / str(pack_length), text_base)
        load_stage("cpt").run(config, ctx)
        losses.append([(row["loss"], row["tokens"]) for row in read_metrics(ctx.workdir / "metrics.jsonl")])
    for (one, tokens), (other, same_tokens) in zip(*losses, strict=True):
        assert tokens == same_tokens and one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("kind", ["cpt", "sft"])
def test_images_and_texts_train_together(world, vl_base, tmp_path, kind):
    settings = {"cpt": {"documents": 12, "pack_length": 128}, "sft": {"lessons": 12, "max_length": 256, "epochs": 1}}[kind]
    config = world.stage_config(kind, batch_size=6, optim={"checkpoint_every": 0, "micro_batch_size": 2}, **settings)
    ctx = world.context(tmp_path / "work", vl_base, modality="vl")
    load_stage(kind).run(config, ctx)
    before = dict(load(vl_base, precision="fp32").model.named_parameters())
    after = dict(load(ctx.workdir / "model", precision="fp32").model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("visual" in name for name in moved) and any("language_model" in name for name in moved)


@pytest.mark.parametrize("kind", ["cpt", "sft"])
def test_what_is_kept_in_memory_changes_nothing(world, vl_base, tmp_path, kind, monkeypatch):
    settings = {"cpt": {"documents": 12, "pack_length": 128}, "sft": {"lessons": 12, "max_length": 256}}[kind]
    models, encoded = [], []
    for write in ("document", "lesson"):
        real = getattr(Codec, write)
        monkeypatch.setattr(Codec, write, lambda self, *given, real=real: encoded.append(1) or real(self, *given))
    for cache_mb, calls in ((512, 12), (0, 24)):
        config = world.stage_config(
            kind, batch_size=6, epochs=2, cache_mb=cache_mb, optim={"checkpoint_every": 0, "micro_batch_size": 2}, **settings
        )
        ctx = world.context(tmp_path / str(cache_mb), vl_base, modality="vl")
        encoded.clear()
        load_stage(kind).run(config, ctx)
        assert len(encoded) == calls, "an item is encoded once in a run, or once in an epoch"
        models.append((ctx.workdir / "model" / "model.safetensors").read_bytes())
    assert models[0] == models[1]


def test_long_lessons_are_cut_and_counted(world, text_base, tmp_path):
    config = world.stage_config("sft", lessons=8, epochs=1, batch_size=8, max_length=40, optim={"checkpoint_every": 0})
    ctx = world.context(tmp_path / "work", text_base)
    load_stage("sft").run(config, ctx)
    (row,) = read_metrics(ctx.workdir / "metrics.jsonl")
    codec = load(text_base, precision="fp32").codec
    lengths = [len(encode(lesson, codec).ids) for lesson in ctx.pack.lessons("train", 3, DataRequest(limit=8))]
    assert row["truncated"] == sum(length > 40 for length in lengths) > 0


def test_a_prompt_that_fills_the_row_is_refused_by_name(text_base):
    codec = load(text_base, precision="fp32").codec
    lesson = Lesson(Sample("long-7", "ask", (Message("user", "word " * 50),), "x"), "the answer")
    with pytest.raises(DataError, match=r"lesson long-7: its prompt alone fills max_length=20"):
        shorten(encode(lesson, codec), 20, "long-7")


def test_only_what_the_assistant_wrote_is_learned(text_base):
    codec = load(text_base, precision="fp32").codec
    messages = (Message("user", "the red thing"), Message("assistant", "the red thing"), Message("user", "the red thing"))
    row = encode(Lesson(Sample("s", "ask", messages, "x"), "the red thing"), codec)
    learned = [i for i, bit in zip(row.ids, row.loss_mask, strict=True) if bit]
    # The same words stand in the prompt three times; only the last ones, and the end of the turn, are learned.
    assert codec.completion(learned) == "the red thing" and learned[-1] in codec.eos_ids
    assert row.loss_mask == [0] * (len(row.ids) - len(learned)) + [1] * len(learned)
