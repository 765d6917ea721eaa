"""Several nodes of one job: who is where, the shared key, and stages that run on all of them or fail on all of them."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from factory.errors import ConfigError, TrainingError
from factory.launch import nodes
from factory.launch.launchers import check_launcher, make_launcher
from factory.launch.nodes import Place, attend, dismiss, free_port, lead, nodes_command, read_key, read_place

ROOT = Path(__file__).parents[2]
JOB = """
import os, sys, time
from pathlib import Path
import torch, torch.distributed as dist
rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
if len(sys.argv) > 2 and rank == int(sys.argv[2]):
    sys.exit(3)
dist.init_process_group("gloo")
total = torch.tensor([float(rank)])
dist.all_reduce(total)
(folder / f"rank-{rank}").write_text(f"{dist.get_world_size()} {total.item()}")
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({}, Place(0, 1, "127.0.0.1", "job")),
        ({"FACTORY_NODE_RANK": "1", "FACTORY_NNODES": "2", "FACTORY_MASTER_ADDR": "a", "FACTORY_JOB": "j"}, Place(1, 2, "a", "j")),
        ({"PET_NODE_RANK": "3", "PET_NNODES": "4", "PET_MASTER_ADDR": "pod-0.svc", "FACTORY_JOB": "j"}, Place(3, 4, "pod-0.svc", "j")),
        ({"SLURM_NODEID": "0", "SLURM_NNODES": "2", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "SLURM_JOB_ID": "7"}, Place(0, 2, "10.0.0.1", "7")),
        ({"SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}, Place(0, 1, "127.0.0.1", "job")),
    ],
)  # fmt: skip
def test_each_job_system_says_where_a_node_is(env, place):
    assert read_place(env) == place


@pytest.mark.parametrize(("rank", "says"), [("two", "must be numbers"), ("2", "outside 0 to"), ("-1", "outside 0 to")])
def test_nonsense_places_are_refused_by_the_variables_name(rank, says):
    with pytest.raises(ConfigError, match=says) as caught:
        read_place({"SLURM_NODEID": rank, "SLURM_NNODES": "2", "SLURM_LAUNCH_NODE_IPADDR": "a"})
    assert "SLURM_NODEID" in str(caught.value)


def test_all_nodes_get_one_key_that_only_the_user_can_read(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: read_key(tmp_path, "j"), range(40)))
    assert len(keys) == 1 and len(keys.pop()) == 32
    path = tmp_path / "jobs" / "j" / "node.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(path.parent) == ["node.key"]


def test_the_key_needs_no_hard_links_and_a_folder_it_can_write(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="FACTORY_HOME must be a folder that all nodes can write"):
        read_key(tmp_path / "file", "j")

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)  # as on many bucket mounts
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: read_key(tmp_path, "j"), range(40)))) == 1
    assert os.listdir(tmp_path / "jobs" / "j") == ["node.key"]
    (tmp_path / "jobs" / "j" / "node.key").write_bytes(b"half")
    monkeypatch.setattr(nodes.time, "sleep", lambda _: None)
    with pytest.raises(ConfigError, match="holds no key"):
        read_key(tmp_path, "j")


def test_free_ports_are_none_that_outgoing_connections_get(monkeypatch):
    assert all(nodes.FIRST_PORT <= free_port() < 32_768 for _ in range(50))
    with socket.socket() as taken:
        taken.bind(("", free_port()))
        taken.listen()
        monkeypatch.setattr(nodes, "FIRST_PORT", taken.getsockname()[1])
        monkeypatch.setattr(nodes, "NUM_PORTS", 1)
        with pytest.raises(TrainingError, match="no free TCP port"):
            free_port()


def test_processes_must_divide_over_the_nodes(monkeypatch):
    monkeypatch.setenv("SLURM_NODEID", "0")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "a")
    check_launcher("nodes")
    assert make_launcher("nodes") is nodes_command
    assert nodes_command("m", ["x"], 4)[-3:] == ["2", "m", "x"] and "factory.launch.nodes" in nodes_command("m", ["x"], 4)
    assert nodes_command("m", ["x"], 1) == [sys.executable, "-m", "m", "x"], "evals run on the first node alone"
    with pytest.raises(ConfigError, match=r"launch\.processes=3 cannot be spread over 2 nodes"):
        nodes_command("m", [], 3)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """(place of node 0, key, attendant thread's result list) with a job module in place of the stage worker."""
    (tmp_path / "node_job.py").write_text(JOB)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(nodes, "WORKER", "node_job")
    monkeypatch.setenv("FACTORY_NODE_PORT", str(free_port()))
    key, ended = read_key(tmp_path, "j"), []
    first, second = (Place(rank, 2, "127.0.0.1", "j") for rank in (0, 1))
    stopped = threading.Event()
    thread = threading.Thread(target=lambda: ended.append(attend(second, key, stopped.is_set)))
    thread.start()
    yield first, key, ended
    stopped.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_stage_runs_on_both_nodes_one_after_another_and_both_end(pair, tmp_path):
    place, key, ended = pair
    for per_node in (1, 2):
        assert lead(place, key, per_node, "node_job", [str(tmp_path)]) == 0
        world = 2 * per_node
        total = float(sum(range(world)))
        assert [(tmp_path / f"rank-{rank}").read_text() for rank in range(world)] == [f"{world} {total}"] * world
    dismiss(place, key)
    for _ in range(100):
        if ended:
            break
        time.sleep(0.1)
    assert ended == [0]


@pytest.mark.parametrize("failing", ["0", "1"])
def test_a_failing_node_ends_the_stage_on_all_and_the_next_stage_runs(pair, tmp_path, failing, capfd):
    place, key, _ = pair
    began = time.monotonic()
    assert lead(place, key, 1, "node_job", [str(tmp_path), failing]) != 0
    assert time.monotonic() - began < 60, "nobody waits for a collective that cannot happen"
    if failing == "1":
        assert "node 1 ended with status" in capfd.readouterr().err
    assert lead(place, key, 1, "node_job", [str(tmp_path)]) == 0


def test_an_attendant_runs_nothing_but_the_stage_worker(pair, tmp_path, monkeypatch):
    place, key, _ = pair
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.setattr(nodes, "torchrun", lambda *_: [sys.executable, "-c", "import time; time.sleep(2)"])
    assert lead(place, key, 1, "evil", []) == 2
    assert not marker.exists()


def test_a_lead_without_the_key_is_not_obeyed_and_missing_nodes_are_named(pair, tmp_path, monkeypatch):
    place, _, _ = pair
    with (
        nodes.listening(place) as listener,
        pytest.raises(TrainingError, match=r"nodes \[1\] of 2 did not join"),
    ):
        nodes.joined(listener, place, b"another key", within_s=3.0)


def test_someone_who_connects_and_says_nothing_holds_up_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "HANDSHAKE_S", 1)
    monkeypatch.setenv("FACTORY_NODE_PORT", str(free_port()))
    place = Place(0, 2, "127.0.0.1", "j")
    with nodes.listening(place) as listener, socket.create_connection(("127.0.0.1", place.port)):
        with pytest.raises(TrainingError, match="did not join"):
            nodes.joined(listener, place, b"key", within_s=2.0)


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", free_port()))
        taken.listen()
        monkeypatch.setenv("FACTORY_NODE_PORT", str(port := taken.getsockname()[1]))
        with (
            pytest.raises(ConfigError, match=f"cannot listen on port {port}: .*FACTORY_NODE_PORT"),
            nodes.listening(Place(0, 2, "a", "j")),
        ):
            pass


def conducting(build):
    """A node whose build is this program; its first line of output is read already."""
    script = f"from factory.cli import node; import sys; sys.exit(node._conducted([sys.executable, '-uc', {build!r}], node._Alive('')))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT), "FACTORY_GRACE_S": "1"}, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    return process, process.stdout.readline().strip()


def test_a_build_that_has_only_just_begun_hears_that_it_should_make_room():
    """It ignores the signal until its handler stands; before, the first signal would have killed it or been lost."""
    begin = "import signal, sys, time; print('up'); time.sleep(1.5); signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75)); time.sleep(60)"
    process, _ = conducting(begin)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 75


def test_a_build_that_does_not_make_room_within_the_grace_is_stopped():
    process, _ = conducting("import time; print('up'); time.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM


def test_a_killed_node_takes_its_build_with_it():
    parent, child = conducting("import os, time; print(os.getpid()); time.sleep(300)")
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not Path("/proc", child).exists():
            return
        time.sleep(0.1)
    pytest.fail("the build outlived its node")


def test_node_runs_builds_only(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", "from factory.cli.app import main; main()", "node", "--", "models", "gc"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "FACTORY_HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 2 and "factory node runs a build" in ended.stderr
