"""The verifier pool in peace: order, worker count, streaming, back-pressure, cache, settings."""

import random
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path

import pytest

from factory.contracts import Media, Message, Sample, Status, Verdict
from factory.errors import ConfigError, DataError, RewardError
from factory.rewards.pool import VerifierPool
from factory.rewards.pool_cache import FILE_NAME, VerdictCache, cache_key, sample_hash
from factory.rewards.pool_wire import FrameReader, pack_frame, verdict_from_json, verdict_to_json
from factory.testing.ear import Ear

PACK = "pool_verifiers:VERIFIERS"


@pytest.fixture(autouse=True)
def _workers_can_import_the_fault_verifiers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "faults"))


def sample(reference="B", identity="s", **meta) -> Sample:
    return Sample(id=identity, task="t", messages=(Message("user", "q"),), reference=reference, meta=meta)


def test_verdicts_do_not_depend_on_order_batch_or_number_of_workers():
    rng = random.Random(7)
    samples = [sample(reference=f"gold {i}", identity=str(i)) for i in range(8)]
    # NUL, a lone surrogate and long text cross the border; some calls fail, and failures move nothing else.
    texts = ["", "\x00", "\ud800", "é" * 5000, "bad apple", *(f"text {i}" for i in range(30))]
    rows = [(text, item, ["right", "flaky"]) for text in texts for item in samples]
    found = []
    for workers, recycle_after in ((1, 20_000), (3, 20_000), (2, 37)):
        order = list(range(len(rows)))
        rng.shuffle(order)
        with VerifierPool(PACK, workers=workers, recycle_after=recycle_after, max_error_rate=1.0) as it:
            verdicts = it.score([rows[i] for i in order])
        found.append([verdicts[order.index(i)] for i in range(len(rows))])
    assert found[0] == found[1] == found[2]
    failed = [text for row, (text, _, _) in zip(found[0], rows, strict=True) if row["flaky"].status is Status.error]
    assert failed == ["bad apple"] * len(samples)
    assert len({row["right"].score for row in found[0]}) > 100


def test_results_stream_with_their_keys_until_all_are_done():
    with VerifierPool(PACK, workers=2) as it:
        for i in range(50):
            it.submit(("step", i), f"text {i}", sample(), ["right"])
        streamed = dict(it.results())
        assert set(streamed) == {("step", i) for i in range(50)}
        assert streamed["step", 3] == it.score([("text 3", sample(), ["right"])])[0]
        assert list(it.results()) == []
        it.submit("later", "x", sample(), ["right"])
        assert [key for key, _ in it.results()] == ["later"]


def test_score_does_not_take_what_was_submitted():
    with VerifierPool(PACK) as it:
        it.submit("mine", "x", sample(), ["right"])
        assert len(it.score([("y", sample(), ["right"])])) == 1
        assert [key for key, _ in it.results()] == ["mine"]


def test_verdicts_keep_the_order_of_the_names_asked_for():
    with VerifierPool(PACK) as it:
        assert list(it.score([("x", sample(), ["flaky", "right", "flaky"])])[0]) == ["flaky", "right"]
        assert it.score([("x", sample(), [])]) == [{}]
        assert it.score([]) == []


def test_submit_blocks_while_too_many_calls_are_open(tmp_path):
    gate = tmp_path / "go"
    with VerifierPool(PACK, max_pending=2, timeout_s=60) as it:
        submitted = []

        def feed():
            for i in range(5):
                it.submit(i, str(i), sample(str(gate)), ["waits"])
                submitted.append(i)

        thread = threading.Thread(target=feed)
        thread.start()
        time.sleep(0.5)
        assert submitted == [0, 1]
        gate.touch()
        thread.join(timeout=30)
        assert submitted == [0, 1, 2, 3, 4]
        assert {key for key, _ in it.results()} == {0, 1, 2, 3, 4}


def test_counts_per_verifier_and_status():
    with VerifierPool(PACK, max_error_rate=1.0) as it:
        verdicts = it.score([(text, sample(), ["right", "flaky"]) for text in ("bad", "a", "b")])
        counts = it.counts()
    assert counts["flaky"]["error"] == 1
    assert sum(counts["flaky"].values()) == sum(counts["right"].values()) == 3
    assert counts["right"]["ok"] == sum(row["right"].status is Status.ok for row in verdicts)
    assert set(counts["right"]) == {status.value for status in Status}


def test_a_recycled_worker_is_another_process():
    with VerifierPool(PACK, recycle_after=3) as it:
        pids = {it.score([(str(i), sample(), ["surroundings"])])[0]["surroundings"].reason for i in range(9)}
    assert len(pids) == 3


def test_the_cache_survives_a_restart_and_knows_what_it_depends_on(tmp_path, monkeypatch):
    ear, log = Ear(tmp_path / "calls"), tmp_path / "calls"
    settings = {"cache_dir": tmp_path / "cache"}

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def calls(completion="x", meta=0, version="1") -> int:
        module = f"from pool_verifiers import Named, counted\nV = {{'counted': Named(counted, 'counted', {version!r})}}\n"
        (tmp_path / "pool_versioned.py").write_text(module)
        with VerifierPool("pool_versioned:V", **settings) as it:
            it.score([(completion, sample(str(log), meta=meta), ["counted"])])
            return len(ear.heard())

    assert calls() == 1
    assert calls() == 0
    assert calls(completion="y") == 1
    assert calls(meta=1) == 1
    assert calls(version="2") == 1
    assert calls() == 0


def test_cached_verdicts_equal_fresh_ones_and_are_counted(tmp_path):
    rows = [(f"text {i % 7}", sample(), ["right"]) for i in range(20)]
    with VerifierPool(PACK, cache_dir=tmp_path) as it:
        fresh = it.score(rows)
        again = it.score(rows)
        assert sum(it.counts()["right"].values()) == 40
    with VerifierPool(PACK) as it:
        assert fresh == again == it.score(rows)


def test_failures_are_never_cached(tmp_path):
    with VerifierPool(PACK, cache_dir=tmp_path, max_error_rate=1.0) as it:
        it.score([("bad", sample(), ["flaky"]), ("good", sample(), ["flaky"])])
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        rows = [row[0] for row in database.execute("SELECT verdict FROM verdicts")]
    assert len(rows) == 1
    assert "backend away" not in rows[0]


def test_a_damaged_cache_is_set_aside(tmp_path, caplog):
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 100)
    cache = VerdictCache(tmp_path)
    assert "damaged" in caplog.text
    cache.put("k", Verdict(1.0, Status.ok, "r"))
    cache.close()
    reopened = VerdictCache(tmp_path)
    assert reopened.get("k") == Verdict(1.0, Status.ok, "r")
    reopened.close()


def test_two_processes_may_share_a_cache(tmp_path):
    one, two = VerdictCache(tmp_path), VerdictCache(tmp_path)
    one.put("a", Verdict(1.0, Status.ok, "r"))
    one.flush()
    two.put("b", Verdict(0.0, Status.wrong, "r"))
    two.flush()
    assert two.get("a") is not None
    assert one.get("b") is not None
    one.close()
    two.close()


def test_cache_keys_keep_fields_apart_and_images_by_content(tmp_path):
    assert cache_key("p", "v", "1", "ab", "h") != cache_key("p", "v", "1a", "b", "h")
    (tmp_path / "a.png").write_bytes(b"image")

    def with_image(media: Media) -> str:
        return sample_hash(Sample(id="s", task="t", messages=(), reference="", media=(media,)))

    by_path = with_image(Media(path=str(tmp_path / "a.png")))
    assert by_path == with_image(Media(data=b"image"))
    (tmp_path / "a.png").write_bytes(b"another")
    assert by_path != with_image(Media(path=str(tmp_path / "a.png")))


def test_frames_survive_any_cut():
    messages = [{"a": "\x00\ud800é"}, {}, {"b": list(range(500))}]
    stream = b"".join(pack_frame(message) for message in messages)
    for step in (1, 3, 4, 5, 1000, len(stream)):
        reader = FrameReader()
        got = [message for i in range(0, len(stream), step) for message in reader.feed(stream[i : i + step])]
        assert got == messages
    with pytest.raises(ValueError, match="frame of"):
        list(FrameReader().feed(b"\xff" * 8))


def test_a_verdict_survives_json():
    verdict = Verdict(0.25, Status.wrong, "got x", {"iou": 0.25})
    assert verdict_from_json(verdict_to_json(verdict)) == verdict


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "pool.workers is 0"),
        ({"workers": 1.5}, "pool.workers is 1.5"),
        ({"timeout_s": 0}, "pool.timeout_s is 0"),
        ({"timeout_s": float("nan")}, "pool.timeout_s is nan"),
        ({"memory_mib": 1}, "pool.memory_mib is 1"),
        ({"max_error_rate": 1.1}, "pool.max_error_rate is 1.1"),
        ({"max_pending": 0}, "pool.max_pending is 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        VerifierPool(PACK, **settings)


def test_wrong_use_is_refused_at_once():
    with VerifierPool(PACK) as it:
        with pytest.raises(ConfigError, match=r"no verifier 'rigth'.*Did you mean 'right'"):
            it.submit(0, "x", sample(), ["rigth"])
        with pytest.raises(DataError, match="not text"):
            it.submit(0, b"x", sample(), ["right"])
        with pytest.raises(DataError, match="plain JSON"):
            it.submit(0, "x", sample({1, 2}), ["right"])
        assert it.score([("x", sample(), ["right"])])
    with pytest.raises(RewardError, match="closed"):
        it.submit(0, "x", sample(), ["right"])


def test_a_step_of_256_rollouts_is_quick():
    samples = [sample(identity=str(i)) for i in range(32)]
    with VerifierPool(PACK, workers=1) as it:
        it.score([("warm", samples[0], ["right", "flaky"])])
        best = min(_step_seconds(it, samples) for _ in range(5))
    # 512 verdicts take some 0.05 s on an idle core; the limit leaves room for a busy machine, not for a round trip per call.
    assert best < 0.5


def _step_seconds(it: VerifierPool, samples: list[Sample]) -> float:
    started = time.perf_counter()
    for i in range(256):
        it.submit(i, f"text {i}", samples[i // 8], ["right", "flaky"])
    assert len(dict(it.results())) == 256
    return time.perf_counter() - started


class Held(deque):
    """A queue of the pool in which the next `extend` takes as long as its caller wants, as when its thread is not scheduled."""

    gate: threading.Event | None = None

    def extend(self, calls):
        if self.gate is not None:
            self.gate.wait(20)
        super().extend(calls)


def test_a_call_that_is_queued_late_wakes_the_pool(tmp_path):
    """Between a look at the queue and the entry into it, the pool may do all that there was to do, and go to sleep."""
    file = tmp_path / "go"
    with VerifierPool(PACK, workers=1) as pool:
        pool.score([("warm", sample(), ["right"])])
        queue = pool._dispatcher._queue = Held()
        pool.submit("first", "text", sample(str(file)), ["waits"])
        time.sleep(0.1)
        pool.submit("second", "text", sample(), ["right"])  # waits behind the first
        queue.gate = threading.Event()
        late = threading.Thread(target=pool.submit, args=("late", "text", sample(), ["right"]))
        late.start()
        time.sleep(0.2)
        file.touch()
        time.sleep(1.0)  # first and second are done, the pool sleeps
        queue.gate.set()
        late.join(20)
        found = []
        reader = threading.Thread(target=lambda: found.extend(key for key, _ in pool.results()), daemon=True)
        reader.start()
        reader.join(20)
        assert sorted(found) == ["first", "late", "second"]
