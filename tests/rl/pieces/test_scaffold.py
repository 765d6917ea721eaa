"""The caption in the prompt: where it goes, that it goes there once, and what happens without one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Media, Message, Sample
from factory.errors import DataError
from factory.stages.rl.pieces.scaffold import CaptionAided

SAMPLE = Sample(
    id="s", task="t", messages=(Message("system", "be brief"), Message("user", "<image>\nstain?")), reference="he",
    media=(Media(data=b"x"),), meta={"caption": " stain he ; size large "},
)  # fmt: skip


@pytest.mark.proves("format.caption_aided", "table")
def test_the_caption_follows_the_question():
    found = CaptionAided().render(SAMPLE)
    assert found.messages[0] == SAMPLE.messages[0]
    assert found.messages[1].content == "<image>\nstain?\n\nCaption of the image: stain he ; size large"


@pytest.mark.proves("format.caption_aided", "law")
@given(st.text(min_size=1).filter(lambda t: t.strip()), st.text())
def test_rendering_twice_changes_nothing_and_keeps_the_packs_words(caption, question):
    sample = replace(SAMPLE, messages=(Message("user", question),), meta={"caption": caption})
    once = CaptionAided().render(sample)
    assert CaptionAided().render(once) == once
    assert once.messages[0].content.startswith(question) and caption.strip() in once.messages[0].content


def test_text_only_samples_stay_and_a_missing_caption_is_named():
    bare = replace(SAMPLE, media=(), meta={})
    assert CaptionAided().render(bare) == bare
    with pytest.raises(DataError, match=r"sample 's'.*meta\.caption"):
        CaptionAided().render(replace(SAMPLE, meta={}))
