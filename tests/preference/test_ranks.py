"""Two processes train as one does, with an odd number of pairs, with and without images, on both stages."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from factory.testing.ranks import run_ranks

HERE = Path(__file__).parent


def run(folder, job, world):
    folder.mkdir()
    workdir = folder / "work"
    (folder / "job.json").write_text(json.dumps({**job, "workdir": str(workdir)}))
    run_ranks(HERE / "pair_rank.py", [str(folder / "job.json")], world=world)
    assert [(workdir / f"rank-{rank}").read_text() for rank in range(world)] == [str(world)] * world
    return workdir, json.loads((workdir / "rows.json").read_text())


@pytest.mark.parametrize(
    ("kind", "loss", "with_images"),
    [("preference", {"loss": "mpo"}, True), ("reward_model", {"objective": "cost", "holdout": 0.3}, False)],
)
def test_two_processes_equal_one(base, vl_base, tmp_path, kind, loss, with_images):
    # 3 pairs a step: 2 and 1 (images: dealt apart, so a rank gets a filler), and two micro-batches where there are 2.
    settings = {**loss, "batch_size": 3, "epochs": 1, "optim": {"micro_batch_size": 2, "lr": 2e-3}}
    job = {"kind": kind, "base": str(vl_base if with_images else base), "with_images": with_images, "config": settings}
    one, report = run(tmp_path / "one", job, 1)
    two, report_of_two = run(tmp_path / "two", job, 2)
    assert len(report["rows"]) == report["metrics"]["num_steps"] > 1
    for row, other in zip(report["rows"], report_of_two["rows"], strict=True):
        assert row["pairs"] == other["pairs"] and row["tokens"] == other["tokens"]
        assert other["loss"] == pytest.approx(row["loss"], abs=2e-6)
        assert other["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-4)
        assert other["margin"] == pytest.approx(row["margin"], abs=1e-5)
    if kind == "reward_model":
        assert report_of_two["metrics"]["held_out"] == pytest.approx(report["metrics"]["held_out"], abs=1e-5)
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert files
    for file in files:
        want, got = load_file(one / file), load_file(two / file)
        assert max(float((want[name] - got[name]).abs().max()) for name in want) < 5e-5
