"""Splits by group, and overlap between what is trained on and what is held out."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from factory.contracts import EXACT_TEXT, Document, Lesson, Media, Message, Sample
from factory.data.declared import resolve_split
from factory.data.splits import checked_shares, declared_split, find_overlap, iter_overlaps, split_of
from factory.errors import ConfigError, DataError

from .conftest import png


def sample(key: str, text: str = "", media: tuple[Media, ...] = (), **meta) -> Sample:
    return Sample(key, "choice", (Message("user", text or f"question {key}"),), "A", media, meta)


@given(group=st.text())
def test_a_group_has_one_split_whatever_else_there_is(group):
    assert split_of(group) == split_of(group) in ("train", "validation", "test")


@given(group=st.text(), share=st.floats(0, 0.8))
def test_the_validation_share_moves_no_group_into_or_out_of_test(group, share):
    default, other = split_of(group), split_of(group, {"validation": share, "test": 0.1})
    assert (default == "test") == (other == "test")


def test_shares_are_met_over_many_groups():
    counts = [split_of(f"patient-{i}", {"validation": 0.1, "test": 0.2}) for i in range(20_000)]
    # standard error of the test share: sqrt(0.2 * 0.8 / 20000) = 0.0028; 5 of them
    assert counts.count("test") / 20_000 == pytest.approx(0.2, abs=0.014)
    assert counts.count("validation") / 20_000 == pytest.approx(0.1, abs=0.011)


def test_the_split_of_a_name_is_fixed_for_all_time():
    # A changed hash would move patients of existing builds from test to train.
    places = [split_of(f"p{i}") for i in range(60)]
    assert [i for i, split in enumerate(places) if split == "test"] == [6, 14, 16, 44, 46, 54]
    assert [i for i, split in enumerate(places) if split == "validation"] == [22, 26, 39]


@pytest.mark.parametrize("shares", [{"test": 1.0}, {"validation": 0.6, "test": 0.5}, {"tset": 0.1}, {"test": -0.1}])
def test_shares_that_make_no_sense_are_refused(shares):
    with pytest.raises(ConfigError, match=r"pack.splits"):
        checked_shares(shares)


@pytest.mark.parametrize(
    ("name", "split"),
    [("test-00000-of-00003", "test"), ("quilt_vqa_val", "validation"), ("Train", "train"), ("captions", None), ("contest", None)],
)
def test_a_name_declares_a_split_by_its_first_or_last_word(name, split):
    assert declared_split(name) == split


def test_declared_train_lends_only_the_splits_that_are_declared_nowhere():
    in_test = next(f"p{i}" for i in range(1000) if split_of(f"p{i}") == "test")
    in_validation = next(f"p{i}" for i in range(1000) if split_of(f"p{i}") == "validation")
    known = frozenset({"train", "test"})
    assert resolve_split("train", in_test, known, {"validation": 0.1, "test": 0.1}) == "train"
    assert resolve_split("train", in_validation, known, {"validation": 0.1, "test": 0.1}) == "validation"
    assert resolve_split("test_tiny", in_test, known, {"validation": 0.1, "test": 0.1}) is None


@pytest.mark.parametrize(
    ("train", "held_out", "by"),
    [
        (sample("a"), sample("a", "other words"), "id"),
        (sample("a", group="patient=1"), sample("b", group="patient=1"), "group"),
        (sample("a", media=(Media(data=png()),)), sample("b", media=(Media(data=png()),)), "image"),
        (sample("a", "What is  THIS?"), sample("b", "what is this"), "text"),
        (Document("d", "Same text."), Lesson(sample("b", "same text"), "r"), "text"),
    ],
)
def test_an_overlap_is_found_and_refused(train, held_out, by):
    assert [overlap.by for overlap in iter_overlaps([train], [held_out])] == [by]
    with pytest.raises(DataError, match=rf"1 training items are also held out.*\n  train .* \(same {by}\)"):
        find_overlap([sample("z"), train], [held_out])


def test_signs_count_where_a_sample_says_so():
    def task(sample_id, text):
        return sample(sample_id, text, **{EXACT_TEXT: True})

    find_overlap([task("a", "2 + 3"), task("b", "# @")], [task("c", "2 - 3"), task("d", "@ #")])
    with pytest.raises(DataError, match=r"same text"):
        find_overlap([sample("a", "2 + 3")], [sample("c", "2 - 3")])
    with pytest.raises(DataError, match=r"same text"):
        find_overlap([task("a", "2 + 3")], [task("c", "2 + 3")])


def test_one_question_about_two_images_is_no_overlap():
    train, other = sample("a", "Tumour?", (Media(data=png(1)),)), sample("b", "Tumour?", (Media(data=png(2)),))
    find_overlap([train], [other])
    # The same question about the same image is one: what tells the two apart above is the image.
    with pytest.raises(DataError, match=r"same image"):
        find_overlap([train], [sample("c", "Tumour?", train.media)])


def test_a_picture_saved_again_is_found_by_its_pixels():
    out = io.BytesIO()
    Image.open(io.BytesIO(png())).save(out, "BMP")
    train, held_out = sample("a", media=(Media(data=png()),)), sample("b", media=(Media(data=out.getvalue()),))
    find_overlap([train], [held_out])
    with pytest.raises(DataError, match=r"same image"):
        find_overlap([train], [held_out], pixels=True)


def test_only_the_first_overlaps_are_listed_and_all_are_counted():
    items = [sample(f"s{i}") for i in range(9)]
    with pytest.raises(DataError) as caught:
        find_overlap(items, items, shown=2)
    assert str(caught.value).startswith("9 training items") and str(caught.value).count("\n  train ") == 2
