"""`factory verify` with judges, from the shell: calibrated, asked behind the rule, reported; each kind of source."""

import json
import os
from pathlib import Path

import pytest
from judge_server import answer_of, mark_of

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "config" / "toy_dist"
SAID = {"5": (9, True), "about 5": (8, True), "6": (7, False), "no": (1, False)}
"""Completion of a sum that is 5 -> (the judge's grade, whether people call it right)."""


@pytest.fixture
def verify(capfd, monkeypatch, tmp_path):
    """Call the command in this process, with the toy pack on the path."""
    from factory.cli.app import run

    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, TOY, Path(__file__).parent))))
    monkeypatch.syspath_prepend(str(TOY))

    def call(*words):
        capfd.readouterr()
        code = run(("verify", "-d", "toy", *words))
        out, err = capfd.readouterr()
        return code, out, err

    return call


def sum_of(number):
    """A sample of the toy pack whose answer is 5."""
    return {"id": f"own-{number}", "task": "add", "messages": [{"role": "user", "content": f"2+3 ({number})?"}], "reference": 5}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "answers.jsonl", [{"sample": sum_of(i), "completion": text} for i, text in enumerate(SAID)])


def labelled(path, right="5", wrong="no"):
    found = [{"sample": sum_of(i), "completion": text, "label": text == right} for i in range(20, 32) for text in (right, wrong)]
    return write(path, found)


def settings(name, /, **given):
    return [word for key, value in given.items() for word in ("--set", f"judges.{name}.{key}={value}")]


@pytest.fixture
def recorded(tmp_path):
    """A judge of past scores with its labels, 0.3 of the task."""
    scores = [{"sample": f"own-{i}", "completion": text, "score": SAID[text][0] / 10} for i, text in enumerate(SAID)]
    scores += [
        {"sample": f"own-{i}", "completion": text, "score": score}
        for i in range(20, 32)
        for text, score in (("5", 0.9), ("no", 0.1))
    ]
    path = write(tmp_path / "scores.jsonl", scores)
    return [
        *settings("fair", kind="recorded", path=path, calibration=labelled(tmp_path / "labels.jsonl")),
        "--set", "mixture.add.exact=0.7", "--set", "mixture.add.fair=0.3",
    ]  # fmt: skip


def test_a_recorded_judge_is_calibrated_and_asked_behind_the_rule(verify, rows, recorded, tmp_path):
    out = tmp_path / "verdicts.jsonl"
    code, text, err = verify(rows, *recorded, "--json", "--out", str(out))
    assert code == 0, err
    found = json.loads(text)
    fair = found["judges"]["fair"]
    assert (fair["kind"], fair["calibration"]["rows"], fair["calibration"]["agreement"]) == ("recorded", 24, 1.0)
    # Only `5` is right for the rule: 0.7 + 0.3 * 0.9; the other three are 0 and nobody is asked about them.
    assert (fair["asked"], fair["agreement"], fair["over"]) == (1, 1.0, 0.0)
    assert [json.loads(line)["reward"] for line in out.read_text().splitlines()] == pytest.approx([0.97, 0, 0, 0])
    assert found["verifiers"]["fair"]["statuses"]["ok"] == 1 and found["reward"] == pytest.approx(0.97 / 4)


def test_asked_about_all_rows_it_shows_where_it_is_talked_over_and_changes_no_reward(verify, rows, recorded):
    code, text, err = verify(rows, *recorded, "--json", "--ask-all")
    assert code == 0, err
    found = json.loads(text)
    fair = found["judges"]["fair"]
    # Right for the judge (0.5 and more): 5, about 5, 6; for the rule: 5.
    assert (fair["asked"], fair["agreement"], fair["over"]) == (4, 0.5, 0.5)
    assert fair["score"] == pytest.approx((0.9 + 0.8 + 0.7 + 0.1) / 4) and found["reward"] == pytest.approx(0.97 / 4)
    code, text, err = verify(rows, *recorded, "--ask-all")
    for wanted in ("Calibration of the judges", "What the judges said", "not tried", "50.0%", "mean reward 0.2425"):
        assert wanted in text, (wanted, text)


def test_a_judge_alone_can_be_asked_for(verify, rows, recorded):
    code, text, err = verify(rows, *recorded, "--json", "--verifier", "fair")
    assert code == 0, err
    found = json.loads(text)
    assert list(found["verifiers"]) == ["fair"] and found["judges"]["fair"]["asked"] == 1


def test_a_recipe_declares_an_endpoint(verify, rows, server, tmp_path):
    def reply(prompt):
        """A judge that is not talked over: it knows four answers and nothing else."""
        return f"VERDICT {mark_of(prompt)}: {SAID.get(answer_of(prompt), (0,))[0]}"

    server.reply = reply
    recipe = tmp_path / "judged.yaml"
    judge = {"kind": "endpoint", "url": server.url, "model": "m", "calibration": labelled(tmp_path / "labels.jsonl")}
    stages = {"sft": {"kind": "sft", "lessons": 4}}
    recipe.write_text(json.dumps({"judges": {"fair": judge}, "mixture": {"add": {"exact": 0.7, "fair": 0.3}}, "stages": stages}))
    code, text, err = verify(rows, "--recipe", str(recipe), "--json")
    assert code == 0, err
    fair = json.loads(text)["judges"]["fair"]
    assert fair["calibration"]["flip_rate"] == 0.0 and fair["calibration"]["failed"] == 0 and fair["asked"] == 1
    assert {body["model"] for _, _, body in server.requests} == {"m"}
    # One that says yes to everything is refused before it scores anything.
    server.reply = lambda prompt: f"VERDICT {mark_of(prompt)}: 10"
    code, _, err = verify(rows, "--recipe", str(recipe))
    assert code == 6 and "agrees with 50% of the labels" in err


@pytest.mark.slow
def test_a_local_model_judges_in_a_process_of_its_own(verify, rows, tmp_path):
    from factory.stages.models.embedded import make_embedded

    base = make_embedded("embedded-text", tmp_path / "judge", seed=0, texts=["2+3 is 5"] * 20)
    judge = settings("small", kind="local", path=base, max_new_tokens=8, max_chars=40, max_error_rate=1.0)
    code, text, err = verify(rows, *judge, "--set", "mixture.add.small=0", "--json")
    assert code == 0, err
    found = json.loads(text)
    # Untrained: its verdict cannot be read, which is an error and no 0; with weight 0 it masks nothing.
    assert found["judges"]["small"] | {"score": None} == {
        "kind": "local", "calibration": None, "asked": 1, "failed": 1.0, "score": None, "agreement": None, "over": None,
    }  # fmt: skip
    assert found["verifiers"]["small"]["statuses"]["error"] == 1 and (found["masked"], found["reward"]) == (0, 0.25)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--ask-all"], 2, "--ask-all is about judges"),
        (settings("fair", kind="recorded", path="x"), 2, "judges.fair is in no task's mixture"),
        ([*settings("fair", kind="local", path="stage:rm/scorer"), "--set", "mixture.add.fair=0"], 2, "Name the finished one"),
        ([*settings("fair", kind="endpoint", url="https://judge.example.org/v1", model="m"), "--set", "mixture.add.fair=0"], 2, "--online"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_with_the_remedy(verify, rows, words, code, told):
    ended, _, err = verify(rows, *words)
    assert (ended, told in err) == (code, True), err


def test_a_judge_with_a_weight_needs_labels(verify, rows, recorded):
    words = [word for word in recorded if "calibration" not in word]
    words = [word for i, word in enumerate(words) if not (word == "--set" and (i + 1 == len(words) or words[i + 1] == "--set"))]
    code, _, err = verify(rows, *words)
    assert code == 2 and "has a weight and no calibration" in err
