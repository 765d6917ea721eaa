"""Locks: exclusive and shared, given back by a killed process, refused with a remedy, and honest about network disks."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import threading
import time

import pytest

from factory.errors import RegistryError
from factory.registry.locks import LocksRefused, cleaning, lock_warning, locked, writing

MOUNTS = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:40 / /home rw,relatime - nfs4 server:/home rw,vers=4.2,local_lock=none
31 22 0:41 / /old rw,relatime - nfs server:/old rw,vers=3,nolock,local_lock=all
32 22 0:42 / /half rw,relatime - nfs server:/half rw,vers=3,local_lock=flock
33 22 0:43 / /scratch rw,flock - lustre mgs@tcp:/s rw,flock
34 22 0:44 / /work rw - lustre mgs@tcp:/w rw,localflock
35 22 0:45 / /data rw - lustre mgs@tcp:/d rw
36 22 0:46 / /win rw - cifs //server/win rw,nobrl
37 22 0:47 / /far\\040away rw - fuse.sshfs host: rw
38 30 0:48 / /home/local rw - ext4 /dev/sdb rw
nonsense
"""


@pytest.mark.parametrize(
    ("folder", "word"),
    [("/", None), ("/home/ann", None), ("/old/x", "nolock"), ("/half", "local_lock=flock"), ("/scratch/x", None), ("/work", "localflock"),
     ("/data", "without flock"), ("/win/x", "nobrl"), ("/far away/x", "fuse.sshfs"), ("/home/local/x", None), ("/oldish", None)],
)  # fmt: skip
def test_disks_whose_locks_stay_on_one_machine_are_told(tmp_path, folder, word):
    from pathlib import Path

    warning = lock_warning(Path(folder), MOUNTS)
    assert warning is None if word is None else word in warning and "this machine only" in warning


def test_shared_locks_go_together_and_an_exclusive_one_waits(tmp_path):
    path = tmp_path / "lock"
    with locked(path, is_shared=True), locked(path, is_shared=True, wait_s=0):
        with pytest.raises(RegistryError, match="other processes hold the registry for more than 0 s"):
            with locked(path, wait_s=0):
                pass
    with locked(path, wait_s=0):
        pass


def test_a_cleaner_waits_for_writers_and_holds_back_new_ones(tmp_path):
    order: list[str] = []

    def clean():
        with cleaning(tmp_path, 10):
            order.append("cleaned")

    def write():
        with writing(tmp_path):
            order.append("wrote")

    with writing(tmp_path):
        cleaner = threading.Thread(target=clean)
        cleaner.start()
        time.sleep(0.2)
        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.2)
        assert order == []
    cleaner.join(10)
    writer.join(10)
    assert order == ["cleaned", "wrote"]


def _hold(path, ready):
    with locked(path):
        ready.set()
        time.sleep(60)


def test_a_killed_holder_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_hold, args=(tmp_path / "lock", ready))
    child.start()
    assert ready.wait(20)
    with pytest.raises(RegistryError):
        with locked(tmp_path / "lock", wait_s=0.05):
            pass
    os.kill(child.pid, signal.SIGKILL)
    child.join(20)
    with locked(tmp_path / "lock", wait_s=5):
        pass


def test_where_flock_is_refused_fcntl_is_used_and_where_both_are_it_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    used = []
    real = fcntl.lockf
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", lambda handle, kind: (used.append(kind), real(handle, kind)))
    with locked(tmp_path / "lock"):
        assert used == [fcntl.LOCK_EX | fcntl.LOCK_NB]
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(LocksRefused, match=r"offers no locks\. Mount it with locks .* or set FACTORY_HOME"):
        with locked(tmp_path / "lock"):
            pass


def test_without_any_locks_models_are_registered_and_gc_refuses(registry, put, monkeypatch, caplog):
    from factory.registry.gc import collect

    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert [put("a").id, put("a", "other").id] == ["a-v1", "a-v2"] and registry.verify() == []
    assert "run no gc meanwhile" in caplog.text
    with pytest.raises(LocksRefused):
        collect(registry)


def test_a_version_that_another_machine_writes_at_the_same_moment_is_not_overwritten(registry, put, monkeypatch):
    """The lock does not reach the other machine: its manifest appears after this one has looked."""
    first = put("a")
    monkeypatch.setattr(type(registry), "_manifests_of", lambda self, name: [])
    assert put("a", "other").id == "a-v2"
    monkeypatch.undo()
    assert registry.show("a-v1") == first


def test_a_lock_file_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="the lock file cannot be opened"):
        with locked(tmp_path / "file" / "lock"):
            pass
