"""Learning-rate curve, parameter groups, data order, metrics file: by hand."""

import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from factory.config.schema import OptimConfig, Schedule
from factory.errors import ConfigError, DataError, TrainingError
from factory.stages.batches import DataOrder, LazyEncoded, cache_bytes, deal, micro_batches, num_steps, share_of
from factory.stages.metrics import Throughput, append_metrics, read_metrics, truncate_metrics
from factory.stages.models.codec import Encoded
from factory.stages.pair_batches import EncodedPair
from factory.stages.schedule import freeze_what_is_asked, is_vision, lr_factor, param_groups, set_lr


def curve(total, **settings):
    return [lr_factor(step, total, OptimConfig(**settings)) for step in range(total)]


def test_linear_schedule_by_hand():
    # warm-up 1/2, 2/2; then 3 updates left, falling from 1 to 0.2 in two equal steps of 0.4
    assert curve(5, warmup_steps=2, schedule=Schedule.linear, min_lr_ratio=0.2) == pytest.approx([0.5, 1.0, 1.0, 0.6, 0.2])


def test_cosine_schedule_by_hand():
    # no warm-up; halfway the cosine is 0, so 0.1 + 0.9 * 0.5 = 0.55; last update at min_lr_ratio exactly
    assert curve(3, warmup_steps=0, schedule=Schedule.cosine, min_lr_ratio=0.1) == pytest.approx([1.0, 0.55, 0.1])


def test_constant_schedule_ignores_the_floor():
    assert curve(4, warmup_steps=2, schedule=Schedule.constant, min_lr_ratio=0.1) == [0.5, 1.0, 1.0, 1.0]


@given(st.integers(1, 60), st.integers(0, 80), st.sampled_from(list(Schedule)), st.floats(0, 1))
def test_factor_is_positive_in_warmup_and_never_leaves_the_unit_range(total, warmup, schedule, floor):
    factors = curve(total, warmup_steps=warmup, schedule=schedule, min_lr_ratio=floor)
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert all(factor > 0 for factor in factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)


def test_schedule_refuses_a_floor_above_one():
    with pytest.raises(ConfigError, match=r"optim\.min_lr_ratio is 1\.5"):
        lr_factor(0, 10, OptimConfig(min_lr_ratio=1.5))


class Eyes(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        self.layers = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)


def test_groups_scale_vision_and_spare_vectors_from_decay():
    groups = param_groups(Eyes().named_parameters(), OptimConfig(lr=0.1, vision_lr_scale=0.5, weight_decay=0.3))
    got = sorted((g["peak_lr"], g["weight_decay"], len(g["params"])) for g in groups)
    # vision: 1 matrix; 1 bias + 2 norm vectors. language: 1 matrix; 1 bias + 2 norm vectors
    assert got == [(0.05, 0.0, 3), (0.05, 0.3, 1), (0.1, 0.0, 3), (0.1, 0.3, 1)]
    set_lr(groups, 0.5)
    assert sorted({g["lr"] for g in groups}) == [0.025, 0.05]


def test_vision_scale_zero_freezes_the_tower_only():
    model = Eyes()
    assert freeze_what_is_asked(model, OptimConfig(vision_lr_scale=0.0)) == 4
    assert {is_vision(name) for name, p in model.named_parameters() if p.requires_grad} == {False}


class Bridged(Eyes):
    def __init__(self):
        super().__init__()
        self.visual = nn.ModuleDict({"block": nn.Linear(2, 2), "merger": nn.Linear(2, 2)})


def test_shallow_alignment_trains_tower_and_projector_at_their_own_rates_and_not_the_language():
    # Lingshu: vision 2e-6, projector 1e-5, language model frozen
    model, optim = Bridged(), OptimConfig(lr=1e-5, vision_lr_scale=0.2, projector_lr_scale=1.0, language_lr_scale=0.0)
    assert freeze_what_is_asked(model, optim) == 4  # a matrix, its bias, two norm vectors
    groups = param_groups(model.named_parameters(), optim)
    assert sorted(g["peak_lr"] for g in groups) == pytest.approx([2e-6, 2e-6, 1e-5, 1e-5])
    assert [len(g["params"]) for g in groups] == [1, 1, 1, 1]


def test_a_projector_without_a_rate_of_its_own_follows_the_tower():
    groups = param_groups(Bridged().named_parameters(), OptimConfig(lr=0.1, vision_lr_scale=0.5))
    assert sorted((g["peak_lr"], len(g["params"])) for g in groups) == [(0.05, 2), (0.05, 2), (0.1, 1), (0.1, 3)]


def test_nothing_trainable_is_refused():
    model = Eyes().requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter is trainable"):
        param_groups(model.named_parameters(), OptimConfig())


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 12), st.integers(0, 5))
def test_every_item_comes_once_per_epoch(num_items, epochs, batch_size, seed):
    order = DataOrder(num_items, epochs, batch_size, seed)
    seen = [i for step in range(order.num_steps) for i in order.indices(step)]
    assert order.num_steps == num_steps(num_items, epochs, batch_size) == -(-num_items * epochs // batch_size)
    for epoch in range(epochs):
        assert sorted(seen[epoch * num_items : (epoch + 1) * num_items]) == list(range(num_items))


def test_order_is_a_function_of_seed_and_step():
    straight, jumped = DataOrder(50, 3, 8, seed=1), DataOrder(50, 3, 8, seed=1)
    assert [straight.indices(s) for s in range(19)][11] == jumped.indices(11)
    assert DataOrder(50, 3, 8, seed=2).indices(0) != straight.indices(0)


def test_order_refuses_a_checkpoint_of_other_data():
    with pytest.raises(TrainingError, match=r"num_items 7 -> 8"):
        DataOrder(8, 1, 2, 0).load_state_dict(DataOrder(7, 1, 2, 0).state_dict())


def test_order_refuses_no_data():
    with pytest.raises(DataError, match="nothing to train on: 0 items"):
        DataOrder(0, 1, 2, 0)


@given(st.lists(st.integers(), min_size=1, max_size=40, unique=True), st.integers(1, 5), st.integers(0, 6))
def test_dealing_gives_each_row_to_one_rank_and_equal_numbers_of_parts(items, world_size, size):
    hands = [deal(items, rank, world_size, size) for rank in range(world_size)]
    assert sorted(i for hand in hands for part, is_filler in hand if not is_filler for i in part) == sorted(items)
    assert len({len(hand) for hand in hands}) == 1
    assert all(len(part) <= (size or len(items)) for hand in hands for part, _ in hand)


def test_shares_and_parts_by_hand():
    assert deal([], 0, 2, 4) == []
    assert deal("abc", 1, 2, 1) == [(["b"], False), (["a"], True)]
    assert [share_of("abcde", rank, 2) for rank in (0, 1)] == [["a", "c", "e"], ["b", "d"]]
    assert micro_batches([1, 2, 3], 2) == [[1, 2], [3]]
    assert micro_batches([], 2) == [] == micro_batches([], 0)


def test_what_fits_is_encoded_once():
    calls = []

    def encode(length):
        calls.append(length)
        return Encoded([1] * length, [1] * length)

    sizes = [10, 30, 5, 1]
    lazy = LazyEncoded(sizes, encode, cache_bytes=Encoded([1] * 16, [1] * 16).num_bytes)
    for _ in range(2):
        assert [len(lazy[i].ids) for i in range(4)] == sizes and len(lazy) == 4
    assert calls == [10, 30, 5, 1, 30], "30 never fits; 10, 5 and 1 do together"


def test_encoded_rows_tell_what_they_take():
    ids = [1000 + number for number in range(500)]
    taken = 2 * sys.getsizeof(ids) + sum(sys.getsizeof(one) for one in ids)
    assert Encoded(ids, [1] * 500).num_bytes == pytest.approx(taken, rel=0.1)
    with_image = Encoded(ids, [1] * 500, torch.zeros(64, 384), torch.tensor([[1, 8, 8]]))
    assert with_image.num_bytes == Encoded(ids, [1] * 500).num_bytes + 64 * 384 * 4 + 3 * 8
    pair = EncodedPair(with_image, replace(with_image, ids=ids[:10], loss_mask=[1] * 10), 0)
    assert pair.num_bytes == with_image.num_bytes + Encoded(ids[:10], [1] * 10).num_bytes, "the images of a pair are shared"


def test_nothing_is_kept_for_a_single_epoch():
    assert cache_bytes(512, epochs=1) == 0 and cache_bytes(512, epochs=2) == 512 * 2**20


def test_metrics_are_cut_at_the_step_and_torn_lines_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert truncate_metrics(path, 3) == 0 and read_metrics(path) == []
    for step in (1, 2, 3):
        append_metrics(path, {"step": step, "loss": float("nan") if step == 2 else 0.5})
    writer = path.open("ab")
    writer.write(b'{"step": 4, "lo')
    writer.flush()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3] and read_metrics(path)[1]["loss"] is None
    assert truncate_metrics(path, 2) == 2
    writer.write(b'{"step": 9}\n')  # a writer that held the file open goes on at the new end
    writer.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 9]


def test_throughput_by_hand():
    times = iter([0.0, 2.0, 3.0])
    meter = Throughput(lambda: next(times))
    assert meter.lap(10) == {"tokens_per_s": 5.0, "time_s": 2.0}
    assert meter.lap(10) == {"tokens_per_s": 10.0, "time_s": 3.0}
