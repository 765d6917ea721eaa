"""Every real file of ../shared/data/safety loads with the counts of its SOURCES.md, and labelled answers are scored as stated."""

import json
from collections import Counter

import pytest
from safety_forms import form

from factory.contracts import DataRequest
from factory.domains.safety import PACK
from factory.domains.safety.loaders import LOADER
from factory.domains.safety.loaders_pairs import load_pairs
from factory.errors import DataError

COUNTS = {
    "xstest/xstest_prompts.csv": ("xstest-prompts", 450, {"answer": 250, "refuse": 200}),
    "xstest/xstest_v2_completions_mistralinstruct.csv": ("xstest-completions", 450, {"answer": 250, "refuse": 200}),
    "xstest/xstest_v2_completions_mistralinstruct_streval.csv": ("xstest-completions", 450, {"answer": 250, "refuse": 200}),
    "harmbench/harmbench_behaviors_text_all.csv": ("harmbench", 400, {"refuse": 400}),
    "advbench/harmful_behaviors.csv": ("advbench", 520, {"refuse": 520}),
    "mathif/toy.jsonl": ("mathif", 2, {"obey": 2}),
}
SPECIFICATIONS = {"Biochem", "Child", "Code", "Health", "Travel"}


def load(path, **options):
    return list(PACK.samples("test", 0, DataRequest(paths=(str(path),), options=options)))


@pytest.mark.parametrize("name", COUNTS)
def test_a_file_loads_whole(data, name):
    shape, count, tasks = COUNTS[name]
    report = PACK.check(DataRequest(paths=(str(data / name),)))
    assert (report.num_good, report.num_bad) == (count, 0) and report.tallies[f"shape {shape}"] == 1
    samples = load(data / name)
    assert len(samples) == count and Counter(sample.task for sample in samples) == tasks
    assert len({sample.id for sample in samples}) == count and all(sample.split == "test" for sample in samples)


def test_every_file_is_covered(data):
    files = {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file() and path.name != "SOURCES.md"}
    spec = {
        f"specbench/{scenario}/{name}.json" for scenario in SPECIFICATIONS for name in ("prompts", "scenario", "specifications")
    }
    assert files == set(COUNTS) | spec


def test_specbench_is_asked_under_its_specifications(data):
    samples = load(data / "specbench")
    assert len(samples) == 1500 and Counter(sample.task for sample in samples) == {"refuse": 1000, "answer": 500}
    per_scenario = Counter((sample.meta["category"], sample.task) for sample in samples)
    assert set(per_scenario.values()) == {200, 100} and len(per_scenario) == 10
    totals = Counter()
    for category in {sample.meta["category"] for sample in samples}:
        listed = next(sample.meta["specifications"] for sample in samples if sample.meta["category"] == category)
        safety, behaviour = (len(listed[kind]) for kind in ("safety_specifications", "behavioral_specifications"))
        assert 9 <= safety <= 12 and 9 <= behaviour <= 11
        totals["specifications"] += safety + behaviour
    assert totals["specifications"] == 103
    assert all(sample.messages[0].role == "system" and "1. " in sample.messages[0].content for sample in samples[:20])
    report = PACK.check(DataRequest(paths=(str(data / "specbench"),)))
    assert report.num_bad == 0 and report.tallies["documents"] == 103 + 5


def test_specbench_has_two_wordings(data):
    folder = data / "specbench/Travel"
    hard, plain = load(folder), load(folder, specbench_prompt="plain")
    differs = [a.messages[-1].content != b.messages[-1].content for a, b in zip(hard, plain, strict=True)]
    assert any(differs) and [a.id for a in hard] == [b.id for b in plain]


def test_harmful_prompts_say_so_and_carry_categories(data):
    samples = load(data / "harmbench")
    assert all(sample.meta["sensitive"] and sample.meta["category"] for sample in samples)
    assert Counter(sample.meta["kind"] for sample in samples) == {"standard": 200, "contextual": 100, "copyright": 100}


def test_benchmarks_are_not_trained_on_by_accident(data):
    with pytest.raises(DataError, match="no samples in split 'train'"):
        list(PACK.samples("train", 0, DataRequest(paths=(str(data / "advbench"),))))


def test_xstest_answers_are_scored_as_people_labelled_them(data):
    """Issue 4, point 4: real model outputs through the pack's verifiers. Baselines of guides/domains.md 7.5: 246/250 safe and 128/200 unsafe complied."""
    samples = load(data / "xstest/xstest_v2_completions_mistralinstruct.csv")
    human = Counter((sample.task, sample.meta["answered"]["human"]) for sample in samples)
    assert human[("answer", "compliance")] == 246 and human[("refuse", "compliance")] == 128
    judge, agreed, rates = PACK.verifiers()["two_sided"], [], Counter()
    for sample in samples:
        answered = sample.meta["answered"]
        verdict = judge(form(answered["completion"]), sample)
        right = {"answer": "compliance", "refuse": "refusal"}[sample.task]
        rates[sample.task] += verdict.score == 1.0
        if answered["human"] != "partial":
            agreed.append((verdict.score == 1.0) == (answered["human"] == right))
    assert len(agreed) == 423 and sum(agreed) / len(agreed) >= 0.96
    # People: 246 of 250 safe prompts answered and 49 - 2 = 47 of 200 unsafe ones refused.
    assert abs(rates["answer"] - 246) <= 8 and abs(rates["refuse"] - 47) <= 10


def test_mathif_rows_are_scorable(data):
    for sample in load(data / "mathif"):
        text = f"We find what we must. \\boxed{{{sample.reference}}}"
        verdict = PACK.verifiers()["accuracy"](text, sample)
        assert verdict.parts["correct"] == 1.0 and verdict.parts["hacc"] == 1.0


def test_a_download_log_is_not_jsonl(tmp_path):
    """The trap of MathIF's repository: data files that are logs of failed downloads."""
    log = tmp_path / "gsm8k.jsonl"
    log.write_text("--2025-05-20 10:11:12--  https://host/gsm8k.jsonl\nResolving host... failed: Name or service not known.\n")
    with pytest.raises(DataError) as err:
        list(PACK.samples("test", 0, DataRequest(paths=(str(log),))))
    assert "gsm8k.jsonl" in str(err.value) and "JSON" in str(err.value)


ROWS = {
    "wildguard": ({"prompt": "p", "prompt_harm_label": "harmful", "response": "no", "response_refusal_label": "refusal"}, "samples", "refuse"),
    "strongreject": ({"category": "c", "source": "s", "forbidden_prompt": "p"}, "samples", "refuse"),
    "beavertails": ({"prompt": "p", "response": "r", "category": {"a": False, "b": True}, "is_safe": True}, "lessons", "answer"),
    "pku-saferlhf": (
        {"prompt": "p", "response_0": "r", "response_1": "q", "is_response_0_safe": True, "is_response_1_safe": False,
         "better_response_id": 1, "safer_response_id": 0}, "lessons", "answer"),
    "preference": ({"prompt": "p", "chosen": "a", "rejected": "b"}, "lessons", "answer"),
    "chat": ({"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]}, "lessons", "know"),
}  # fmt: skip


@pytest.mark.parametrize("shape", ROWS)
def test_other_shapes(tmp_path, shape):
    row, kind, task = ROWS[shape]
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "\n".join(json.dumps({**row, **({"prompt": f"{row['prompt']} {i}"} if "prompt" in row else {})}) for i in range(12))
    )
    assert LOADER.detect(path).name == shape
    request = DataRequest(paths=(str(path),), options={"respect_splits": False, "splits": {"validation": 0.0, "test": 0.0}})
    found = list(getattr(PACK, kind)("train", 0, request))
    assert len(found) == 12 and all((one.sample if kind == "lessons" else one).task == task for one in found)


BAD = {
    "wildguard": ({"prompt": "p", "prompt_harm_label": "maybe"}, "prompt_harm_label"),
    "pku-saferlhf": ({"prompt": "p", "response_0": "r", "response_1": "q", "is_response_0_safe": "perhaps", "safer_response_id": 0}, "is_response_0_safe"),
    "mathif": ({"source": "s", "id": "1", "question": "q", "answer": "1", "constraint_name": ["new:rule"], "constraint_args": [{}],
                "constraint_desc": ["d"]}, "constraint_name"),
    "preference": ({"prompt": "p", "chosen": "a", "rejected": "a"}, "rejected"),
}  # fmt: skip


@pytest.mark.parametrize("shape", BAD)
def test_bad_rows_are_named(tmp_path, shape):
    row, field = BAD[shape]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    report = PACK.check(DataRequest(paths=(str(path),), quarantine_dir=str(tmp_path / "aside")))
    assert report.num_bad == 1
    assert field in (tmp_path / "aside" / "quarantine-check.jsonl").read_text()


def pku(prompt, safe, safer, better):
    return {"prompt": prompt, "response_0": "first", "response_1": "second", "is_response_0_safe": safe[0], "is_response_1_safe": safe[1],
            "safer_response_id": safer, "better_response_id": better}  # fmt: skip


def test_preference_pairs_follow_the_asked_preference(tmp_path):
    """The sign trap (reward-bench #75, safe-rlhf #77): chosen is the safer one for a cost model, the better one for a reward model."""
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(pku(f"question {i}", (True, False), 0, 1)) for i in range(10)))
    every = {"validation": 0.0, "test": 0.0}
    for preference, chosen in (("safer", "first"), ("helpful", "second")):
        found = list(load_pairs(DataRequest(paths=(str(path),), options={"preference": preference, "splits": every}), "train", 0))
        assert len(found) == 10 and all(pair.chosen == chosen for pair in found)
        assert found[0].meta == {"chosen_safe": preference == "safer", "rejected_safe": preference != "safer"}
    path.write_text(json.dumps(pku("q", (False, True), 0, 1)) + "\n")
    with pytest.raises(DataError, match="safer_response_id"):
        list(load_pairs(DataRequest(paths=(str(path),), options={"splits": every}), "train", 0))
    path.write_text('{"prompt": "p", "response": "r", "category": "c", "is_safe": true}\n')
    with pytest.raises(DataError, match="no preference pairs"):
        list(load_pairs(DataRequest(paths=(str(path),)), "train", 0))


def test_beavertails_v_takes_its_image(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / "a.png")
    row = {"question": "q", "image": "a.png", "category": "c", "response_1": "one", "response_2": "two", "more_helpful_response_id": 2,
           "safer_response_id": 1, "response_1_harmless_rate": 0, "response_2_harmless_rate": 3}  # fmt: skip
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    request = DataRequest(paths=(str(tmp_path / "rows.jsonl"),), options={"splits": {"validation": 0.0, "test": 0.0}})
    [lesson] = PACK.lessons("train", 0, request)
    assert lesson.response == "one" and len(lesson.sample.media) == 1
    [pair] = load_pairs(request, "train", 0)
    assert (pair.chosen, pair.rejected) == ("one", "two") and pair.meta == {"chosen_safe": True, "rejected_safe": False}
