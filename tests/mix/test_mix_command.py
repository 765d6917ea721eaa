"""`factory mix` over small fake run folders: what it reads, what it prints, what it refuses."""

import json
import subprocess
import sys

import pytest

from factory.cli.app import run
from factory.config.layers import command_layer
from factory.datamix.seeds import pair_mixtures, seed_mixtures


def score(weights):
    """Best at a .5, b .3, c .2."""
    return 0.8 - sum((weights.get(name, 0.0) - best) ** 2 for name, best in {"a": 0.5, "b": 0.3, "c": 0.2}.items())


@pytest.fixture
def seven(make_run):
    """The seed mixtures of three sets, run; a set that weighs 0 is left out of the config, and weights need not sum to 1."""
    names = []
    for number, weights in enumerate(seed_mixtures(["a", "b", "c"]).values()):
        names.append(f"seed-{number}")
        make_run(names[-1], {name: 3 * weight for name, weight in weights.items() if weight}, score(weights), seed=number)
    return names


def printed(capsys, *words):
    code = run(["mix", *words])
    return code, capsys.readouterr()


def test_fit_prints_the_model(seven, capsys):
    code, out = printed(capsys, "fit", *seven, "--json")
    found = json.loads(out.out)
    assert code == 0 and found["sets"] == ["a", "b", "c"] and found["metric"] == "accuracy" and found["split"] == "validation"
    # score = .8 - (.25 + .09 + .04) + 2 (.5 a + .3 b + .2 c) - (a^2 + b^2 + c^2); a alone: .42 + 1 - 1 = .42, and w_a w_b gains 2
    assert found["b"] == pytest.approx([0.42, 0.02, -0.18]) and found["C"][0] == pytest.approx([0.0, 1.0, 1.0])
    assert found["rmse"] < 1e-9 and found["loo_rmse"] < 1e-9 < found["loo_rmse_of_mean"] and found["notes"] == []
    assert len(found["runs"]) == 7 and found["runs"][6]["predicted"] == pytest.approx(found["runs"][6]["score"])
    code, out = printed(capsys, "fit", *seven)
    assert code == 0 and "a x b" in out.out and "+2.0000" in out.out and "next: factory mix search" in out.out


def test_search_proposes_weights_that_a_build_takes(seven, capsys):
    code, out = printed(capsys, "search", *seven, "--within", "1", "--json")
    found = json.loads(out.out)
    assert code == 0 and found["weights"] == {"a": 0.5, "b": 0.3, "c": 0.2}
    assert found["predicted"] == pytest.approx(0.8) and found["best_measured"] == pytest.approx(
        score(dict.fromkeys("abc", 1 / 3))
    )
    import shlex

    flag, value = shlex.split(found["setting"])
    layer = command_layer((), [value])
    assert flag == "--set" and layer.values["stages"]["rl"]["pieces"]["sampler"]["mix"]["weights"] == {
        "a": 0.5,
        "b": 0.3,
        "c": 0.2,
    }
    # near the runs only: a tenth of the data may move, from the best run nearest to the summit
    _, out = printed(capsys, "search", *seven, "--within", "0.1", "--json")
    near = json.loads(out.out)
    assert near["distance"] <= 0.1 + 1e-9 and near["best_measured"] < near["predicted"] < 0.8
    code, out = printed(capsys, "search", *seven)
    assert code == 0 and "next: factory build" in out.out and "mix.weights=" in out.out


def test_too_few_runs_are_refused_with_what_to_run(make_run, capsys):
    for name, weights in {
        "one": {"a": 1, "b": 0, "c": 0},
        "two": {"a": 1, "b": 1, "c": 1},
        "again": {"a": 2, "b": 2, "c": 2},
    }.items():
        make_run(name, weights, 0.5)
    code, out = printed(capsys, "fit", "one", "two", "again")
    message = " ".join(out.err.split())
    assert code == 3 and "3 runs of 2 different mixtures are too few: 3 sets (a, b, c) want 6" in message
    assert (
        "b alone" in message
        and "without a" in message
        and "a alone" not in message
        and "all " not in message.split("Run these")[1]
    )
    assert """'stages.rl.pieces.sampler.mix.weights={"a": 0, "b": 1, "c": 0}'""" in message


def test_a_ridge_lets_the_papers_seeds_do(make_run, capsys):
    sets = ["a", "b", "c", "d"]
    for number, weights in enumerate(seed_mixtures(sets).values()):
        make_run(f"s{number}", weights, score(weights))
    names = [f"s{i}" for i in range(9)]
    code, out = printed(capsys, "fit", *names)
    assert code == 3 and "With --ridge above 0, 9 will do" in " ".join(out.err.split()) and "a and b" in out.err
    assert printed(capsys, "fit", *names, "--ridge", "0.01")[0] == 0
    # Ten mixtures for ten coefficients, but so symmetric that one stays open; the pair that is then asked for settles it.
    pairs = pair_mixtures(sets)
    make_run("pair", pairs["a and b"], score(pairs["a and b"]))
    code, out = printed(capsys, "fit", *names, "pair")
    asked = out.err.split("Run these as well:")[1]
    assert code == 3 and "collinear" in out.err and [title for title in pairs if title in asked] == ["a and c"]
    make_run("other", pairs["a and c"], score(pairs["a and c"]))
    code, out = printed(capsys, "fit", *names, "pair", "other", "--json")
    assert code == 0 and json.loads(out.out)["rmse"] < 1e-9


def test_notes_say_what_is_doubtful(make_run, capsys):
    # noise, no matter what was mixed
    noise = (0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.2)
    for number, weights in enumerate(seed_mixtures(["a", "b", "c"]).values()):
        make_run(f"s{number}", weights, noise[number], lr=1e-4 if number else 1e-5)
    code, out = printed(capsys, "search", *(f"s{i}" for i in range(7)), "--json")
    notes = " | ".join(json.loads(out.out)["notes"])
    assert code == 0 and "differ in more than the mixture: stages.rl.optim.lr" in notes and "seed" not in notes
    assert "no better than by their mean" in notes and "within the leave-one-out error" in notes


def test_other_keys_stages_and_tasks(make_run, capsys):
    for number, weights in enumerate(seed_mixtures(["x", "y"]).values()):
        make_run(f"p{number}", weights, 0.1 * number, key="shares", stage="rl-late", tasks={"finding": 0.5 + number / 10})
    words = ["fit", "p0", "p1", "p2", "--key", "pack.shares", "--task", "finding", "--json"]
    code, out = printed(capsys, *words)
    found = json.loads(out.out)
    assert code == 0 and [run["score"] for run in found["runs"]] == [0.5, 0.6, 0.7] and found["metric"] == "finding"
    assert found["loo_rmse"] is None and "run one more mixture" in found["notes"][0]
    code, out = printed(capsys, "fit", "p0", "--key", "pack.share")
    assert code == 3 and "pack.share is no mapping" in out.err
    code, out = printed(capsys, "fit", "p0", "--key", "pack.shares", "--task", "findings")
    assert code == 3 and "Did you mean 'finding'" in out.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fit", "seed-9"], 3, "Did you mean 'seed-"),
        (["fit", "seed-0", "--stage", "sft"], 3, "sampler.mix.weights is no mapping"),
        (["search", "seed-0", "--within", "0"], 2, "above 0 and at most 1"),
        (["seeds", "a"], 2, "two or more different sets"),
        (["seeds", "a", "a"], 2, "two or more different sets"),
    ],
)
def test_mistakes_are_explained(seven, capsys, words, code, message):
    found, out = printed(capsys, *words)
    assert found == code and message in " ".join(out.err.split())


def test_an_unfinished_run_and_one_set_are_refused(make_run, capsys):
    folder = make_run("cut", {"a": 1, "b": 1}, 0.5)
    (folder / "stages" / "07-rl-eval" / "eval.json").unlink()
    code, out = printed(capsys, "fit", "cut")
    assert code == 3 and "no finished eval of stage 'rl'" in out.err
    make_run("single", {"a": 1}, 0.5)
    code, out = printed(capsys, "fit", "single")
    assert code == 3 and "a mixture needs two or more" in out.err
    make_run("blank", {"a": 1, "b": 1}, None)
    code, out = printed(capsys, "fit", "blank")
    assert code == 3 and "nothing was measured" in out.err


def test_seeds_are_ready_settings(capsys):
    code, out = printed(capsys, "seeds", "coco", "lisa", "sat", "geo", "--json")
    assert code == 0 and len(json.loads(out.out)) == 9
    code, out = printed(capsys, "seeds", "coco", "lisa", "sat", "geo", "--pairs", "--json")
    rows = json.loads(out.out)
    assert len(rows) == 9 + 6 and rows[-1]["title"] == "sat and geo"
    code, out = printed(capsys, "seeds", "a", "b")
    assert code == 0 and "a alone" in out.out and "without" not in out.out


def test_the_command_file_imports_nothing_heavy():
    code = "import sys; import factory.cli.mix; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
