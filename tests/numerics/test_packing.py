"""Packed rows: same logits, loss and gradient as one text per row; nothing leaks between texts; nothing is lost."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import DataRequest
from factory.errors import DataError
from factory.stages.models.codec import Encoded
from factory.stages.models.load import load
from factory.stages.models.segments import NAME, attend_by_segment
from factory.stages.objectives import TokenNLL, num_predicted
from factory.stages.packing import chunks, collate_packed, cut, first_fit, pack, packed_share
from factory.stages.sft.train import encode

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


def test_packed_batch_by_hand(text_base):
    codec = load(text_base, precision="fp32").codec
    batch = collate_packed([[row(5, 6, 7), row(8, 9)], [row(4, 3)]], codec)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 4, 3]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["loss_mask"].tolist() == [[0, 1, 1, 0, 1, 0, 1]]
    assert "attention_mask" not in batch
    assert packed_share([[row(5, 6, 7), row(8, 9)], [row(4, 3)]], 5) == 0.7
    greedy = Encoded([5, 6], [1, 1])  # its first token would be learned from the text before
    assert collate_packed([[row(1, 2), greedy]], codec)["loss_mask"].tolist() == [[0, 1, 0, 1]]


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
    if attention == "by segment":
        attend_by_segment(loaded.model)
        assert loaded.model.config._attn_implementation == NAME
    else:
        loaded.model.set_attn_implementation(attention)
    return loaded


@pytest.mark.parametrize("attention", ["by segment", "sdpa", "eager"])
@pytest.mark.parametrize("modality", ["text", "vl"])
def test_packed_logits_equal_unpacked(world, text_base, vl_base, modality, attention):
    loaded = loaded_with(vl_base if modality == "vl" else text_base, attention)
    texts = [loaded.codec.document(world.sentence(i)) for i in range(7)]
    rows = pack(texts, 96)
    assert 1 < len(rows) < len(texts)
    packed = collate_packed(rows, loaded.codec)
    with torch.no_grad():
        logits = loaded.model(**{k: packed[k] for k in ("input_ids", "position_ids")}, use_cache=False).logits[0]
        segments = [segment for one in rows for segment in one]
        for segment, got in zip(segments, logits.split([len(segment.ids) for segment in segments]), strict=True):
            alone = loaded.model(input_ids=torch.tensor([segment.ids]), use_cache=False).logits[0]
            torch.testing.assert_close(got, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("modality", ["text", "vl"])
def test_rows_of_several_texts_each_equal_sdpa(text_base, vl_base, modality):
    reference, ours = (loaded_with(vl_base if modality == "vl" else text_base, how) for how in ("sdpa", "by segment"))
    # Two rows of 12 tokens: 5 + 4 + 3 and 12; only positions tell.
    positions = torch.tensor([[*range(5), *range(4), *range(3)], [*range(12)]])
    inputs = {"input_ids": torch.arange(20, 44).view(2, 12), "position_ids": positions, "use_cache": False}
    if modality == "vl":
        inputs["position_ids"] = positions.expand(4, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(ours.model(**inputs).logits, reference.model(**inputs).logits, rtol=1e-5, atol=1e-5)


def test_padding_and_generation_are_those_of_sdpa(world, text_base):
    from transformers import GenerationConfig

    reference, ours = (loaded_with(text_base, how) for how in ("sdpa", "by segment"))
    batch = ours.codec.collate([ours.codec.document(world.sentence(i)) for i in range(4)], left=True)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert torch.equal(ours.model(**inputs).logits, reference.model(**inputs).logits)
        settings = GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=ours.codec.pad_id)
        for prompt in (inputs, {"input_ids": inputs["input_ids"][:1]}):
            wanted = reference.model.generate(**prompt, generation_config=settings)
            assert torch.equal(ours.model.generate(**prompt, generation_config=settings), wanted)


def test_other_attention_is_left_alone_and_none_is_saved(text_base, tmp_path):
    eager = loaded_with(text_base, "eager")
    attend_by_segment(eager.model)
    assert eager.model.config._attn_implementation == "eager"
    loaded_with(text_base, "by segment").model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("modality", ["text", "vl"])
def test_packed_loss_and_gradient_equal_unpacked(world, text_base, vl_base, modality):
    losses, gradients = [], []
    for is_packed in (False, True):
        loaded = load(vl_base if modality == "vl" else text_base, precision="fp32")
        texts = [loaded.codec.document(world.sentence(i)) for i in range(7)]
        if is_packed:
            attend_by_segment(loaded.model)
            batch = collate_packed(pack(texts, 96), loaded.codec)
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
    loaded = loaded_with(text_base, "by segment")
    first, second = (loaded.codec.document(world.sentence(i)) for i in (1, 2))
    other = Encoded([*reversed(first.ids)], first.loss_mask)
    with torch.no_grad():
        outputs = []
        for start in (first, other):
            packed = collate_packed([[start, second]], loaded.codec)
            inputs = {key: packed[key] for key in ("input_ids", "position_ids")}
            outputs.append(loaded.model(**inputs, use_cache=False).logits[0])
    assert torch.equal(outputs[0][len(first.ids) :], outputs[1][len(first.ids) :])
    assert not torch.equal(outputs[0][: len(first.ids)], outputs[1][: len(first.ids)])


def test_packed_lessons_with_images_have_the_loss_and_gradient_of_padded_ones(world, vl_base):
    figures = []
    for is_packed in (False, True):
        loaded = loaded_with(vl_base, "by segment" if is_packed else "sdpa")
        lessons = world.SmallPack("vl").lessons("train", 0, DataRequest(limit=5))
        rows = [encode(lesson, loaded.codec) for lesson in lessons]
        assert 1 < sum(row.pixels is not None for row in rows) < len(rows)
        batch = collate_packed([rows], loaded.codec) if is_packed else loaded.codec.collate(rows)
        loss, _ = TokenNLL().loss(loaded.model, batch, TokenNLL().counts(batch))
        loss.backward()
        figures.append(
            (float(loss.detach()), {name: p.grad for name, p in loaded.model.named_parameters() if p.grad is not None})
        )
    (padded, wanted), (packed, got) = figures
    assert packed == pytest.approx(padded, abs=1e-5) and got.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
