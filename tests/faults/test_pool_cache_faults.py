"""The verdict cache in bad times: full, locked, read-only, of an older make, shared by processes, with edited verifiers."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from factory.config.schema import PoolConfig
from factory.contracts import Message, Sample, Status, Verdict
from factory.rewards.pool import VerifierPool
from factory.rewards.pool_cache import FILE_NAME, VerdictCache, default_folder
from factory.rewards.pool_process import worker_environment
from factory.testing.ear import Ear

HERE = Path(__file__).parent
FINE = Verdict(1.0, Status.ok, "fine")


def sample(reference="B") -> Sample:
    return Sample(id="s", task="t", messages=(Message("user", "q"),), reference=reference)


@pytest.fixture(autouse=True)
def _workers_can_import_the_fault_verifiers(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


def test_a_build_caches_under_factory_home(tmp_path, monkeypatch):
    from dataclasses import asdict

    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    ear, log = Ear(tmp_path / "calls"), tmp_path / "calls"
    settings = asdict(PoolConfig())  # what a build hands to the pool
    assert default_folder() == tmp_path / "home" / "cache" / "verdicts"
    found = []
    for _ in range(2):
        with VerifierPool("pool_verifiers:VERIFIERS", **settings) as pool:
            found.append(pool.score([("x", sample(str(log)), ["counted"])]))
    assert ear.heard() == "x" and found[0] == found[1]
    assert (default_folder() / FILE_NAME).is_file()
    with VerifierPool("pool_verifiers:VERIFIERS", **settings | {"cache_mib": 0}) as pool:
        pool.score([("x", sample(str(log)), ["counted"])])
    assert ear.heard() == "x"


def test_an_edited_verifier_is_run_again_though_its_version_stayed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = []
    for score in ("0.25", "0.75", "0.75"):
        (tmp_path / "pool_edited.py").write_text(
            "from factory.contracts import Status, Verdict\n"
            f"def v(completion, sample): return Verdict({score}, Status.wrong, '')\n"
            "v.version = '1'\nV = {'v': v}\n"
        )
        with VerifierPool("pool_edited:V", cache_dir=tmp_path / "cache") as pool:
            found.append(pool.score([("x", sample(), ["v"])])[0]["v"].score)
    assert found == [0.25, 0.75, 0.75]
    with sqlite3.connect(tmp_path / "cache" / FILE_NAME) as database:
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (2,)


def test_the_oldest_verdicts_go_when_the_cache_is_full(tmp_path):
    cache = VerdictCache(tmp_path, max_mib=1)
    reason = "x" * 1000
    for i in range(4096):
        cache.put(f"{i:064}", Verdict(1.0, Status.ok, reason))
    cache.flush()
    # 4096 rows of more than 1000 bytes are 4 MiB and more; what is left fits, to within the rows of one flush
    # (a page of 4 KiB holds two or three such rows).
    assert (tmp_path / FILE_NAME).stat().st_size < (1 << 20) + 256 * 2500
    assert cache.get(f"{4095:064}") is not None and cache.get(f"{0:064}") is None
    kept = [i for i in range(4096) if cache.get(f"{i:064}") is not None]
    assert kept == list(range(kept[0], 4096)) and len(kept) > 256
    cache.close()


def test_a_cache_of_an_older_make_is_begun_anew(tmp_path):
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("CREATE TABLE verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL) WITHOUT ROWID")
        database.execute("INSERT INTO verdicts VALUES ('old', '{}')")
    cache = VerdictCache(tmp_path)
    cache.put("new", FINE)
    cache.flush()
    assert cache.get("old") is None and cache.get("new") == FINE
    cache.close()


def test_a_locked_cache_is_done_without_and_not_taken_for_damaged(tmp_path, monkeypatch, caplog):
    VerdictCache(tmp_path).close()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs | {"timeout": 0.1}))
    holder = connect(tmp_path / FILE_NAME)
    holder.execute("BEGIN EXCLUSIVE")
    cache = VerdictCache(tmp_path)
    assert "cannot be used" in caplog.text and not (tmp_path / "verdicts.damaged").exists()
    cache.put("k", FINE)
    assert cache.get("k") is None
    cache.close()
    holder.close()


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with VerifierPool("pool_verifiers:VERIFIERS", cache_dir=tmp_path / "file" / "cache") as pool:
        assert not pool.score([("x", sample(), ["right"])])[0]["right"].status.is_masked
    assert "cannot be used" in caplog.text


def test_a_verdict_that_was_tampered_with_is_judged_again(tmp_path, caplog):
    cache = VerdictCache(tmp_path)
    cache.put("k", FINE)
    cache.flush()
    for text in ('{"score": 7, "status": "ok", "reason": "", "parts": {}}', "[" * 100_000, '{"score": NaN}', "null"):
        with sqlite3.connect(tmp_path / FILE_NAME) as database:
            database.execute("UPDATE verdicts SET verdict = ?", (text,))
        assert cache.get("k") is None
    cache.close()
    assert "judged again" in caplog.text


def test_many_processes_write_at_once_and_lose_nothing(tmp_path):
    script = (
        "import sys; from pathlib import Path; from factory.rewards.pool_cache import VerdictCache\n"
        "from factory.contracts import Status, Verdict\n"
        "cache = VerdictCache(Path(sys.argv[1]))\n"
        "for i in range(300):\n"
        "    cache.put(f'{sys.argv[2]}-{i}', Verdict(1.0, Status.ok, 'fine')); cache.flush()\n"
        "cache.close()"
    )
    environment = os.environ | {"PYTHONPATH": worker_environment()["PYTHONPATH"]}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(i)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for i in range(4)
    ]
    assert [writer.communicate()[1] for writer in writers] == [""] * 4
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (1200,)
