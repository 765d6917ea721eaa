"""The preflight of a job's nodes: judged by pure functions from facts, and asked for real by two nodes of one machine."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from factory.errors import ConfigError
from factory.launch import nodes, preflight
from factory.launch.node_facts import node_facts
from factory.launch.nodes import Place, attend, free_port, read_key
from factory.launch.readiness import GIB, faults, judge

ROOT = Path(__file__).parents[2]
VERSIONS = {
    "factory": "1",
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5",
    "accelerate": "1",
    "deepspeed": "0.19",
    "peft": "0.2",
}


def fact(host, **other):
    plain = {"host": host, "gpus": 8, "gpu_names": ["H100"] * 8, "driver": "570.86", "nccl": "2.27", "memory": 64 * GIB, "disk": 64 * GIB,
             "versions": VERSIONS, "home": "/shared", "tokens": [0, 1], "unreachable": [], "writable": True, "offset_s": 0.0, "doubt_s": 0.001}  # fmt: skip
    return plain | other


def row(check, *facts):
    [found] = [row for row in judge(facts) if row.check == check]
    return found


def test_two_equal_nodes_are_ready():
    rows = judge([fact("a"), fact("b", offset_s=0.2)])
    assert {row.state for row in rows} == {"ok"}
    assert row("gpus", fact("a"), fact("b")).found == "8 x H100 on each node"


@pytest.mark.parametrize(
    ("check", "other", "says"),
    [
        ("gpus", {"gpus": 7, "gpu_names": ["H100"] * 7}, "8 x H100 on a; 7 x H100 on b"),
        ("gpus", {"gpu_names": ["A100"] * 8}, "8 x A100 on b"),
        ("gpus", {"versions": VERSIONS | {"torch": "2.13.0+cpu"}}, "torch is a CPU build on b"),
        ("driver", {"driver": ""}, "without a driver that answers on b"),
        ("driver", {"driver": "550.1"}, "570.86 on a; 550.1 on b"),
        ("nccl", {"nccl": "2.21"}, "2.27 on a; 2.21 on b"),
        ("shared storage", {"tokens": [1]}, "b sees no file of node 0"),
        ("shared storage", {"writable": False}, "/shared cannot be written on b"),
        ("clock", {"offset_s": -42.0}, "b is -42.0 s from node 0"),
        ("ports", {"unreachable": [0]}, "b does not reach node 0"),
        ("memory", {"memory": GIB // 2}, "0.5 GiB free on b"),
        ("disk", {"disk": 0}, "0.0 GiB free on b"),
        ("torch", {"versions": VERSIONS | {"torch": "2.12.0"}}, "2.13.0 on a; 2.12.0 on b"),
        ("transformers", {"versions": VERSIONS | {"transformers": ""}}, "not installed on b"),
    ],
)
def test_what_is_wrong_with_one_node_is_a_fault_that_names_it_and_says_what_to_do(check, other, says):
    found = row(check, fact("a"), fact("b", **other))
    assert found.state == "fault" and says in found.found and found.remedy


def test_little_room_is_a_note_and_a_clock_measured_badly_is_no_fault():
    assert row("memory", fact("a"), fact("b", memory=2 * GIB)).state == "note"
    assert row("clock", fact("a"), fact("b", offset_s=6.0, doubt_s=3.0)).state == "ok"
    bare = fact(
        "a", gpus=0, gpu_names=[], driver="", nccl="", versions=VERSIONS | {"torch": "2.13.0+cpu", "deepspeed": ""}, tokens=[0]
    )
    assert not faults(judge([bare])) and row("deepspeed", bare).state == "note"


def test_facts_of_this_machine_are_plain_data(tmp_path):
    facts = node_facts(tmp_path / "not" / "yet")
    assert json.loads(json.dumps(facts)) == facts
    assert facts["disk"] > 0 and facts["memory"] > 0 and facts["versions"]["torch"] and facts["versions"]["factory"]


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """(place of node 0, key) with an attendant that answers from another thread; FACTORY_HOME is shared."""
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path))
    monkeypatch.setenv("FACTORY_NODE_PORT", str(free_port()))
    monkeypatch.setattr(preflight, "TOKEN_S", 2.0)
    key = read_key(tmp_path, "j")
    stopped = threading.Event()
    thread = threading.Thread(target=attend, args=(Place(1, 2, "127.0.0.1", "j"), key, stopped.is_set))
    thread.start()
    yield Place(0, 2, "127.0.0.1", "j"), key
    stopped.set()
    thread.join(30)
    assert not thread.is_alive()


def test_two_nodes_are_asked_and_nothing_is_left_behind(pair, tmp_path):
    place, key = pair
    for _ in range(2):  # an attendant answers more than once
        rows = preflight.survey(place, key, tmp_path)
        assert not faults(rows)
    told = {row.check: row.found for row in rows}
    assert "every node reads what the others wrote" in told["shared storage"] and "every other" in told["ports"]
    assert os.listdir(tmp_path / "jobs" / "j") == ["node.key"]


def test_storage_that_only_looks_shared_is_found_out(pair, tmp_path, monkeypatch):
    place, key = pair
    real = preflight._write_token
    monkeypatch.setattr(preflight, "_write_token", lambda folder, rank: rank == 1 or real(folder, rank))
    [wrong] = faults(preflight.survey(place, key, tmp_path))
    assert wrong.check == "shared storage" and "sees no file of node 1" in wrong.found
    with pytest.raises(
        ConfigError, match=r"the 2 nodes of j are not ready:\n  shared storage: .*one folder on storage that all nodes"
    ):
        preflight.refuse_unready(place, key, tmp_path)
    monkeypatch.setenv(preflight.SWITCH, "off")
    assert preflight.refuse_unready(place, key, tmp_path) == []


def test_a_port_that_is_shut_is_found_out(pair, tmp_path, monkeypatch):
    place, key = pair
    shut = free_port()
    monkeypatch.setattr(preflight, "_is_reached", lambda host, port, real=preflight._is_reached: real(host, shut))
    [wrong] = faults(preflight.survey(place, key, tmp_path))
    assert wrong.check == "ports" and "does not reach node 1" in wrong.found and "does not reach node 0" in wrong.found


def test_other_keys_are_taken_for_what_they_mean(tmp_path, monkeypatch):
    """A node on other storage makes a key of its own, so it can never join."""
    monkeypatch.setenv("FACTORY_NODE_PORT", str(free_port()))
    stopped = threading.Event()
    other = threading.Thread(
        target=attend, args=(Place(1, 2, "127.0.0.1", "j"), read_key(tmp_path / "other", "j"), stopped.is_set)
    )
    other.start()
    try:
        with pytest.raises(nodes.TrainingError, match="came with another key: FACTORY_HOME must be one folder"):
            preflight.survey(Place(0, 2, "127.0.0.1", "j"), read_key(tmp_path / "own", "j"), tmp_path / "own", join_s=2.0)
    finally:
        stopped.set()
        other.join(30)


def start(rank, home, port, *words):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FACTORY_HOME": str(home), "OMP_NUM_THREADS": "1", "FACTORY_NODE_PORT": str(port),
           "FACTORY_NODE_RANK": str(rank), "FACTORY_NNODES": "2", "FACTORY_MASTER_ADDR": "127.0.0.1", "FACTORY_JOB": "check"}  # fmt: skip
    command = [sys.executable, "-c", "from factory.cli.app import main; main()", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_doctor_cluster_asks_both_nodes_and_adds_over_their_processes(tmp_path):
    port = free_port()
    both = [start(rank, tmp_path, port, "node", "--", "doctor", "--cluster", "--json") for rank in (0, 1)]
    out, err = both[0].communicate(timeout=120)
    assert both[0].returncode == 0 and both[1].wait(60) == 0, err
    told = json.loads(out)
    assert told["ready"] and told["nodes"] == 2
    assert "2 processes, gloo" in next(row["found"] for row in told["findings"] if row["check"] == "all-reduce")
