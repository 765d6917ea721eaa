"""Each side of each benchmark runs, small and in this process, and the proofs that come before the timing hold."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import growth
import sft
import tiling
import tokens
import written_out

torch.set_num_threads(1)
BASE = {"vocabulary": 1024, "hidden": 64, "layers": 1}


@pytest.mark.parametrize("kind", ["cpt", "sft"])
def test_a_documents_loss_is_the_same_packed_and_alone_on_both_sides(kind, tmp_path):
    base = str(tmp_path / "base")
    rows = sft.prepared(base, kind, 6, 0, **BASE)["rows"]
    shown = sft.proof(base, kind, rows, 6, 0)
    assert max(shown.values()) < sft.SAME_LOSS


def test_both_trainers_take_their_epochs(tmp_path):
    base = str(tmp_path / "base")
    rows = sft.prepared(base, "sft", 4, 0, **BASE)["rows"]
    own = sft.ours(base, "sft", 4, 4, 2, 1e-4, 0)
    other = sft.theirs(base, rows, sft.MODES[1], 1, 2, 1e-4, 0)
    assert len(own["epochs"]) == len(other["epochs"]) == 1 and own["epochs"][0]["cpu_s"] > 0 < other["epochs"][0]["cpu_s"]
    assert own["epochs"][0]["tokens"] == other["epochs"][0]["tokens"] == sum(sum(mask[1:]) for _, mask in rows)
    # Both took one step from the same weights, so the second step's loss is nearly the same.
    assert own["epochs"][0]["loss"] == pytest.approx(other["epochs"][0]["loss"], abs=1e-3)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openslide", "tifffile", "imagecodecs")),
    reason="needs openslide, tifffile and imagecodecs (the extra `pathology`)",
)
def test_the_tiles_are_those_that_openslide_reads(tmp_path):
    from toy_slide import make_slide

    slide = str(make_slide(tmp_path / "slide.tif", side=1536, seed=0))
    own = tiling.ours(slide, 1)
    other = tiling.raw(slide, own["corners"], 1)
    assert own["sums"] == other["sums"] and len(own["corners"]) >= 4 and own["rates"][0] > 0


def test_written_out_pieces_compute_what_the_plain_way_does(monkeypatch):
    monkeypatch.setattr(written_out, "LEAST_S", 0.0)
    small = {"norm": [6, 8], "projection of patches": [4, 48, 8], "attention over images": [2, 4, 16], "head": [9, 8, 30]}
    for piece, shape in small.items():
        times = written_out.side(piece, shape, 0, 2)
        assert len(times) == 2 and all(len(values) == 2 and values[0] > 0 for values in times)
    with pytest.raises(RuntimeError, match="another one"):
        written_out._hastened("norm", torch.nn.LayerNorm(8))


def test_growth_measures_what_it_says():
    times = growth.registry(12, 1)
    assert len(times) == 6 and all(len(values) == 1 and values[0] > 0 for values in times.values())
    assert growth.reading(200) > 0 and growth.packing(100, 0) > 0 and growth.rollout_log(5) >= 0


def test_tokens_are_counted_until_three_looks_in_a_row_are_above_the_start():
    looks = iter([0.50, 0.70, 0.50, 0.62, 0.60, 0.64, 0.99])
    found = tokens.until_reached(lambda: next(looks), lambda number: 100 + number, 10_000)
    # Means of three: .607 after the third step (not yet .62), .573, .62 after the fifth.
    assert found == {"tokens": 510, "reached": True, "curve": [0.5, 0.7, 0.5, 0.62, 0.6, 0.64]}
    never = tokens.until_reached(lambda: 0.5, lambda number: 100, 250)
    assert never["tokens"] == 250 and not never["reached"] and len(never["curve"]) == 4


@pytest.mark.slow
def test_both_sides_learn_the_words(tmp_path):
    for side in (tokens.ours, tokens.theirs):
        found = side(str(tmp_path), 0, 2000)
        assert found["tokens"] == 2000 and 0.1 < found["curve"][0] < 0.9 and len(found["curve"]) >= 2
