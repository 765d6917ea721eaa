"""Where pairs come from: our form, TRL's forms, bad rows, the pack, an earlier stage; and what is refused before any work."""

import json
from types import SimpleNamespace

import pytest
import taste
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Message, Pair, Sample
from factory.data.report import RowFault, RowReport
from factory.errors import ConfigError, DataError
from factory.plugins import load_stage
from factory.stages.lesson_files import read_samples
from factory.stages.models.facts import model_facts
from factory.stages.pair_rows import pair_from_row
from factory.stages.pairs import read_pair_file, read_pairs

ASK = {"role": "user", "content": "the sky is"}


def answer(text):
    return {"role": "assistant", "content": text}


def convert(row, folder="."):
    from pathlib import Path

    return pair_from_row(row, Path(folder), fallback_id="f.jsonl:1")


WORDS = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1).filter(str.strip)


@given(WORDS, st.text(), st.booleans(), st.dictionaries(st.text(max_size=5), st.integers(), max_size=2))
def test_our_form_survives_the_trip_through_json(chosen, rejected, is_safe, meta):
    sample = Sample("s", "ask", (Message("user", "what is it?"),), {"answer": 1}, split="train", source="here")
    pair = Pair(sample, chosen, rejected, {"n": meta, "chosen_safe": is_safe})
    if chosen == rejected:
        with pytest.raises(RowFault, match="nothing is preferred"):
            convert(json.loads(json.dumps(pair.to_json())))
    else:
        assert convert(json.loads(json.dumps(pair.to_json()))) == pair


def test_strings_and_conversations_become_the_same_pair():
    plain = convert({"prompt": "the sky is", "chosen": "blue", "rejected": ""})
    talk = convert({"prompt": [ASK], "chosen": [answer("blue")], "rejected": [answer("")]})
    implicit = convert({"chosen": [ASK, answer("blue")], "rejected": [ASK, answer("")]})
    assert plain == talk == implicit
    assert plain.sample.messages == (Message("user", "the sky is"),) and plain.sample.id == "f.jsonl:1"


def test_longer_conversations_labels_and_references_are_kept():
    system = {"role": "system", "content": "be brief"}
    turns = [system, ASK, answer("what sky?"), {"role": "user", "content": [{"type": "text", "text": "this one"}]}]
    row = {"prompt": turns, "chosen": [answer("blue")], "rejected": [answer("red")], "id": 7, "task": "sky",
           "reference": "blue", "chosen_safe": 1, "rejected_safe": "false", "meta": {"site": "a"}}  # fmt: skip
    pair = convert(row)
    assert [message.role for message in pair.sample.messages] == ["system", "user", "assistant", "user"]
    assert (pair.sample.id, pair.sample.task, pair.sample.reference) == ("7", "sky", "blue")
    assert pair.meta == {"site": "a", "chosen_safe": True, "rejected_safe": False}


def test_images_are_found_beside_the_file_and_get_placeholders(tmp_path):
    (tmp_path / "a.png").write_bytes(taste.picture(1).data)
    (tmp_path / "b.png").write_bytes(taste.picture(2).data)
    row = {"prompt": "which is blue?", "chosen": "a", "rejected": "b", "images": ["a.png", "b.png"]}
    pair = convert(row, tmp_path)
    assert pair.sample.messages[0].content == "<image><image>which is blue?"
    assert [item.path for item in pair.sample.media] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    parts = [{"type": "text", "text": "is "}, {"type": "image"}, {"type": "text", "text": " blue?"}]
    pair = convert({"prompt": [{"role": "user", "content": parts}], "chosen": [answer("a")], "rejected": [answer("b")],
                    "image": "a.png"}, tmp_path)  # fmt: skip
    assert pair.sample.messages[0].content == "is <image> blue?" and len(pair.sample.media) == 1
    own = Pair(pair.sample, "a", "b").to_json()
    own["sample"]["media"] = [{"kind": "image", "path": "a.png"}]
    assert convert(own, tmp_path).sample.media[0].path == str(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"prompt": "p", "chosen": "a"}, "rejected", "column is missing"),
        ({"chosen": "a", "rejected": "b"}, "prompt", "column is missing"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "chosen", "the same text"),
        ({"prompt": "p", "chosen": " ", "rejected": "a"}, "chosen", "is blank"),
        ({"prompt": "p", "chosen": "a", "rejected": [answer("b")]}, "rejected", "must have the form of chosen"),
        ({"prompt": "p", "chosen": 3, "rejected": 4}, "chosen", "must be a text or a list of turns"),
        ({"prompt": "p", "chosen": [ASK], "rejected": [answer("b")]}, "chosen", "must be one assistant turn .* got: user"),
        ({"chosen": [answer("a")], "rejected": [answer("b")]}, "prompt", "do not begin with the same turns"),
        ({"prompt": [{"text": "p"}], "chosen": [answer("a")], "rejected": [answer("b")]}, "prompt", "a turn is a mapping"),
        ({"prompt": [{"role": "user", "content": [{"type": "video"}]}], "chosen": [answer("a")], "rejected": [answer("b")]},
         "prompt", "a text or an image"),
        ({"prompt": "<image> p", "chosen": "a", "rejected": "b"}, "images", "0 images for 1 <image>"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "images": ["gone.png"]}, "images", "'gone.png' not found"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "chosen_safe": "maybe"}, "chosen_safe", "must be true or false"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "meta": 3}, "meta", "must be a mapping"),
        ({"sample": {"id": "s"}, "chosen": "a", "rejected": "b"}, r"sample\.task", "is missing"),
        ({"sample": 3, "chosen": "a", "rejected": "b"}, "sample", "is not what Sample.to_json writes"),
        ({"sample": {}, "chosen": None, "rejected": "b"}, "chosen", "must be text in a pair of the factory"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_pair_says_which_field_and_why(row, field, reason):
    with pytest.raises(RowFault, match=f"^{field}: .*{reason}"):
        convert(row)


def write(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def test_bad_rows_are_counted_and_set_aside(tmp_path):
    good = {"prompt": "p", "chosen": "a", "rejected": "b", "score": 3}
    path = write(tmp_path / "p.jsonl", [good, "{torn\n", {"prompt": "p", "chosen": "a"}, good])
    report = RowReport(max_bad_fraction=0.5, quarantine_file=tmp_path / "aside.jsonl")
    pairs = list(read_pair_file(path, report))
    assert [pair.sample.id for pair in pairs] == ["p.jsonl:1", "p.jsonl:4"]
    assert [(bad.row, bad.field) for bad in report.first_bad] == [(2, "json"), (3, "rejected")]
    assert report.notes == ["p.jsonl: columns that are not read: score"]
    assert len((tmp_path / "aside.jsonl").read_text().splitlines()) == 2
    with pytest.raises(DataError, match=r"2 of 4 rows are bad[\s\S]*p\.jsonl:3: rejected: column is missing"):
        list(read_pair_file(path, RowReport(max_bad_fraction=0.1)))
    assert len(list(read_pair_file(path, RowReport(max_bad_fraction=0.1), limit=1))) == 1


def test_pairs_come_from_an_earlier_stage_and_from_the_pack(tmp_path):
    wanted = taste.pairs(4, with_images=True)
    write(tmp_path / "pairs.jsonl", [pair.to_json() for pair in wanted])
    ctx = taste.context(tmp_path / "run", tmp_path, inputs={"chosen": tmp_path})
    assert read_pairs("chosen", ctx, limit=99) == wanted
    assert read_pairs(str(tmp_path / "pairs.jsonl"), ctx, limit=2) == wanted[:2]
    assert read_pairs("", ctx, limit=5) == taste.pairs(5)
    (tmp_path / "pairs.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no preference pair, so stage 'taste' has nothing"):
        read_pairs("chosen", ctx, limit=9)


def test_a_pack_that_prefers_nothing_is_refused(tmp_path):
    pack = taste.Pack()
    same = Pair(taste.pairs(1)[0].sample, "a", "a")
    pack.pairs = lambda *_: [same]
    with pytest.raises(DataError, match=r"pack 'taste', pair of sample dawn-0: chosen and rejected are the same"):
        read_pairs("", taste.context(tmp_path, tmp_path, pack=pack), limit=9)


@pytest.mark.parametrize("kind", ["preference", "reward_model"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs_from": "no/such.jsonl"}, r"stages\.x\.pairs_from is 'no/such\.jsonl': no such file"),
        ({"pairs": 0}, r"stages\.x\.pairs is 0"),
        ({"batch_size": 0}, r"stages\.x\.batch_size is 0"),
        ({"max_length": 9000}, r"stages\.x\.max_length is 9000; the model reads 2 to 4096"),
    ],
)
def test_plan_refuses_what_cannot_run(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(kind, **settings)


def plan(kind, pack=None, **settings):
    return load_stage(kind).plan(
        "x", taste.config(kind, **settings), model_facts("embedded-text"), pack or taste.Pack(), taste.BUILD
    )


def test_plan_refuses_more():
    bare = SimpleNamespace(manifest=SimpleNamespace(name="bare", provides=("samples",)))
    for kind in ("preference", "reward_model"):
        with pytest.raises(ConfigError, match=r"stages\.x: pack 'bare' provides no pairs\. Set stages\.x\.pairs_from"):
            plan(kind, bare)
        assert plan(kind, bare, pairs_from="select").num_steps > 0
    with pytest.raises(ConfigError, match=r"stages\.x\.loss is 'dop'"):
        plan("preference", loss="dop")
    with pytest.raises(ConfigError, match=r"stages\.x\.objective is 'costs'\. Did you mean 'cost'\?"):
        plan("reward_model", objective="costs")
    with pytest.raises(ConfigError, match=r"stages\.x\.shape is 'think_anwser'\. Did you mean 'think_answer'\?"):
        plan("reward_model", shape="think_anwser")
    with pytest.raises(ConfigError, match=r"stages\.x\.holdout is 1\.0"):
        plan("reward_model", holdout=1.0)


def test_plans_count_pairs_and_say_what_is_minimised():
    found = plan("preference", pairs=100, epochs=2, batch_size=32, loss="mpo")
    # 200 pairs in batches of 32: six full ones and one of 8
    assert (found.num_samples, found.num_steps) == (200, 7)
    assert found.notes[0] == "loss mpo = 0.8 dpo + 0.2 bco_pair + 1 sft, beta 0.1, delta running_mean"
    found = plan("reward_model", pairs=100, batch_size=32, holdout=0.25, optim={"micro_batch_size": 8})
    assert (found.num_samples, found.num_steps) == (75, 3) and found.outputs[0] == "scorer"
    assert found.peak_memory_bytes < plan("reward_model", pairs=100, batch_size=32, holdout=0.25).peak_memory_bytes


def test_a_scorer_is_no_model_to_start_from():
    from factory.pipeline.steps import order_steps

    steps = order_steps({"reward": taste.config("reward_model"), "prefer": taste.config("preference")})
    assert [(step.name, step.start) for step in steps[2:]] == [
        ("02-reward", "00-base"), ("03-prefer", "00-base"), ("04-prefer-eval", "03-prefer"),
    ]  # fmt: skip


@pytest.mark.parametrize("module", ["factory.stages.preference", "factory.stages.reward_model"])
def test_stages_load_without_torch(module):
    import subprocess
    import sys
    from pathlib import Path

    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'PIL') if m in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_sources_are_named_to_the_pipeline():
    for kind in ("preference", "reward_model"):
        stage = load_stage(kind)
        sources = {given: taste.config(kind, pairs_from=given) for given in ("", "select", "./pairs.jsonl")}
        assert {given: stage.reads(config) for given, config in sources.items()} == {
            "": (), "select": ("select",), "./pairs.jsonl": ()
        }  # fmt: skip
        assert {given: stage.training_files(config) for given, config in sources.items()} == {
            "": (), "select": (), "./pairs.jsonl": ("./pairs.jsonl",)
        }  # fmt: skip


def test_a_file_in_the_trl_form_gives_its_samples_to_the_overlap_check(tmp_path):
    rows = [{"prompt": "what is it?", "chosen": "a", "rejected": "b"}, {"prompt": "and now?", "chosen": "c", "rejected": "d"}]
    path = tmp_path / "trl.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [sample.text() for sample in read_samples(path)] == ["what is it?", "and now?"]
