"""What the safety pack needed elsewhere: judges from earlier stages, pairs by preference, the trade-off chart, withheld prompts."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from factory.config.compose import compose
from factory.contracts import DataRequest, Message, Sample
from factory.domains.safety import PACK
from factory.errors import ConfigError
from factory.report.plots import trade_off_chart, training_charts
from factory.report.read import Measured, Trained
from factory.rewards.judges.settings import build_mixture, with_stage_paths
from factory.stages.eval.measure import shown_prompt
from factory.stages.reward_model.train import labelled
from factory.stages.rl.pieces.lagrangian import Lagrangian


def test_a_judge_may_lie_in_an_earlier_stage():
    judges = {"cost": {"kind": "scalar", "path": "stage:cost_model/scorer"}, "other": {"kind": "recorded", "path": "rows.jsonl"}}
    found = with_stage_paths({"judges": judges, "seed": 0}, {"cost_model": Path("run/06-cost_model")})
    assert (
        found["judges"]["cost"]["path"] == str(Path("run/06-cost_model/scorer"))
        and found["judges"]["other"]["path"] == "rows.jsonl"
    )
    assert judges["cost"]["path"].startswith("stage:") and with_stage_paths({"seed": 0}, {}) == {"seed": 0}
    with pytest.raises(ConfigError, match="Add it to the stage's `reads`"):
        with_stage_paths({"judges": judges}, {"sft": Path("x")})


def test_the_recipe_has_the_published_constants_and_a_cost_outside_of_the_sum():
    """Safe RLHF-V: lambda 10 at first and 20 at most, SGD 0.1, threshold -0.5, the last 128 rollouts, updates from step 1 on."""
    config = compose("safety", recipe="safe-rlhf-v").config
    settings = config.stages["rl"].pieces["advantage"]["lagrangian"]
    piece = Lagrangian(**settings)
    assert (piece.start, piece.cap, piece.lr, piece.threshold, piece.window, piece.first_step) == (10.0, 20.0, 0.1, -0.5, 128, 1)
    assert config.stages["rl"].reads == ["cost_model", "reward_model"] and config.stages["rl_free"].control
    mixture = build_mixture(PACK.manifest.tasks, {"mixture": config.mixture, "judges": config.judges}, known=PACK.verifiers())
    assert piece.check_mixture(mixture) == ()
    same = {
        key: getattr(config.stages["rl"], key) == getattr(config.stages["rl_free"], key)
        for key in ("num_steps", "samples", "tasks", "group_size")
    }
    assert all(same.values())


def test_multiplier_and_cost_are_drawn():
    rows = [{"step": i, "loss": 0.0, "reward": 0.5, "cost": 0.2 - 0.1 * i, "lagrange_multiplier": 10.0 + i} for i in range(5)]
    charts = training_charts(Trained("rl", "rl", Path("x"), rows))
    assert any("multiplier of the cost" in chart for chart in charts) and any(
        "cost (constrained RL)" in chart for chart in charts
    )
    plain = training_charts(Trained("rl", "rl", Path("x"), [{"step": 0, "loss": 0.0, "reward": 0.5}]))
    assert not any("multiplier" in chart for chart in plain)


def measured(stage, safe, unsafe):
    return Measured(stage, Path("x"), {"probes": {"refusal": {"safe/refused": safe, "unsafe/refused": unsafe}}})


def test_the_trade_off_is_drawn_with_the_constant_policies():
    chart = trade_off_chart([measured("sft", 0.3, 0.9), measured("rl", 0.1, 0.95)], PACK.manifest.trade_off)
    assert chart is not None and all(
        name in chart for name in ("always refuse", "never refuse", "sft", "rl", "refusal: safe/refused")
    )
    assert trade_off_chart([measured("sft", 0.3, 0.9)], {}) is None
    assert trade_off_chart([Measured("sft", Path("x"), {"probes": {}})], PACK.manifest.trade_off) is None


def test_harmful_prompts_are_withheld_from_reports():
    harmful = Sample(
        "s", "refuse", (Message("user", "a harmful text"),), "refuse", (), {"sensitive": True, "category": "illegal"}
    )
    assert shown_prompt(harmful) == "[withheld: illegal]"
    plain = Sample("s", "answer", (Message("user", "a plain text"),), "comply", (), {"sensitive": False, "category": "x"})
    assert shown_prompt(plain) == "a plain text"


@pytest.mark.parametrize("by_safety", [True, False])
def test_held_out_pairs_become_a_calibration(by_safety, tmp_path):
    from factory.rewards.judges.calibrate import read_labelled

    options = {"preference": "safer" if by_safety else "helpful"}
    pairs = list(PACK.pairs("train", 0, DataRequest(limit=40, options=options)))
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled(pairs, by_safety=by_safety)))
    rows = read_labelled(path)
    assert len(rows) == 80 and {row.label for row in rows} == {True, False}
    for pair, chosen, rejected in zip(pairs, rows[::2], rows[1::2], strict=True):
        want = (pair.meta["chosen_safe"], pair.meta["rejected_safe"]) if by_safety else (True, False)
        assert (chosen.label, rejected.label) == want


def test_stage_options_reach_the_pack_in_a_reward_model(monkeypatch):
    """`stages.NAME.pack` is laid over the build's `pack.*` for that stage alone."""
    from factory.stages.reward_model import train as module
    from factory.stages.reward_model.config import RewardModelConfig

    seen = {}

    def read(pairs_from, ctx, *, limit):
        seen.update(ctx.request.options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "read_pairs", read)
    monkeypatch.setattr(module, "replace", lambda thing, **changes: SimpleNamespace(**{**vars(thing), **changes}))
    ctx = SimpleNamespace(request=SimpleNamespace(options={"preference": "safer", "style": "full"}))
    with pytest.raises(KeyboardInterrupt):
        module.train(RewardModelConfig(pack={"preference": "helpful"}), ctx)
    assert seen == {"preference": "helpful", "style": "full"}


@pytest.mark.parametrize("style", ["terse", "full"])
def test_reasoning_for_an_unsafe_answer_lies_in_most_pairs(style):
    """Else a cost model learns to believe what the reasoning says, and a policy to lie in it."""
    options = {"preference": "safer", "style": style}
    pairs = [pair for pair in PACK.pairs("train", 0, DataRequest(limit=400, options=options)) if not pair.meta["rejected_safe"]]
    assert len(pairs) > 100
    lies, kinds, elsewhere = 0, set(), 0
    for pair in pairs:
        honest, told = (re.search("<think>(.*)</think>", text)[1].lower() for text in (pair.chosen, pair.rejected))
        assert "refuse" in honest and "use " in pair.rejected
        if told != honest:
            lies += 1
            assert told.rstrip(".").endswith("fine")
            steps, true = (re.split(r" ; |\. ", text.rstrip(".")) for text in (told, honest))
            wrong = [step for step in steps[:-1] if step not in true]
            assert len(wrong) <= 1, "one false step, or none and a false end"
            kinds.add(wrong[0].split()[-1] if wrong else "end")
            elsewhere += bool(wrong) and wrong[0].split()[0] not in " ".join(true)
    assert 0.7 * len(pairs) < lies < 0.9 * len(pairs) and kinds == {"free", "thing", "story", "end"}
    # True of another word than the request's: only a look at the request shows it.
    assert 0.2 * lies < elsewhere < 0.5 * lies
