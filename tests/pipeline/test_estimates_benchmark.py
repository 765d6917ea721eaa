"""`benchmarks/estimates.py` reads what builds leave and calibrates as they do: figures by hand."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import estimates


def make(folder, name, steps, pack="toy"):
    """A run whose plan says (kind, planned seconds, formula) and whose locks say the seconds."""
    run = folder / "runs" / name
    rows = []
    for number, (kind, planned, formula, measured) in enumerate(steps):
        step = f"{number:02}-{kind}"
        rows.append({"name": step, "kind": kind, "seconds": planned, "seconds_formula": formula})
        (run / "stages" / step).mkdir(parents=True)
        if measured is not None:
            (run / "stages" / step / "stage.lock").write_text(json.dumps({"seconds": measured}))
    (run / "plan.json").write_text(json.dumps({"steps": rows, "pack": {"name": pack}}))
    (run / "resolved.yaml").write_text("domain: toy\n")
    return run


def test_both_forms_of_the_formula_are_read(tmp_path):
    # Together: 53 = 0.5 x 106. Apart: 62 = 2 x 6 + 0.5 x 100, so that 6 + 100 remain without calibration.
    run = make(tmp_path, "a", [("sft", 53.0, "0.50 x (6 s + 10 steps x ...", 53.0), ("rl", 62.0, "2.00 x 6 s + 0.50 x (10 steps", 40.0), ("cpt", 9.0, "", 9.0),
                               ("rl", 62.0, "2.00 x 6 s + 0.50 x (10 steps", None)])  # fmt: skip
    assert [(step.kind, step.plain_s) for step in estimates.steps_of(run)] == [("sft", 106.0), ("rl", 106.0)]
    assert estimates.runs_in([tmp_path]) == [run] == estimates.runs_in([run]) == estimates.runs_in([tmp_path / "runs"])


def test_calibrated_on_the_other_run(tmp_path):
    formula = "1.00 x 6 s + 1.00 x ("
    first = make(tmp_path, "a", [("base", 6.0, formula, 12.0), ("rl", 106.0, formula, 62.0)])
    second = make(tmp_path, "b", [("base", 6.0, formula, 12.0), ("rl", 206.0, formula, 168.0)])
    steps = [step for run in (first, second) for step in estimates.steps_of(run)]
    # The other run's start took twice 6 s, and 50 s of its 62 were 100 s of work: 12 + 0.5 x 200 = 112 s for this one's 168.
    assert estimates.left_out(steps[3], steps) == pytest.approx(168 / 112)
    assert estimates.left_out(steps[0], steps) == pytest.approx(1.0)
    assert estimates.left_out(steps[0], steps[:2]) is None
    assert estimates.table(steps)[-1].startswith("all") and "2/4" in estimates.table(steps)[-1]
