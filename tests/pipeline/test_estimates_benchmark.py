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
    # Together: 53 = 0.5 x 106. Apart: 62 = 2 x 6 + 0.5 x 100, so that 100 and a start of 1 remain without calibration.
    run = make(tmp_path, "a", [("sft", 53.0, "0.50 x (6 s + 10 steps x ...", 53.0), ("rl", 62.0, "2.00 x 6 s + 0.50 x (10 steps", 40.0), ("cpt", 9.0, "", 9.0),
                               ("rl", 62.0, "2.00 x 6 s + 0.50 x (10 steps", None)])  # fmt: skip
    assert [(step.kind, step.plain_s) for step in estimates.steps_of(run)] == [("sft", 106.0), ("rl", 101.0)]
    assert estimates.runs_in([tmp_path]) == [run] == estimates.runs_in([run]) == estimates.runs_in([tmp_path / "runs"])


def test_calibrated_on_the_other_run(tmp_path):
    formula = "1.00 x 6 s + 1.00 x ("
    first = make(tmp_path, "a", [("base", 6.0, formula, 12.0), ("rl", 106.0, formula, 62.0)])
    second = make(tmp_path, "b", [("base", 6.0, formula, 12.0), ("rl", 206.0, formula, 168.0)])
    steps = [step for run in (first, second) for step in estimates.steps_of(run)]
    # 62 s for 100 s of work, nearly all of which is no start: about 6 + 0.56 x 200 = 118 s for this one's 168.
    assert estimates.left_out(steps[3], steps) == pytest.approx(168 / 118, rel=0.02)
    assert estimates.left_out(steps[0], steps) == pytest.approx(1.0, rel=0.02)
    assert estimates.left_out(steps[0], steps[:2]) is None
    assert estimates.table(steps)[-1].startswith("all") and "2/4" in estimates.table(steps)[-1]


def test_time_on_cpu_is_cpu_seconds_and_memory_is_set_against_the_plan(tmp_path):
    run = make(tmp_path, "a", [("sft", 12.0, "1.00 x 6 s + 1.00 x (", 40.0), ("rl", 12.0, "1.00 x 6 s + 1.00 x (", 12.0)])
    plan = json.loads((run / "plan.json").read_text())
    plan["steps"][0] |= {"peak_memory_bytes": 100, "process_bytes": 700, "memory_bytes": 800}
    (run / "plan.json").write_text(json.dumps(plan))
    lock = run / "stages" / "00-sft" / "stage.lock"
    lock.write_text(json.dumps({"seconds": 40.0, "usage": {"cpu_s": 13.0, "peak_bytes": 1200}}))
    sft, rl = estimates.steps_of(run)
    assert (sft.measured_s, sft.planned_bytes, sft.peak_bytes) == (13.0, 800, 1200)
    assert (rl.measured_s, rl.peak_bytes) == (12.0, 0)
    # 13 / 12 is near, 1200 / 800 is not.
    assert estimates.share([13 / 12, 1200 / 800]) == "1/2" and estimates.share([]) == ""
    assert list(estimates.lines_of_build("toy", "first", [sft]))[-1].endswith("time 1/1, memory 0/1")


def test_the_memory_of_a_process_is_learned_where_the_model_is_small():
    from factory.pipeline import estimate as est
    from factory.pipeline.calibration import Calibration

    mib = 2**20
    assert est.process_mib(est.CPU_THREAD, model=100 * mib, usage={"peak_bytes": 900 * mib}) == 800.0
    assert est.process_mib(est.CPU_THREAD, model=500 * mib, usage={"peak_bytes": 900 * mib}) is None
    assert (
        est.process_mib(est.CPU_THREAD, model=1, usage={}) is est.process_mib(est.GPU, model=1, usage={"peak_bytes": 9}) is None
    )
    known = Calibration(process_mib={"cpu-1-thread/sft": {"toy": [800.0]}})
    assert (
        est.process_bytes(known, est.CPU_THREAD, "sft", "toy") == 800 * mib
        and est.process_bytes(known, est.GPU, "sft", "toy") == 0
    )


def test_a_worker_tells_what_it_took():
    from factory.pipeline.worker import usage

    told = usage()
    assert told["cpu_s"] > 0 and 20 * 2**20 < told["peak_bytes"] < 64 * 2**30
