"""Stages that use a part of a pack's samples: the right ones, as many as asked, and a clear error where none fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Media, Message, Sample
from factory.errors import ConfigError, DataError
from factory.stages.only import check_only, only


def sample(number, task, has_image):
    media = (Media(data=b"x"),) if has_image else ()
    return Sample(id=str(number), task=task, messages=(Message("user", "q"),), reference="a", media=media)


def source(pattern):
    """An endless generator that repeats `pattern` of (task, has_image), and a finite one."""
    return lambda num: [sample(i, *pattern[i % len(pattern)]) for i in range(num)]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1, max_size=5), st.integers(1, 9),
    st.sampled_from([[], ["a"], ["a", "b"]]), st.sampled_from(["any", "text", "images"]),
)  # fmt: skip
def test_only_fitting_samples_come_in_their_order(pattern, limit, tasks, media):
    fits = [(not tasks or t in tasks) and (media == "any" or has == (media == "images")) for t, has in pattern]
    if not any(fits):
        with pytest.raises(DataError, match="none of"):
            only(source(pattern), limit, tasks, media, lambda s: s)
        return
    found = only(source(pattern), limit, tasks, media, lambda s: s)
    places = [i for i in range(limit * 16) if fits[i % len(pattern)]][:limit]
    assert [s.id for s in found] == [str(i) for i in places]


def test_a_short_source_gives_what_it_has():
    rows = [sample(i, "a" if i % 3 == 0 else "b", False) for i in range(10)]
    assert [s.id for s in only(lambda num: rows[:num], 8, ["a"], "any", lambda s: s)] == ["0", "3", "6", "9"]


def test_wrong_words_are_named():
    with pytest.raises(ConfigError, match=r"stages\.rl\.tasks: the pack has no task 'fnding'\. Did you mean 'finding'"):
        check_only("stages.rl", ["fnding"], "any", {"finding": {}})
    with pytest.raises(ConfigError, match=r"media='image' is not known\. Did you mean 'images'"):
        check_only("stages.rl", [], "image", {})


def test_images_for_a_base_that_reads_none_are_refused_in_the_plan():
    check_only("stages.rl", [], "images", {}, "vl")
    check_only("stages.rl", [], "text", {}, "text")
    with pytest.raises(ConfigError, match=r"stages\.rl\.media=images: the base model reads no images.*stages\.rl=null"):
        check_only("stages.rl", [], "images", {}, "text")
