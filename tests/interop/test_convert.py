"""Rows of other trainers, there and back: nothing is lost, and what would be lost is refused."""

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import IMAGE, Message
from factory.data.convert import convert
from factory.data.own_shapes import SHAPES
from factory.data.report import RowFault
from factory.data.talk_shapes import read_talk, write_talk
from factory.data.talks import ABSENT, Talk

text = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda said: IMAGE not in said)
answer = text.filter(bool)
values = st.recursive(
    st.booleans() | st.integers(-9, 9) | text,
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(text, inside, max_size=2),
    max_leaves=4,
)


@st.composite
def talks(draw):
    """Conversations that every shape can hold: an optional system turn, then user and assistant in turn, the user last."""
    turns = [Message("system", draw(answer))] if draw(st.booleans()) else []
    images = []
    for number in range(2 * draw(st.integers(1, 3)) - 1):
        content = draw(text)
        if number % 2 == 0 and draw(st.booleans()):
            content, images = f"{content}{IMAGE}{draw(text)}", [*images, f"images/{len(images)}.png"]
        turns.append(Message("user" if number % 2 == 0 else "assistant", content))
    return Talk(
        tuple(turns), draw(text), draw(text), draw(values | st.just(ABSENT)), tuple(images),
        draw(st.dictionaries(st.sampled_from(["difficulty", "tools", "note"]), values, max_size=2)),
    )  # fmt: skip


def fitted(talk: Talk, *shapes) -> Talk:
    """The talk without what one of the shapes cannot hold, and with what one needs."""
    for shape in shapes:
        talk = replace(talk, **{name: None for name in ("response", "rejected") if name not in shape.holds})
    if any("reference" in shape.needs for shape in shapes) and talk.reference is ABSENT:
        talk = replace(talk, reference="yes")
    return talk


PAIRS = [
    (a, b) for a in SHAPES for b in SHAPES
    if SHAPES[a].needs <= SHAPES[b].holds and SHAPES[b].needs <= SHAPES[a].holds and not (SHAPES[a].needs ^ SHAPES[b].needs) - {"reference"}
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(talks(), st.sampled_from(PAIRS), st.booleans())
def test_there_and_back_loses_nothing(talk, names, has_parts):
    here, there = SHAPES[names[0]], SHAPES[names[1]]
    talk = fitted(talk, here, there)
    if "response" in here.needs | there.needs:
        assert talk.response is not None
    row = json.loads(json.dumps(write_talk(here, talk, has_parts=has_parts)))
    middle = json.loads(json.dumps(write_talk(there, read_talk(here, row), has_parts=has_parts)))
    got = write_talk(here, read_talk(there, middle), has_parts=has_parts)
    if there.name in OURS and here.name not in OURS:
        assert set(json.loads(got.pop("factory"))) <= {"id", "task", "split"}, "ours add an identity, which then travels along"
    assert got == row
    back = read_talk(there, middle)
    assert (back.messages, back.response, back.rejected, back.images) == (
        talk.messages,
        talk.response,
        talk.rejected,
        talk.images,
    )
    assert back.reference == talk.reference or talk.reference is back.reference


OURS = {"sample", "lesson", "pair"}


def test_enough_pairs_are_tried():
    assert len(PAIRS) >= 40 and {"verl", "alpaca", "sharegpt", "swift", "lesson", "pair", "sample"} <= {a for a, _ in PAIRS}


ROWS = {
    "trl-messages": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], "note": 1},
    "trl-completion": {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}],
                       "completion": [{"role": "assistant", "content": "yo"}], "images": ["a.png"]},
    "trl-preference": {"prompt": [{"role": "user", "content": "hi"}], "chosen": [{"role": "assistant", "content": "a"}],
                       "rejected": [{"role": "assistant", "content": "b"}]},
    "trl-prompt": {"prompt": [{"role": "user", "content": "2+2"}], "solution": 4},
    "alpaca": {"instruction": "Sum up.", "input": "long text", "output": "short", "system": "be kind", "history": [["a", "b"]]},
    "sharegpt": {"conversations": [{"from": "human", "value": "<image>x"}, {"from": "function_call", "value": "{}"},
                                   {"from": "observation", "value": "7"}, {"from": "gpt", "value": "seven"}], "system": "s", "tools": "[]", "images": ["p.jpg"]},
    "swift": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}], "rejected_response": "b"},
    "verl": {"data_source": "openai/gsm8k", "prompt": [{"role": "user", "content": "1+1"}], "ability": "math",
             "reward_model": {"style": "model", "ground_truth": "2"}, "extra_info": {"index": 3, "split": "train"}},
    "sample": {"id": "s1", "task": "t", "messages": [{"role": "user", "content": "q"}], "reference": {"a": [1]}, "media": [],
               "meta": {"k": 1}, "split": "test", "source": "here"},
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_row_as_its_trainer_documents_it_comes_back_as_it_was(name):
    assert write_talk(SHAPES[name], read_talk(SHAPES[name], ROWS[name])) == ROWS[name]


@pytest.mark.parametrize(
    ("name", "row", "field", "what"),
    [
        ("trl-completion", {"prompt": "text", "completion": "x"}, "completion", "must be a list of turns"),
        ("trl-messages", {"messages": [{"role": "user", "content": "x"}]}, "messages", "last turn must be the assistant's"),
        ("trl-messages", {"messages": [{"role": "bot", "content": "x"}]}, "messages[0]", "role is 'bot'"),
        ("trl-messages", {"messages": [{"role": "assistant", "content": "x", "tool_calls": [1]}]}, "messages[0]", "tool_calls beside"),
        ("trl-prompt", {"prompt": [{"role": "user", "content": "<image>"}]}, "images", "0 images for 1 <image>"),
        ("trl-prompt", {"prompt": [{"role": "user", "content": [{"type": "audio"}]}]}, "prompt[0]", "part of type 'audio'"),
        ("verl", {"prompt": [], "reward_model": {}}, "reward_model", "ground_truth"),
        ("alpaca", {"instruction": 3}, "instruction", "must be text"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_field_and_reason(name, row, field, what):
    with pytest.raises(RowFault, match=what.replace("[", r"\[")) as caught:
        read_talk(SHAPES[name], row)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("talk", "goal", "field"),
    [
        (Talk((Message("user", "q"),), "a"), "trl-prompt", "response"),
        (Talk((Message("user", "q"),), "a", "b"), "trl-completion", "rejected"),
        (Talk((Message("user", "q"),)), "verl", "reference"),
        (Talk((Message("user", "q"), Message("tool", "7"), Message("user", "?")), "a"), "alpaca", "messages"),
        (Talk((Message("user", "q"),), "a", extra={"chosen": "c"}), "alpaca", "chosen"),
        (Talk((Message("user", "q"), Message("tool_call", "{}")), "a"), "trl-messages", "messages"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_refused(talk, goal, field):
    with pytest.raises(RowFault) as caught:
        write_talk(SHAPES[goal], talk)
    assert caught.value.field == field


def test_files_of_every_kind_and_images_inside_rows(tmp_path):
    png = b"\x89PNG\r\n\x1a\nbytes"
    rows = [
        {"messages": [{"role": "user", "content": "<image>what?"}, {"role": "assistant", "content": "a"}], "images": ["data:image/png;base64," + base64.b64encode(png).decode()]},
        {"messages": [{"role": "user", "content": "no picture"}, {"role": "assistant", "content": "b"}]},
    ]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = convert(tmp_path / "in.jsonl", tmp_path / "out.parquet", "swift", "trl-completion")
    assert (done.num_rows, done.num_images, done.bad) == (2, 1, ())
    assert (tmp_path / "out.parquet.images" / "000001-0.png").read_bytes() == png
    from datasets import load_dataset

    loaded = load_dataset("parquet", data_files=str(tmp_path / "out.parquet"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[1]["prompt"][0]["content"][0]["text"] == "no picture", "a column of contents has one type"
    back = convert(tmp_path / "out.parquet", tmp_path / "back.json", "trl-completion", "swift")
    assert back.num_rows == 2
    again = json.loads((tmp_path / "back.json").read_text())
    assert (
        again[1] == rows[1]
        and again[0]["messages"] == rows[0]["messages"]
        and again[0]["images"] == ["out.parquet.images/000001-0.png"]
    )


def test_one_bad_row_and_nothing_is_written(tmp_path, capfd):
    from factory.cli.app import run

    (tmp_path / "in.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": 1}\nnot json\n')
    code = run(
        [
            "data",
            "convert",
            str(tmp_path / "in.jsonl"),
            str(tmp_path / "out.jsonl"),
            "--from",
            "alpaca",
            "--to",
            "sharegpt",
            "--json",
        ]
    )
    told = json.loads(capfd.readouterr().out)
    assert code == 3 and [row["row"] for row in told["bad_rows"]] == [2, 3] and not (tmp_path / "out.jsonl").exists()
    assert (
        run(["data", "convert", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--from", "alpacca", "--to", "swift"])
        == 2
    )
    assert "did you mean" in capfd.readouterr().err.lower()


def test_drop_lets_go_what_was_named(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"instruction": "a", "output": "b", "solution": "7"}\n')
    assert convert(tmp_path / "in.jsonl", tmp_path / "no.jsonl", "alpaca", "verl").bad[0].field == "response"
    assert convert(tmp_path / "in.jsonl", tmp_path / "yes.jsonl", "alpaca", "verl", drop=["response"]).num_rows == 1
    assert json.loads((tmp_path / "yes.jsonl").read_text())["reward_model"] == {"style": "rule", "ground_truth": "7"}
