"""Deliberation with a real tiny model: the engine, the eval with and without the flag, and what the command prints."""

import json
import shutil
from pathlib import Path

import pytest
from scripted import pack, sample

from factory.contracts import DataRequest, Message, RunContext
from factory.errors import ConfigError
from factory.stages.eval import STAGE
from factory.stages.eval.config import EvalStageConfig
from factory.stages.eval.deliberate.engine import ModelEngine
from factory.stages.eval.deliberate.protocol import Request
from factory.stages.eval.deliberate.run import changed, cost
from factory.stages.eval.summary import Row
from factory.stages.models.load import load, save

SAMPLES = [
    sample(number, reference=("red", "green", "blue")[number % 3], messages=(Message("user", f"which colour {number} ?"),))
    for number in range(6)
]
EVAL = {
    "samples": 6, "validation_samples": 3, "batch_size": 4, "max_new_tokens": 16, "blind": False, "probes": False, "seed": 5,
    "bootstrap": 50,
}  # fmt: skip
THINK = {"max_new_tokens": 12, "temperature": 1.0}


@pytest.fixture(scope="module")
def loaded(taught):
    return load(taught, precision="fp32")


def requests(count=6):
    return [Request.of(one) for one in SAMPLES[:count]]


def texts(drawn):
    return [[draw.text for draw in row] for row in drawn]


# --- the engine ---------------------------------------------------------------------------------------------------------


def test_equal_seeds_draw_equal_texts_whatever_the_batch(loaded):
    def drawn(seed, size, label="test"):
        engine = ModelEngine(loaded, seed=seed, label=label, batch_size=size)
        return texts(engine.generate(requests(), purpose="draw", num_return=3, **THINK))

    first = drawn(1, 4)
    assert first == drawn(1, 4) == drawn(1, 100) == drawn(1, 1)
    assert first != drawn(2, 4) and first != drawn(1, 4, label="validation")
    assert len(first) == 6 and all(len(row) == 3 for row in first) and len({text for row in first for text in row}) > 3


def test_streams_of_two_purposes_do_not_disturb_each_other(loaded):
    alone, both = (ModelEngine(loaded, seed=1, label="test", batch_size=8) for _ in range(2))
    both.generate(requests(), purpose="other", **THINK)
    wanted = texts(alone.generate(requests(), purpose="draw", **THINK))
    assert texts(both.generate(requests(), purpose="draw", **THINK)) == wanted


def test_writing_goes_on_exactly_where_it_stopped(loaded):
    engine = ModelEngine(loaded, seed=1, label="test", batch_size=8)
    whole = engine.generate(requests(), purpose="whole", max_new_tokens=16, temperature=0.0)
    begun = engine.generate(requests(), purpose="begun", max_new_tokens=4, temperature=0.0)
    openings = [Request.of(one, opening=(draws[0],)) for one, draws in zip(SAMPLES, begun, strict=True)]
    rest = engine.generate(openings, purpose="rest", max_new_tokens=12, temperature=0.0)
    for one, two, three in zip(whole, begun, rest, strict=True):
        assert one[0].ids == two[0].ids + three[0].ids and one[0].tokens == two[0].tokens + three[0].tokens


def test_inserted_text_is_read_and_a_mark_of_one_token_stops(loaded):
    engine = ModelEngine(loaded, seed=1, label="test", batch_size=8)
    (row,) = engine.generate(
        [Request.of(SAMPLES[0], opening=("<think>maybe blue",))], purpose="think", max_new_tokens=16, temperature=0.0,
        stop="</think>",
    )  # fmt: skip
    assert row[0].text == "</think>" and row[0].tokens == 1


# --- the eval -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measure(taught, tmp_path_factory):
    """measure(deliberate) -> (workdir, eval.json)."""

    def run(deliberate=None, **settings):
        workdir = tmp_path_factory.mktemp("eval")
        its = EVAL | settings | ({} if deliberate is None else {"deliberate": deliberate})
        ctx = RunContext(
            stage="base", workdir=workdir, model_dir=taught, pack=pack(SAMPLES), domain="scripted:VERIFIERS", seed=0,
            request=DataRequest(), build={"precision": "fp32", "eval": its, "pool": {"workers": 1}},
        )  # fmt: skip
        outputs = STAGE.run(EvalStageConfig(), ctx)
        assert all((workdir / name).is_file() for name in outputs.files)
        return workdir, json.loads((workdir / "eval.json").read_text())

    return run


@pytest.fixture(scope="module")
def voted(measure):
    return measure("majority:5")


def rows_of(workdir, name="deliberated.jsonl"):
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def test_plain_figures_are_the_same_with_and_without_the_flag(measure, voted):
    workdir, plain = measure()
    assert "deliberated" not in plain and not (workdir / "deliberated.jsonl").exists()
    assert {key: voted[1][key] for key in plain if key != "verdicts"} == {k: v for k, v in plain.items() if k != "verdicts"}
    assert (workdir / "samples.jsonl").read_bytes() == (voted[0] / "samples.jsonl").read_bytes()
    assert measure("")[1] == plain


def test_votes_are_measured_beside_the_plain_answer(voted):
    workdir, report = voted
    part = report["deliberated"]
    assert part["label"] == "majority:5" and part["splits"].keys() == {"test", "validation"}
    rows = rows_of(workdir)
    assert [row["split"] for row in rows] == ["test"] * 6 + ["validation"] * 3
    for row in rows:
        assert len(row["trace"]) == 5 and row["completion"] in row["trace"] and sum(row["votes"].values()) <= 5
    test = [row for row in rows if row["split"] == "test"]
    found = part["splits"]["test"]
    assert found["primary"]["value"] == pytest.approx(sum(row["score"] for row in test) / 6)
    assert found["cost"]["ratio"] == pytest.approx(sum(r["tokens"] for r in test) / sum(r["plain"]["tokens"] for r in test))
    assert found["cost"]["ratio"] > 2, "five draws cost more than two greedy answers"
    plain = rows_of(workdir, "samples.jsonl")
    assert [row["plain"]["completion"] for row in test] == [row["completion"] for row in plain]


def test_the_same_measurement_twice_is_the_same(measure, voted):
    assert rows_of(measure("majority:5")[0]) == rows_of(voted[0])
    assert rows_of(measure("majority:5,seed=9")[0]) != rows_of(voted[0])


def test_choice_by_the_gold_verifier_is_called_an_oracle(measure):
    workdir, report = measure("best_of:6,verifier=closed")
    part = report["deliberated"]
    assert part["label"] == "oracle (pass@6)" and "upper bound (pass@6)" in part["notes"][0]
    for row in rows_of(workdir):
        # pass@n: right when any draw is.
        assert row["score"] == max(row["scores"])


def test_choice_by_form_is_no_oracle(measure):
    workdir, report = measure("best_of:3,verifier=short")
    assert (report["deliberated"]["label"], report["deliberated"]["notes"]) == ("best of 3 by verifier 'short'", [])
    for row in rows_of(workdir):
        assert len(row["completion"]) == min(map(len, row["trace"]))


@pytest.mark.parametrize(("show_reference", "label"), [(False, "best of 2 by reward model"), (True, "oracle (pass@2)")])
def test_choice_by_a_reward_model(measure, taught, tmp_path, show_reference, label):
    from factory.stages.models.scorer import ScorerSettings, load_scorer, with_head

    scorer = with_head(load(taught, precision="fp32"), ScorerSettings("bradley_terry", show_reference, 256), seed=3)
    folder = save(scorer, tmp_path / "scorer")
    workdir, report = measure(f"best_of:2,scorer={folder}", samples=3, validation_samples=1)
    assert report["deliberated"]["label"] == label
    again = load_scorer(folder, precision="fp32")
    for row, one in zip(rows_of(workdir), [*SAMPLES[:3], SAMPLES[0]], strict=True):
        scores = again.score([(one, text) for text in row["trace"]])
        assert row["scores"] == pytest.approx(scores, rel=1e-4, abs=1e-5)
        assert row["completion"] == row["trace"][scores.index(max(scores))]


def test_align3_and_critic_and_force_answer_run(measure, taught, tmp_path):
    for name in ("behaviour", "safety"):
        (tmp_path / name).write_text("answer with a colour")
    few = {"samples": 3, "validation_samples": 1}
    workdir, _ = measure(f"align3,behaviour={tmp_path / 'behaviour'},safety={tmp_path / 'safety'},thinking=3", **few)
    for row in rows_of(workdir):
        assert row["completion"].startswith("<think>") and row["completion"].count("</think>") >= 1
        assert row["tokens"] <= 3 * 3 + 16 and "answer with a colour" in "".join(row["trace"])
    workdir, _ = measure(f"critic:1,critic={taught},critique=4", **few)
    assert all(len(row["trace"]) == 3 for row in rows_of(workdir))
    workdir, _ = measure("force_answer:2,answer=8", **few)
    for row in rows_of(workdir):
        # Two tokens are `<think>` and a word, so the thought is still open and is closed by force.
        assert row["trace"][1] == "</think>" and row["tokens"] <= 2 + 8
        assert row["completion"] == "".join(row["trace"])


def row(score, tokens, status="ok"):
    return Row("id", "t", "q", "a", score, status, "", "blue", tokens, True)


def test_cost_and_change_by_hand():
    plain, after = [row(1.0, 4), row(0.0, 6), row(0.0, 2)], [row(0.0, 20), row(1.0, 30), row(1.0, 10, "timeout")]
    # 12 tokens before, 60 after; the masked row is paid for and not compared.
    assert cost(plain, after) == {"plain_tokens": 4.0, "tokens": 20.0, "ratio": 5.0}
    assert changed(plain, after) == {"gained": 1, "lost": 1}
    assert cost([row(0.0, 0)], [row(0.0, 3)])["ratio"] is None


# --- the command --------------------------------------------------------------------------------------------------------


def test_paired_difference_is_taken_over_samples_that_count(tmp_path):
    from types import SimpleNamespace

    from factory.cli.evaluate import compared

    lines = [("a", 0.0, 1.0, "ok"), ("b", 1.0, 1.0, "ok"), ("c", 0.0, 1.0, "ok"), ("d", 0.0, 0.0, "timeout")]
    rows = [
        {"split": "test", "id": name, "score": after, "status": status, "plain": {"score": before, "status": "ok"}}
        for name, before, after, status in lines
    ]
    (tmp_path / "deliberated.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    got = compared(tmp_path, SimpleNamespace(bootstrap=200, seed=1))["test"]
    # differences 1, 0, 1; d is masked
    assert got["diff"] == pytest.approx(2 / 3) and got["n"] == 3
    assert 0 <= got["diff_ci"][0] <= 2 / 3 <= got["diff_ci"][1] <= 1


@pytest.fixture
def command(monkeypatch, tmp_path, capfd, voted):
    """The command on the toy pack; instead of running workers it puts a measured step in place."""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(root / "tests" / "config" / "toy_dist"))
    planned = []

    def run_plan(made, register=True):
        planned.append(made)
        step = made.folder.root / "stages" / "01-base-eval"
        shutil.copytree(voted[0], step)
        (made.folder.root / "resolved.yaml").write_text("stages: {}\n")

    monkeypatch.setattr("factory.cli.evaluate.run_plan", run_plan)
    monkeypatch.setattr("factory.cli.evaluate.report_of", lambda made: None)

    def call(*words):
        from factory.cli.app import run

        capfd.readouterr()
        code = run(["eval", "embedded-text", "-d", "toy", *words])
        return code, *capfd.readouterr(), planned

    return call


def test_command_plans_the_deliberation_and_compares(command):
    code, out, err, planned = command("--deliberate", "majority:5", "--json")
    assert code == 0, err
    assert planned[0].config.eval.deliberate == "majority:5"
    part = json.loads(out)["deliberated"]
    assert part["compared"]["test"]["n"] == 6 and part["compared"]["validation"]["n"] == 3
    plain, more = json.loads(out)["splits"]["test"]["primary"]["value"], part["splits"]["test"]["primary"]["value"]
    assert part["compared"]["test"]["diff"] == pytest.approx(more - plain)


def test_command_prints_both_figures_and_the_price(command):
    code, out, err, _ = command("--deliberate", "majority:5")
    assert code == 0, err
    assert "Deliberated: majority:5" in out and "difference" in out and "ratio" in out and " x " in out


def test_specification_paths_reach_the_plan_absolute(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "s.txt"):
        (tmp_path / name).write_text("be kind")
    code, _, err, planned = command("--deliberate", "align3,behaviour=b.txt,safety=s.txt", "--json")
    assert code == 0, err
    assert planned[0].config.eval.deliberate == f"align3,behaviour={Path.cwd() / 'b.txt'},safety={Path.cwd() / 's.txt'}"


@pytest.mark.parametrize(
    ("text", "message"),
    [("majorty:5", "Did you mean 'majority'?"), ("best_of:2,verifier=exat", "Did you mean 'exact'?"), ("", "unknown method ''")],
)
def test_command_refuses_with_a_hint(command, text, message):
    code, out, err, planned = command("--deliberate", text)
    assert code == 2 and message in err and not out and not planned


def test_setting_in_a_recipe_is_refused_the_same_way(measure):
    with pytest.raises(ConfigError, match="Did you mean 'majority'"):
        measure("majorty:5")
