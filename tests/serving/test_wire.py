"""Requests in OpenAI's form: what is understood, and what is refused with its field, never passed over."""

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from factory.serving.wire import UNSUPPORTED, BadRequest, chat_request, completion_request

USER = [{"role": "user", "content": "which stain ?"}]


def picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 150, 180)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def ask(**fields):
    return chat_request({"messages": USER, **fields}, model="m")


def test_every_setting_arrives():
    asked = ask(model="m", temperature=0.5, top_p=0.9, top_k=20, seed=3, stop="END", max_tokens=7, n=2)
    wish = asked.wish
    assert (wish.temperature, wish.top_p, wish.top_k, wish.seed, wish.stop, wish.max_new_tokens) == (0.5, 0.9, 20, 3, ("END",), 7)
    assert asked.num == 2 and not asked.is_streamed and ask(max_completion_tokens=9, max_tokens=7).wish.max_new_tokens == 9


def test_images_come_as_data_and_a_placeholder_in_a_text_is_text():
    parts = [{"type": "image_url", "image_url": {"url": picture()}}, {"type": "text", "text": "what ? <image>"}]
    wish = chat_request({"messages": [{"role": "user", "content": parts}]}, model="m").wish
    assert wish.messages[0].content == "<image>what ? <image >" and len(wish.media) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "JSON object"),
        ({"messages": []}, "at least one turn"),
        ({"messages": USER, "model": "other"}, "has the model 'm', not 'other'"),
        ({"messages": USER, "temperature": 3}, "temperature is 3; want a number from 0 to 2"),
        ({"messages": USER, "temperature": True}, "temperature is True"),
        ({"messages": USER, "temperature": float("nan")}, "temperature is nan"),
        ({"messages": USER, "max_tokens": 0}, "max_tokens is 0"),
        ({"messages": USER, "max_tokens": 2.5}, "whole number"),
        ({"messages": USER, "n": 100}, "n is 100"),
        ({"messages": USER, "n": 2, "stream": True}, "without stream"),
        ({"messages": USER, "stop": [""]}, "stop must be"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "needs a role"),
        ({"messages": [{"role": "user", "content": 3}]}, "a text or a list"),
        ({"messages": [*USER, {"role": "assistant", "content": "x"}]}, "must be the user's"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "known are text and image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]}, "not opened"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}, "not opened"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,YWJjZA=="}]}]}, "not a picture"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,%%"}]}]}, "content[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(body, says):
    with pytest.raises(BadRequest) as caught:
        chat_request(body, model="m")
    assert says in str(caught.value)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_field_that_would_change_the_answer_is_refused_unless_empty(name):
    assert ask(**{name: None}).num == 1
    with pytest.raises(BadRequest, match=name):
        ask(**{name: "required"})


def test_a_plain_completion_is_one_user_turn():
    asked = completion_request({"prompt": ["which stain ?"], "max_tokens": 5}, model="m")
    assert [(turn.role, turn.content) for turn in asked.wish.messages] == [("user", "which stain ?")]
    with pytest.raises(BadRequest, match="one text"):
        completion_request({"prompt": ["a", "b"]}, model="m")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "url", "image_url"]), inside),
    max_leaves=12,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["messages", "prompt", "model", "n", "stop", "stream", "seed", "stream_options", "tools", "top_k"]), JSON
    )
)
def test_any_json_is_understood_or_refused(body):
    for read in (chat_request, completion_request):
        try:
            read(body, model="m")
        except BadRequest as err:
            assert str(err)
