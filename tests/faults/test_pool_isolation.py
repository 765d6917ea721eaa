"""What still holds where the kernel gives workers no namespaces, and what `probe` says of this machine."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "hostile"))

import hostile_kit as kit  # noqa: E402
from deeds import DEEDS  # noqa: E402
from patience import patience  # noqa: E402

from factory.rewards.pool import VerifierPool  # noqa: E402
from factory.rewards.pool_isolation import MAX_STARTS, StartCounter, probe, remove_tree  # noqa: E402

NO_NAMESPACES = """
import ctypes

class CDLL(ctypes.CDLL):
    unshare = staticmethod(lambda flags: -1)

ctypes.CDLL = CDLL
"""
FALLBACK = (
    "ignores_every_signal", "deaf_in_c", "dribbles_on_the_wire", "allocates_50_gib", "fork_bomb", "spawn_bomb", "exits_hard",
    "segfaults", "raises_odd_base", "score_nan", "garbage_on_the_wire", "closes_every_file", "uses_the_network",
    "looks_up_a_name", "kills_everybody", "changes_folder", "leaves_a_child", "leaves_a_daemon", "leaves_files",
)  # fmt: skip


@pytest.fixture
def no_namespaces(tmp_path, monkeypatch):
    """Every Python that the test starts finds an unshare(2) that fails."""
    (tmp_path / "sitecustomize.py").write_text(NO_NAMESPACES)
    monkeypatch.syspath_prepend(str(tmp_path))


def strays():
    """Processes of the workers, and the daemons that they left."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if (line == ["sleep", "987654"] or "hostile_kit:VERIFIERS" in line) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


@pytest.mark.usefixtures("no_namespaces")
def test_without_namespaces_the_guilty_alone_pay_and_nothing_is_left(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    assert (probe().network, probe().processes) == ("audit-hook", "group")
    rows = [(word, sample, ["hostile"]) for sample in kit.deed_samples(FALLBACK) for word in kit.WORDS]
    with VerifierPool("hostile_kit:VERIFIERS", workers=2, timeout_s=patience(3.0), memory_mib=256, max_error_rate=1.0) as pool:
        found = [row["hostile"] for row in pool.score(rows)]
        assert (pool.network, pool.processes) == ("audit-hook", "group")
    faults = {}
    for name, (red, green, blue) in zip(FALLBACK, zip(*[iter(found)] * 3, strict=True), strict=True):
        status, reason = DEEDS[name][1]
        if blue.status.value != status or reason not in blue.reason or (red.score, green.score) != (0.0, 1.0):
            faults[name] = (red, green, blue)
    assert not faults, faults
    end = time.monotonic() + 10
    while strays() and time.monotonic() < end:
        time.sleep(0.05)
    assert strays() == [] and list(scratch.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_the_probe_tells_what_a_pool_gets():
    found = probe()
    with VerifierPool("hostile_kit:VERIFIERS") as pool:
        assert (pool.network, pool.processes, pool.files) == (found.network, found.processes, found.files)
    assert probe(allow_network=True).network == "allowed"


def test_the_network_is_there_when_it_is_allowed():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        script = (
            "import socket, pathlib, tempfile; from factory.rewards.pool_isolation import isolate; "
            "isolate(allow_network=True, scratch=pathlib.Path(tempfile.mkdtemp())); "
            f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]})).close(); print('connected')"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout == "connected\n", done.stderr


def test_the_start_counter_is_shared_and_begins_anew():
    counter = StartCounter()
    for _ in range(MAX_STARTS):
        counter.add()
    with pytest.raises(BlockingIOError, match="64 processes in one call"):
        counter.add()
    counter.reset()
    counter.add()


def test_a_tree_is_removed_in_which_that_was_forbidden(tmp_path):
    locked = tmp_path / "scratch" / "locked"
    (locked / "inner").mkdir(parents=True)
    (tmp_path / "kept").write_text("x")
    (locked / "link").symlink_to(tmp_path / "kept")
    locked.chmod(0)
    remove_tree(tmp_path / "scratch")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
def test_files_are_read_only_outside_the_scratch_folder(tmp_path):
    """C code included: a removal goes through libc directly. The files are this test's own, whatever becomes of the lock."""
    if probe().files != "read-only":
        pytest.skip("this kernel gives no mount namespace")
    scratch, outside = tmp_path / "scratch", tmp_path / "outside"
    scratch.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("x")
    script = (
        "import ctypes, os, pathlib, sys; from factory.rewards.pool_isolation import isolate\n"
        "scratch, outside = map(pathlib.Path, sys.argv[1:]); isolate(allow_network=False, scratch=scratch)\n"
        "(scratch / 'own').write_text('y'); (scratch / 'own').unlink(); open('/dev/null', 'w').write('z')\n"
        "failed = [ctypes.CDLL(None).unlink(os.fsencode(outside / 'kept'))]\n"
        "for act in (lambda: (outside / 'new').write_text('n'), lambda: os.rename(outside / 'kept', outside / 'moved')):\n"
        "    try: act(); failed.append(0)\n"
        "    except OSError as err: failed.append(err.strerror)\n"
        "print(failed)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    command = [sys.executable, "-c", script, str(scratch), str(outside)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "[-1, 'Read-only file system', 'Read-only file system']\n", done.stderr
    assert [path.name for path in outside.iterdir()] == ["kept"]
