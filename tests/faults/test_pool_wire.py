"""Whatever a verifier writes to its worker's socket or shared memory, the pool reads a sound answer or a ValueError."""

import json
import math
import os
import signal
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.contracts import Status, Verdict
from factory.rewards.pool_progress import Progress
from factory.rewards.pool_wire import (
    MAX_REPLY,
    FrameReader,
    checked_verdict,
    clean_text,
    pack_frame,
    ready_from_json,
    reply_from_json,
    verdict_from_json,
    verdict_to_json,
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8)
ANY = st.recursive(
    SCALARS | st.just(10**400),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
ROWS = st.fixed_dictionaries({"score": ANY, "status": ANY | st.just("ok"), "reason": ANY, "parts": ANY})
SOUND = st.builds(
    Verdict,
    st.floats(0, 1),
    st.sampled_from([Status.ok, Status.wrong, Status.unparsable]),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)


def assert_sound(verdict):
    assert type(verdict.score) is float and 0.0 <= verdict.score <= 1.0
    assert isinstance(verdict.status, Status)
    assert verdict.reason.encode("utf-8") is not None
    assert all(type(value) is float and math.isfinite(value) for value in verdict.parts.values())


@settings(deadline=None)
@given(ANY | ROWS | st.tuples(st.just(3), ROWS | ANY, ANY, ANY, ANY).map(list))
def test_any_row_is_a_sound_reply_or_a_value_error(row):
    for read in (lambda: reply_from_json(row, 3).verdict, lambda: verdict_from_json(row)):
        try:
            verdict = read()
        except ValueError:
            continue
        assert_sound(verdict)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["ready", "code", "network", "processes", "pid"]), ANY))
def test_any_greeting_is_sound_or_a_value_error(message):
    try:
        ready = ready_from_json(message)
    except ValueError:
        return
    assert ready.pid > 1 and ready.versions and all(isinstance(text, str) for text in (*ready.versions, *ready.versions.values()))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_messages_or_a_value_error(chunks):
    reader = FrameReader(MAX_REPLY)
    try:
        messages = [message for chunk in chunks for message in reader.feed(chunk)]
    except ValueError:
        return
    assert all(isinstance(message, dict) for message in messages)


@settings(deadline=None)
@given(SOUND)
def test_a_sound_verdict_survives_the_way(verdict):
    (message,) = FrameReader().feed(pack_frame({"replies": [[7, verdict_to_json(verdict), 0.5, False, ""]]}))
    reply = reply_from_json(message["replies"][0], 7)
    assert reply.verdict == checked_verdict(verdict) and (reply.seconds, reply.has_leftovers, reply.retire) == (0.5, False, "")


@pytest.mark.parametrize("number", [6, 8, "7", 7.0, True, None, [7]])
def test_a_reply_to_another_call_is_refused(number):
    row = [number, verdict_to_json(Verdict(1.0, Status.ok, "fine")), 0.0, False, ""]
    with pytest.raises(ValueError, match="another call"):
        reply_from_json(row, 7)


def test_a_frame_that_is_nested_too_deep_is_a_value_error():
    body = b'{"a":' + b"[" * 200_000
    with pytest.raises(ValueError, match="nested too deep"):
        list(FrameReader().feed(len(body).to_bytes(4, "big") + body))


def test_a_reply_may_not_be_huge():
    with pytest.raises(ValueError, match="frame of"):
        list(FrameReader(MAX_REPLY).feed((MAX_REPLY + 1).to_bytes(4, "big")))


@given(st.text(st.characters(codec=None), max_size=50))
def test_clean_text_can_be_written_to_any_file(text):
    clean = clean_text(text, 20)
    assert len(clean) <= 20 and json.loads(json.dumps(clean.encode("utf-8").decode())) == clean
    if text.isascii():
        assert clean == text[:20]


@pytest.fixture
def progress():
    ours, descriptor = Progress.create()
    theirs = Progress(descriptor)
    os.close(descriptor)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("number", [0, 42, (1 << 24) - 1, 1 << 24, (1 << 40) + 7])
def test_progress_is_read_as_it_was_written(progress, number):
    ours, theirs = progress
    assert ours.read(0) == (-1, 0.0)
    begun = theirs.begin(number)
    for lowest in (number, max(0, number - 1000)):
        found, at = ours.read(lowest)
        assert found == number and 0.0 <= at - begun <= 0.0011
    assert ours.read(number + 1)[0] > number + 1000, "a call that was answered before is none of those that wait"


def test_a_number_is_never_read_with_the_time_of_another_call(progress):
    """A worker that is interrupted while it writes must not make a call look as old as the one before it."""
    ours, theirs = progress
    clock = SimpleNamespace(now=0.0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        time.monotonic = lambda: clock.now
        number = 0
        while True:
            number += 1
            clock.now = float(number)
            theirs.begin(number)
            if number == 1:
                os.write(writer, b"x")
    try:
        assert os.read(reader, 1) == b"x"
        found = [ours.read(0) for _ in range(200_000)]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
    assert len({number for number, _ in found}) > 100, "the writer must have run meanwhile"
    assert all(at == pytest.approx(number, abs=0.0011) for number, at in found)
