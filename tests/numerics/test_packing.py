"""Packed rows: same logits, loss and gradient as one text per row; nothing leaks between texts; nothing is lost."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import DataError
from factory.stages.models.codec import Encoded
from factory.stages.models.load import load
from factory.stages.objectives import TokenNLL, num_predicted
from factory.stages.packing import chunks, collate_packed, cut, first_fit, pack, packed_share

torch.set_num_threads(1)


@given(st.lists(st.integers(1, 20), max_size=40), st.integers(20, 40))
def test_first_fit_places_every_segment_once_and_never_overfills(lengths, capacity):
    rows = first_fit(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= capacity for row in rows)
    best = -(-sum(lengths) // capacity)
    assert len(rows) <= 11 / 9 * max(best, 1) + 10  # first-fit decreasing; the segments here are at most a row long


def test_first_fit_by_hand():
    # longest first: 6 -> row 0 (4 left); 5 -> row 1 (5 left); 4 -> row 0 (0 left); 3 -> row 1 (2 left); 2 -> row 1
    assert first_fit([2, 5, 3, 6, 4], 10) == [[3, 4], [1, 2, 0]]


def test_a_segment_longer_than_the_row_is_refused():
    with pytest.raises(DataError, match="11 tokens do not fit a row of 10"):
        first_fit([3, 11], 10)


def row(*ids):
    return Encoded(list(ids), [0] + [1] * (len(ids) - 1))


def test_packed_batch_by_hand():
    batch = collate_packed([[row(5, 6, 7), row(8, 9)], [row(4, 3)]], pad_id=1)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [4, 3, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert batch["loss_mask"].tolist() == [[0, 1, 1, 0, 1], [0, 1, 0, 0, 0]]
    assert "attention_mask" not in batch
    assert packed_share([[row(5, 6, 7), row(8, 9)], [row(4, 3)]], 5) == 0.7


def test_the_first_token_of_a_segment_is_never_learned_from_the_text_before():
    greedy = Encoded([5, 6], [1, 1])
    assert collate_packed([[row(1, 2), greedy]], pad_id=0)["loss_mask"].tolist() == [[0, 1, 0, 1]]


@given(st.integers(1, 50), st.integers(2, 20))
def test_chunks_hold_every_token_in_order(num, length):
    encoded = Encoded(list(range(num)), [0] + [1] * (num - 1))
    pieces = chunks(encoded, length)
    assert [i for piece in pieces for i in piece.ids] == encoded.ids
    assert [i for piece in pieces for i in piece.loss_mask] == encoded.loss_mask
    assert all(1 <= len(piece.ids) <= length for piece in pieces)


def test_cutting_an_image_is_refused():
    pictured = Encoded([1] * 9, [1] * 9, pixels=torch.zeros(4, 3), grid=torch.tensor([[1, 2, 2]]))
    assert cut(pictured, 9) is pictured and cut(row(1, 2, 3), 2).ids == [1, 2]
    with pytest.raises(DataError, match=r"9 tokens, more than the limit of 8.*Raise max_length"):
        cut(pictured, 8)


def loaded_with(base, attention):
    loaded = load(base, precision="fp32")
    loaded.model.set_attn_implementation(attention)
    return loaded


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("modality", ["text", "vl"])
def test_packed_logits_equal_unpacked(world, text_base, vl_base, modality, attention):
    loaded = loaded_with(vl_base if modality == "vl" else text_base, attention)
    texts = [loaded.codec.document(world.sentence(i)) for i in range(7)]
    rows = pack(texts, 96)
    assert 1 < len(rows) < len(texts)
    packed = collate_packed(rows, pad_id=loaded.codec.pad_id, is_vl=modality == "vl")
    with torch.no_grad():
        logits = loaded.model(**{k: packed[k] for k in ("input_ids", "position_ids")}, use_cache=False).logits
        for b, segments in enumerate(rows):
            start = 0
            for segment in segments:
                alone = loaded.model(input_ids=torch.tensor([segment.ids]), use_cache=False).logits[0]
                torch.testing.assert_close(logits[b, start : start + len(segment.ids)], alone, rtol=1e-5, atol=1e-5)
                start += len(segment.ids)


@pytest.mark.parametrize("modality", ["text", "vl"])
def test_packed_loss_and_gradient_equal_unpacked(world, text_base, vl_base, modality):
    losses, gradients = [], []
    for is_packed in (False, True):
        loaded = load(vl_base if modality == "vl" else text_base, precision="fp32")
        texts = [loaded.codec.document(world.sentence(i)) for i in range(7)]
        if is_packed:
            batch = collate_packed(pack(texts, 96), pad_id=loaded.codec.pad_id, is_vl=modality == "vl")
        else:
            batch = loaded.codec.collate(texts)
        objective = TokenNLL()
        totals = objective.counts(batch)
        assert totals["tokens"] == sum(len(text.ids) - 1 for text in texts) == num_predicted(batch)
        loss, _ = objective.loss(loaded.model, batch, totals)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append({name: p.grad for name, p in loaded.model.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_changing_one_text_changes_no_other_text_of_the_row(world, text_base):
    loaded = load(text_base, precision="fp32")
    first, second = (loaded.codec.document(world.sentence(i)) for i in (1, 2))
    other = Encoded([*reversed(first.ids)], first.loss_mask)
    with torch.no_grad():
        outputs = []
        for start in (first, other):
            packed = collate_packed([[start, second]], pad_id=loaded.codec.pad_id)
            inputs = {key: packed[key] for key in ("input_ids", "position_ids")}
            outputs.append(loaded.model(**inputs, use_cache=False).logits[0])
    assert torch.equal(outputs[0][len(first.ids) :], outputs[1][len(first.ids) :])
    assert not torch.equal(outputs[0][: len(first.ids)], outputs[1][: len(first.ids)])
