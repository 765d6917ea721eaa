"""Checkpoint files: what goes in comes out, and a kill between any two operations leaves a whole checkpoint."""

import json
import multiprocessing
import os
import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import TrainingError
from factory.stages import checkpoint as ck

KEYS = st.text(max_size=3) | st.integers()
LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(TREES)
def test_a_state_tree_survives_bit_for_bit(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("state")
    ck.write_state(folder, {"tree": tree, "anchor": torch.zeros(1)})
    assert ck.read_state(folder)["tree"] == tree


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool], ids=str)
def test_tensors_keep_their_bits_and_types(tmp_path, dtype):
    values = torch.arange(12).reshape(3, 4).to(dtype)
    ck.write_state(tmp_path, {"a": values, "view": values.T, "scalar": torch.tensor(1.0 / 3)})
    state = ck.read_state(tmp_path)
    assert state["a"].dtype == dtype and torch.equal(state["a"], values) and torch.equal(state["view"], values.T)
    assert torch.equal(state["scalar"], torch.tensor(1.0 / 3))


def test_other_objects_are_refused(tmp_path):
    with pytest.raises(TypeError, match="holds JSON values and tensors; got set"):
        ck.write_state(tmp_path, {"a": {1, 2}})


def test_generators_go_on_where_they_were():
    ck.seed_everything(5)
    random.gauss(0, 1)  # leaves a cached second Gaussian behind, which belongs to the state
    np.random.standard_normal()
    state = ck.rng_state()
    want = (random.gauss(0, 1), random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist())
    ck.seed_everything(99)
    ck.set_rng_state(state)
    assert (random.gauss(0, 1), random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()) == want


def test_generator_state_survives_the_disk(tmp_path):
    ck.seed_everything(7)
    ck.write_state(tmp_path, ck.rng_state())
    want = (random.random(), float(np.random.rand()), float(torch.rand(())))
    ck.set_rng_state(ck.read_state(tmp_path))
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == want


def write(root, step):
    folder = ck.begin_checkpoint(root, step)
    ck.write_state(folder, {"step": step, "w": torch.full((8,), float(step))})
    return ck.finish_checkpoint(folder, step)


def test_only_the_newest_is_kept(tmp_path):
    assert ck.newest_checkpoint(tmp_path / "none") is None
    for step in (2, 10, 100):
        write(tmp_path, step)
    assert ck.newest_checkpoint(tmp_path) == (100, tmp_path / "step-00000100")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000100"]


def test_a_damaged_checkpoint_says_what_to_delete(tmp_path):
    folder = write(tmp_path, 3)
    (folder / ck.TENSOR_FILE).write_bytes(b"short")
    with pytest.raises(TrainingError, match=r"step-00000003: the checkpoint cannot be read.*Delete that folder"):
        ck.read_state(folder)
    (folder / ck.STATE_FILE).write_text(json.dumps({"format": 99, "tree": {"map": []}}))
    with pytest.raises(TrainingError, match="cannot be read"):
        ck.read_state(folder)


def die_at(root, fatal):
    """Write a checkpoint in a process that kills itself before its `fatal`-th file operation."""
    count = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    ck._fsync, ck.save_file = counted(ck._fsync), counted(ck.save_file)
    ck.Path.rename, ck.Path.write_text = counted(ck.Path.rename), counted(ck.Path.write_text)
    ck.shutil.rmtree, ck.os.mkdir = counted(ck.shutil.rmtree), counted(ck.os.mkdir)
    write(root, 2)


def test_a_kill_between_any_two_file_operations_leaves_a_whole_checkpoint(tmp_path):
    fork = multiprocessing.get_context("fork")
    outcomes = []
    for fatal in range(1, 30):
        root = tmp_path / str(fatal)
        write(root, 1)
        child = fork.Process(target=die_at, args=(root, fatal))
        child.start()
        child.join()
        step, folder = ck.newest_checkpoint(root)
        state = ck.read_state(folder)
        assert state["step"] == step and torch.equal(state["w"], torch.full((8,), float(step)))
        outcomes.append((child.exitcode, step))
        write(root, 3)  # a later writer clears what the killed one left
        assert [path.name for path in root.iterdir()] == ["step-00000003"]
        if child.exitcode == 0:
            break
    assert outcomes[0] == (-signal.SIGKILL, 1) and outcomes[-1] == (0, 2)
    assert (-signal.SIGKILL, 2) in outcomes  # also killed after the rename, before the old one was gone


def test_a_kill_while_an_old_checkpoint_is_removed_leaves_no_half_of_one(tmp_path, monkeypatch):
    from factory.stages import checkpoint

    def save(step):
        folder = checkpoint.begin_checkpoint(tmp_path, step)
        checkpoint.write_state(folder, {"step": step})
        return checkpoint.finish_checkpoint(folder, step)

    def killed(folder, **_):
        if folder.is_dir() and any(folder.iterdir()):
            (folder / "state.json").unlink()
            raise KeyboardInterrupt

    save(4)
    for step in (4, 6):  # the same step again, and the next one
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.shutil, "rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                save(step)
        assert checkpoint.newest_checkpoint(tmp_path)[0] == step
        assert not any(checkpoint.damage(folder) for folder in tmp_path.glob("step-*"))
        save(step)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]
