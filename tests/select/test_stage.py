"""A select stage on a small real model: what it writes, that a kill changes no byte, and that its lessons teach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from factory.contracts import DataRequest
from factory.errors import ConfigError, DataError
from factory.pipeline import folder as run_folder
from factory.plugins import load_stage
from factory.stages.lesson_files import read_lessons, read_pairs, read_prompts
from factory.stages.models.facts import model_facts
from factory.stages.select import progress
from factory.stages.select.config import Fallback, LessonRule, PairRule, SelectConfig

FILES = ("rollouts.jsonl", "prompts.jsonl", "lessons.jsonl", "pairs.jsonl")


def rows(workdir: Path, name: str = "rollouts.jsonl") -> list[dict]:
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def content(workdir: Path) -> dict[str, bytes]:
    return {name: (workdir / name).read_bytes() for name in FILES}


def test_files_agree_with_the_rollouts(select):
    workdir, outputs = select(
        lessons=LessonRule.shortest_correct, pairs=PairRule.right_wrong, repeat=[[0.2, 6], [0.6, 4], [0.8, 2]]
    )
    rollouts, prompts = rows(workdir), read_prompts(workdir)
    assert [row["sample"] for row in rollouts] == [stat.sample_id for stat in prompts for _ in range(8)]
    assert Counter(row["index"] for row in rollouts) == dict.fromkeys(range(8), 6)
    answers = dict(zip([stat.sample_id for stat in prompts], ["red", "green", "blue"] * 2, strict=True))
    for stat in prompts:
        own = [row for row in rollouts if row["sample"] == stat.sample_id]
        right = [row for row in own if row["text"].endswith(answers[stat.sample_id])]
        assert (stat.num_right, stat.num_counted) == (len(right), 8)
        assert stat.variance == pytest.approx(stat.pass_rate * (1 - stat.pass_rate))
        assert stat.kept == (0 < len(right) < 8) and stat.repeat == (
            0 if not stat.kept else 6 if len(right) < 1.6 else 4 if len(right) < 4.8 else 2 if len(right) < 6.4 else 1
        )
    kept = {stat.sample_id for stat in prompts if stat.kept}
    assert len(kept) >= 3, "the taught policy answers by chance"
    lessons = {lesson.sample.id: lesson.response for lesson in read_lessons(workdir)}
    assert set(lessons) <= kept and lessons
    for name, response in lessons.items():
        right = [row for row in rollouts if row["sample"] == name and row["finished"] and row["text"].endswith(answers[name])]
        assert response == min(right, key=lambda row: (row["tokens"], row["index"]))["text"]
    for pair in read_pairs(workdir):
        name = pair.sample.id
        assert pair.chosen.endswith(answers[name]) and not pair.rejected.endswith(answers[name]) and name in kept
    assert outputs.files == FILES and outputs.model is None
    assert outputs.metrics["num_kept"] == len(kept) and outputs.metrics["num_lessons"] == len(lessons)
    assert outputs.metrics["mean_pass_rate"] == pytest.approx(sum(stat.num_right for stat in prompts) / 48)


def test_a_failed_verifier_masks_and_never_lowers_a_pass_rate(select):
    workdir, _ = select(ctx={"verifier": "flaky"})
    rollouts, prompts = rows(workdir), read_prompts(workdir)
    masked = [row for row in rollouts if row["masked"]]
    assert masked and all("green" in row["text"] for row in masked)
    for stat in prompts:
        own = [row for row in rollouts if row["sample"] == stat.sample_id and not row["masked"]]
        assert stat.num_counted == len(own) and stat.num_masked == 8 - len(own)
        assert stat.pass_rate == (sum(row["value"] for row in own) / len(own) if own else None)
    assert not any("green" in lesson.response for lesson in read_lessons(workdir))


def test_the_packs_lesson_stands_in_where_no_rollout_is_right(select):
    # Greedy answers are one word for all six questions, so at most two of the three answers can be met.
    workdir, outputs = select(
        rollouts=1, temperature=0.0, fallback=Fallback.pack, max_pass=None, lessons=LessonRule.shortest_correct
    )
    prompts, lessons = read_prompts(workdir), read_lessons(workdir)
    hopeless = [stat.sample_id for stat in prompts if stat.pass_rate == 0]
    # The kit has no lesson for the first question.
    expert = [name for name in hopeless if name != "train-dawn"]
    assert expert and [lesson.sample.id for lesson in lessons if lesson.response.startswith("the expert")] == expert
    assert outputs.metrics["num_pack_lessons"] == len(expert)
    assert [row["origin"] for row in rows(workdir, "lessons.jsonl")].count("model") == len(prompts) - len(hopeless)


class Stopped(Exception):
    pass


def stopping_at(step: int):
    def log(**row):
        if row["step"] == step:
            raise Stopped

    return log


def test_a_stage_stopped_at_each_batch_resumes_to_the_same_bytes(select):
    calm, outputs = select("calm", pairs=PairRule.long2short, max_pass=None)
    for step in (1, 2, 3):
        with pytest.raises(Stopped):
            select("stopped", ctx={"log": stopping_at(step)}, pairs=PairRule.long2short, max_pass=None)
        assert progress.missing(calm.parent / "stopped", 3) == list(range(step - 1, 3))
    stopped, again = select("stopped", pairs=PairRule.long2short, max_pass=None)
    assert content(stopped) == content(calm) and again == outputs
    assert [row["step"] for row in rows(calm, "metrics.jsonl")] == [1, 2, 3]


def test_kill_9_changes_no_byte(select, kit, taught, tmp_path):
    calm, _ = select("calm", batch=1)
    workdir = tmp_path / "killed"
    workdir.mkdir()
    process = subprocess.Popen([sys.executable, kit.__file__, str(workdir), str(taught), '{"batch": 1}'], env=os.environ)
    deadline = time.monotonic() + 60
    while not progress.batch_file(workdir, 1).is_file():
        assert process.poll() is None and time.monotonic() < deadline, "ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (workdir / "rollouts.jsonl").exists()
    again, _ = select("killed", batch=1)
    assert content(again) == content(calm)
    assert [row["step"] for row in rows(again, "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_the_pipeline_knows_the_progress_folder():
    # Without a folder of this name the conductor would empty a half-done step; with it, it is removed at the end.
    assert progress.CHECKPOINTS == run_folder.CHECKPOINTS


def test_two_processes_write_what_one_writes(select, monkeypatch, tmp_path):
    calm, _ = select("calm")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    select("two")
    assert progress.missing(tmp_path / "two", 3) == [0, 2]
    monkeypatch.setenv("RANK", "0")
    two, _ = select("two")
    assert content(two) == content(calm)


def test_the_first_process_waits_for_the_others(tmp_path):
    asleep = []

    def sleep(seconds):
        asleep.append(seconds)
        progress.write_batch(tmp_path, len(asleep), [])

    progress.write_batch(tmp_path, 0, [])
    progress.wait_for_all(tmp_path, 3, sleep)
    assert asleep == [progress.POLL_S] * 2


def test_lessons_of_its_own_right_answers_teach_the_base(select, kit, taught, tmp_path):
    from factory.config.schema import OptimConfig
    from factory.stages.sft.config import SftConfig

    before, outputs = select("round-1", rollouts=12, max_pass=None)
    assert outputs.metrics["num_lessons"] == 6, "twelve tries of three words"
    config = SftConfig(
        start="base", lessons_from="select", lessons=100, epochs=60, batch_size=6, max_length=64,
        optim=OptimConfig(lr=2e-3, warmup_steps=0, weight_decay=0.0, checkpoint_every=0),
    )  # fmt: skip
    ctx = kit.context(tmp_path / "sft", taught, inputs={"select": before})
    trained = load_stage("sft").run(config, replace(ctx, build=kit.BUILD | {"launch": {"zero_stage": -1}}))
    assert trained.metrics["lessons_by_source"] == {"select": 6, "pack": 0}
    after, again = select("round-2", model=tmp_path / "sft" / "model", rollouts=12, max_pass=None)
    assert again.metrics["mean_pass_rate"] > outputs.metrics["mean_pass_rate"] + 0.3
    mean_tokens = [sum(row["tokens"] for row in rows(folder)) / 72 for folder in (before, after)]
    assert mean_tokens[1] < mean_tokens[0], "the shortest right answers teach to be short"


def test_samples_of_another_split_and_repeated_ids_are_refused(select, kit):
    import colours

    class Leaky(colours.ColourPack):
        def samples(self, split, seed, request):
            return super().samples("test" if split == "train" else split, seed, request)

    class Double(colours.ColourPack):
        def samples(self, split, seed, request):
            return [*super().samples(split, seed, request)] * 2

    class Empty(colours.ColourPack):
        def samples(self, split, seed, request):
            return []

    for pack, told in ((Leaky(), "of the test split"), (Double(), "occurs twice"), (Empty(), "no training samples")):
        with pytest.raises(DataError, match=told):
            select(ctx={"pack": pack}, samples=12)


def test_a_prompt_without_room_to_answer_is_refused(select):
    with pytest.raises(DataError, match=r"sample 'train-(dawn|noon)': \d+ prompt tokens and max_new_tokens=4095 exceed"):
        select(max_new_tokens=4095)


def plan(config, *, modality="text", provides=("samples", "lessons"), tasks=None):
    import colours

    pack = colours.ColourPack()
    pack.manifest = replace(pack.manifest, provides=provides, modality=modality)
    build = {"precision": "fp32", "mixture": {}, "launch": {}}
    return load_stage("select").plan("look", config, model_facts(f"embedded-{modality}", modality), pack, build)


def test_plan_counts_and_says_what_it_keeps(kit):
    found = plan(SelectConfig(samples=100, rollouts=8, max_new_tokens=10, batch=16, pairs=PairRule.long2short))
    # 100 prompts x 8 rollouts x 10 tokens, in batches of 16: 6 full ones and one of 4
    assert (found.num_samples, found.num_generated_tokens, found.num_steps, found.num_tokens) == (100, 8000, 7, 0)
    assert found.outputs == FILES
    assert found.notes == (
        "keeps prompts with pass rate > 0 and pass rate < 1; writes prompts, lessons shortest_correct, pairs long2short",
    )
    (note,) = plan(SelectConfig(blind_rollouts=8, min_pass=None, max_pass=None, lessons=LessonRule.none), modality="vl").notes
    assert note == "keeps prompts with RAP D >= 0.5 over 8 blind rollouts; writes prompts"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (SelectConfig(blind_rollouts=4), r"stages\.look\.blind_rollouts is 4, but without images"),
        (SelectConfig(max_new_tokens=4090), r"max_new_tokens=4090 and a prompt of about 48 tokens exceed"),
        (SelectConfig(fallback=Fallback.pack, lessons=LessonRule.none), r"fallback has no effect while"),
        (SelectConfig(rollouts=0), r"stages\.look\.rollouts is 0; it must be 1 or more"),
        (SelectConfig(min_pass=0.5, max_pass=0.5), r"no pass rate lies between"),
        (SelectConfig(variance_quantile=0.5, variance_top=3), r"two rules for one choice"),
        (SelectConfig(variance_quantile=1.5), r"variance_quantile is 1\.5; it must be between 0 and 1, or null"),
        (SelectConfig(temperature=0.0), r"temperature is 0, so all 8 rollouts of a prompt are equal"),
        (SelectConfig(repeat=[[0.5, 2], [0.2, 4]]), r"bounds rising"),
        (SelectConfig(repeat=[[0.5]]), r"write \[bound, times\] rows"),
        (SelectConfig(repeat=[[0.5, 1.5]]), r"times whole and 1 or more"),
        (SelectConfig(right_from=0.0), r"right_from is 0\.0; it must be above 0 and at most 1"),
    ],
)
def test_plan_refuses_what_cannot_run(kit, config, told):
    with pytest.raises(ConfigError, match=told):
        plan(config)


def test_plan_refuses_a_pack_without_the_data(kit):
    with pytest.raises(ConfigError, match="provides no samples to roll out"):
        plan(SelectConfig(), provides=("lessons",))
    with pytest.raises(ConfigError, match="fallback is 'pack', but pack 'colours' provides no lessons"):
        plan(SelectConfig(fallback=Fallback.pack), provides=("samples",))


def test_blind_rollouts_do_not_see_the_image(kit, tmp_path, monkeypatch):
    """RAP on a vision-language model: the same sample is asked with and without its image, and judged alike."""
    import colours
    import torch
    from PIL import Image

    from factory.contracts import Media, Message
    from factory.stages.models.embedded import make_embedded
    from factory.stages.select import roll_out

    torch.set_num_threads(1)
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "red.png")
    picture = Media(path=str(tmp_path / "red.png"))

    class Pictures(colours.ColourPack):
        def samples(self, split, seed, request):
            first, second = list(super().samples(split, seed, DataRequest()))[:2]
            asked = (Message("user", f"<image>\n{first.text()}"),)
            return [replace(first, messages=asked, media=(picture,)), second]

    base = make_embedded("embedded-vl", tmp_path / "base", seed=1, texts=["the sky at dawn is red"] * 40, images=[picture])
    prompts = []
    generate = roll_out.generate

    def watched(loaded, encoded, **settings):
        prompts.append([(len(row.ids), row.pixels is not None) for row in encoded])
        return generate(loaded, encoded, **settings)

    monkeypatch.setattr(roll_out, "generate", watched)
    kit.select(tmp_path / "run", base, ctx={"pack": Pictures()}, rollouts=3, blind_rollouts=2, max_new_tokens=3)
    (seen, text_only), ((blind, has_image),) = prompts
    assert seen[1] and not text_only[1] and not has_image
    assert blind < seen[0], "the placeholder is gone too"
    flags = Counter((row["sample"], row["blind"]) for row in rows(tmp_path / "run"))
    assert flags == {("train-dawn", False): 3, ("train-noon", False): 3, ("train-dawn", True): 2}
    first, second = read_prompts(tmp_path / "run")
    assert first.rap_d == first.pass_rate - first.blind_pass_rate
    # A question without an image cannot need one.
    assert (second.rap_d, second.blind_pass_rate) == (0.0, None)
