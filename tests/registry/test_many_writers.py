"""16 processes register, read, verify, take, reindex, repair and gc at once and are killed at random moments."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import time
import traceback
from contextlib import closing
from pathlib import Path

import pytest

from factory.errors import RegistryError
from factory.registry.archive import archive, take
from factory.registry.gc import collect
from factory.registry.models import Registry
from factory.registry.repair import repair

NAMES, CONTENTS = 6, 8
"""Models that the processes make: NAMES x CONTENTS, so that equal content meets itself often."""


def work(root: Path, own: Path, seed: int, making) -> None:
    """Random operations until killed; what went wrong is written to `own`."""
    rng, registry = random.Random(seed), Registry(root)
    own.mkdir(parents=True)
    try:
        for step in range(10**9):
            operate(registry, own, rng, step, making)
    except BaseException:
        (own / "failed").write_text(f"seed {seed}\n{traceback.format_exc()}")


def operate(registry: Registry, own: Path, rng: random.Random, step: int, making) -> None:
    draw = rng.random()
    if draw < 0.4:
        folder = making.folder(own / f"m{step}", f"weights {rng.randrange(CONTENTS)}", config="{}")
        done(own, registry.register(making.record(f"n{rng.randrange(NAMES)}"), folder).id)
        shutil.rmtree(folder)
    elif draw < 0.5:
        rows = registry.list()
        if rows:
            record = registry.show(rng.choice(rows)["id"])
            assert (registry.model_path(record.id) / "model.safetensors").read_text().startswith("weights ")
            assert registry.verify(record.id) == []
    elif draw < 0.65:
        assert registry.verify() == []
    elif draw < 0.75:
        registry.reindex()
    elif draw < 0.85:
        rows = registry.list()
        if rows:
            file = own / f"a{step}.tar"
            archive(registry, rng.choice(rows)["id"], file)
            done(own, take(registry, file).record.id)
            file.unlink()
    elif draw < 0.97:
        waited(lambda: collect(registry, wait_s=0.5))
    else:
        found = waited(lambda: repair(registry, wait_s=0.5))
        assert found is None or (found.left == () and not [d for d in found.done if d.path.startswith("manifests/")]), found


def waited(act):
    """The result, or None when writers held the registry for too long."""
    try:
        return act()
    except RegistryError as err:
        if "other processes hold the registry" not in str(err):
            raise
        return None


def done(own: Path, model: str) -> None:
    """Note a model whose registration returned; one write is whole or absent."""
    handle = os.open(own / "done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{model}\n".encode())
    os.close(handle)


def storm(tmp_path: Path, making, *, processes: int, seconds: float, seed: int) -> dict[str, int]:
    """Run the processes, kill one every moment and start another in its place; check the registry at the end."""
    context, rng, root = multiprocessing.get_context("fork"), random.Random(seed), tmp_path / "home" / "registry"
    started = kills = 0
    running: list = []

    def start():
        nonlocal started
        started += 1
        child = context.Process(
            target=work, args=(root, tmp_path / "own" / f"p{started}", seed * 1000 + started, making), daemon=True
        )
        child.start()
        running.append(child)

    for _ in range(processes):
        start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.02, 0.15))
        victim = running.pop(rng.randrange(len(running)))
        victim.kill()
        victim.join()
        kills += victim.exitcode == -signal.SIGKILL
        start()
    for child in running:
        child.kill()
        child.join()
    failed = [path.read_text() for path in sorted((tmp_path / "own").glob("*/failed"))]
    assert not failed, f"storm seed {seed}:\n{failed[0]}"
    return {"started": started, "kills": kills, **check(tmp_path, root)}


def check(tmp_path: Path, root: Path) -> dict[str, int]:
    """Nothing lost, nothing half visible, the index equals the manifests, and gc leaves exactly what models need."""
    registry = Registry(root)
    records = registry.records()
    finished = {line for path in (tmp_path / "own").glob("*/done") for line in path.read_text().split()}
    assert finished <= {record.id for record in records}, "a model that was registered is lost"
    assert registry.verify() == []
    seen = {(record.name, record.artifacts["model"]) for record in records}
    assert len(seen) == len(records), "one model has two versions"
    for name in {record.name for record in records}:
        versions = sorted(record.version for record in records if record.name == name)
        assert versions == list(range(1, len(versions) + 1))
    assert registry.reindex() == len(records) and registry.index.holds_the_truth()
    with closing(sqlite3.connect(registry.index.path)) as connection:
        assert {row[0] for row in connection.execute("SELECT id FROM models")} == {record.id for record in records}
    collect(registry, wait_s=5)
    assert registry.verify() == [] and registry.records() == records
    needed = {record.artifacts["model"] for record in records}
    left = {path.name for path in (root / "objects").iterdir()}
    assert left == needed | {f"{digest}.json" for digest in needed}
    assert {path.name for path in (root / "manifests").iterdir()} == {f"{record.id}.json" for record in records}
    return {"models": len(records), "finished": len(finished)}


def test_sixteen_processes_for_five_seconds(tmp_path, making):
    told = storm(tmp_path, making, processes=16, seconds=5, seed=1)
    assert told["kills"] >= 1 and told["finished"] >= 1, told  # how many: a busy machine decides


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2])
def test_sixteen_processes_for_a_minute(tmp_path, making, seed):
    told = storm(tmp_path, making, processes=16, seconds=60, seed=seed)
    assert told["kills"] >= 100 and told["finished"] >= 10, told


@pytest.mark.parametrize("moment", ["json", "rename", "manifest"])
def test_a_kill_between_two_writes_leaves_no_half_model(tmp_path, making, monkeypatch, moment):
    """At each boundary of a registration: the list of files, the object, the manifest."""
    root = tmp_path / "home" / "registry"

    def die(*_, **__):
        os._exit(9)

    def child():
        import factory.registry.models as models
        import factory.registry.store as store

        if moment == "json":
            store.write_json = die
        elif moment == "rename":
            store.Path.rename = die
        else:
            models.write_json = die
        Registry(root).register(making.record(), making.folder(tmp_path / "m"))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 9
    registry = Registry(root)
    assert registry.list() == [] and registry.verify() == []
    assert registry.register(making.record(), tmp_path / "m").id == "toy-v1"
    assert collect(registry).removed == () or moment != "manifest"
    assert registry.verify() == [] and len(list((root / "objects").iterdir())) == 2
