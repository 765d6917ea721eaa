"""Scenarios in which the disk fails, is full, slow or read-only, or holds other bytes than were written."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import boundaries
from kills import TRAINING, at, place
from prepared import RUN
from scene import Scene

RUN_FILES = (
    "run.json",
    "plan.json",
    "result.json",
    "overlap.json",
    "resolved.yaml",
    "provenance.yaml",
    "metrics.jsonl",
    "report.html",
)
STEP_FILES = ("stage.lock", "eval.json", "samples.jsonl", "model/model.safetensors", "model/adapter_model.safetensors", "model/config.json",
              "metrics.jsonl", "log.txt", "rollouts.jsonl", "tasks.jsonl")  # fmt: skip
CLONE_NEWNS, CLONE_NEWUSER, MS_REMOUNT, MS_RDONLY, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 32, 1, 0x4000, 0x40000


def damage(scene: Scene, path: Path) -> str:
    """Change a file as a disk or a copy does; half of the time its time and size stay. Returns how."""
    how = scene.rng.choice(["bit", "bit", "cut", "empty", "garbage", "gone"])
    stat, content = path.stat(), path.read_bytes()
    path.chmod(0o644)
    if how == "gone" or not content:
        path.unlink()
        return "gone"
    if how == "bit":
        place = scene.rng.randrange(len(content))
        content = content[:place] + bytes([content[place] ^ (1 << scene.rng.randrange(8))]) + content[place + 1 :]
    elif how == "cut":
        content = content[: scene.rng.randrange(len(content))]
    else:
        content = b"" if how == "empty" else scene.rng.randbytes(len(content))
    path.write_bytes(content)
    if scene.rng.random() < 0.5:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        how += ", time kept"
    return how


def finished_file_is_damaged(scene: Scene) -> None:
    """Any file of a finished run: the step is made anew, or the command refuses and says how to go on."""
    recipe = scene.rng.choice(TRAINING)
    run = scene.begin(recipe)
    names = [run / name for name in RUN_FILES] + [step / name for step in run.glob("stages/*") for name in STEP_FILES]
    path = scene.rng.choice(sorted(name for name in names if name.exists()))
    # A file of its own: in the home that was copied, models are linked into the registry, in a copy they are not.
    scene.outcome.what, scene.outcome.fired = f"{recipe}: {path.relative_to(run)}: {damage(scene, path)}", True
    code = scene.ends(scene.build(), {0, 8})
    if code == 8:
        _follow_advice(scene)
    # A step's rows are only shown: what cannot be read of them is left out, and the step is kept.
    scene.finish(kept=code == 0, equal=path.name != "metrics.jsonl")


def _follow_advice(scene: Scene) -> None:
    """Do what the message says: remove the folder or file that it names."""
    text = (scene.root / "said-1").read_text()
    for word in ("Remove ", "Delete "):
        if word in text:
            place = Path(text.split(word, 1)[1].split(" ", 1)[0])
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            return


def half_done_file_is_damaged(scene: Scene) -> None:
    """Any file of a step that was killed after a checkpoint: it resumes, starts over, or refuses and says what to delete."""
    recipe = scene.rng.choice(TRAINING)
    step = f"02-{recipe}"
    scene.begin(recipe, cut_at=step)
    number = int(scene.prepared.boundaries[(recipe, step)] * 0.6)
    scene.ends(scene.build(at("worker", step, lambda: boundaries.kill_at(number, scene.mark))), {7, 0})
    partial = scene.run / "stages" / f"{step}.partial"
    files = sorted(path for path in partial.rglob("*") if path.is_file()) if partial.exists() else []
    if files:
        path = scene.rng.choice(files)
        scene.outcome.what, scene.outcome.fired = f"{recipe}: {path.relative_to(partial)}: {damage(scene, path)}", True
        if scene.ends(scene.build(), {0, 7}) == 7:
            for folder in (partial / "checkpoints").glob("step-*"):
                if f"Delete {folder.parent}" not in (scene.root / "said-2").read_text().replace("\n", ""):
                    scene.outcome.unclear.append(f"does not say what to delete: {(scene.root / 'said-2').read_text()[-800:]}")
                shutil.rmtree(folder)
    scene.finish()


def registry_is_damaged(scene: Scene) -> None:
    """Manifests, objects, their lists, the index: `verify` or `repair` tells, a build never fails to notice, the index comes back."""
    recipe = scene.rng.choice(TRAINING)
    scene.begin(recipe)
    registry = scene.home / "registry"
    path = scene.rng.choice(sorted(path for path in registry.rglob("*") if path.is_file() and ".lock" not in str(path)))
    name = path.relative_to(registry)
    scene.outcome.what, scene.outcome.fired = f"{recipe}: {name}: {damage(scene, path)}", True
    import forked

    if name.parts[0] != "index.sqlite":
        told = forked.Build(["models", "verify"], scene.home, scene.root / "verify")
        # A manifest that is gone is a model that is gone; the build registers it again.
        is_gone = name.parts[0] == "manifests" and not path.exists()
        if told.wait() not in (1, 8) and not is_gone:
            scene.outcome.accepted.append(f"models verify ended with {told.wait()}: {told.text()[-500:]}")
    scene.ends(forked.Build(["models", "repair"], scene.home, scene.root / "repair"), {0, 1, 8})
    scene.ends(scene.build(), {0})
    scene.ends(forked.Build(["models", "verify"], scene.home, scene.root / "verify-2"), {0})
    listed = forked.Build(["models", "list"], scene.home, scene.root / "list")
    scene.ends(listed, {0})
    if f"{RUN}-v" not in listed.text():
        scene.outcome.lost_stages.append(f"the model is not listed: {listed.text()[-500:]}")


def disk_refuses(scene: Scene) -> None:
    """A change of names or a sync fails: full, quota, input/output error, read-only; once or from then on."""
    recipe, role, step, number = place(scene)
    fault, lasts = scene.rng.choice(sorted(boundaries.DISK_FAULTS)), scene.rng.random() < 0.7
    build = scene.build(at(role, step, lambda: boundaries.fail_at(number, fault, scene.mark, lasts=lasts)))
    scene.ends(build, {0, 5, 8})
    scene.outcome.fired = scene.mark.exists()
    scene.outcome.what = f"{recipe}: {role} {step} at boundary {number}: {fault}{' from then on' if lasts else ' once'}"
    scene.finish()


def slow_disk(scene: Scene) -> None:
    """Every boundary takes 5 to 40 ms longer, and the worker is killed meanwhile."""
    recipe, role, step, number = place(scene)
    seconds = scene.rng.uniform(0.005, 0.04)

    def act() -> None:
        boundaries.slow(seconds)
        boundaries.kill_at(number, scene.mark)

    scene.ends(scene.build(at(role, step, act)), {0, -9} if role == "conductor" else {0, 7})
    scene.outcome.fired, scene.outcome.what = True, f"{recipe}: {role} {step}, {seconds * 1000:.0f} ms, killed at {number}"
    scene.finish()


def clock_jumps(scene: Scene) -> None:
    """The clock jumps by up to ten years, back or forth, in one session; files get times of another age."""
    recipe, role, step, number = place(scene)
    seconds = scene.rng.choice([-1, 1]) * scene.rng.uniform(1, 3e8)
    for path in scene.run.glob("stages/*/*"):
        if scene.rng.random() < 0.3 and path.is_file():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime + seconds))
    scene.ends(scene.build(at(role, step, lambda: boundaries.jump_clock(seconds, after=number))), {0})
    scene.outcome.fired, scene.outcome.what = True, f"{recipe}: {role} {step}, {seconds / 86400:+.0f} days at boundary {number}"
    scene.finish()


def real_disk_is_full(scene: Scene) -> None:
    """The home lies on a small disk of its own (tmpfs in a mount namespace) that runs full, and later gets room."""
    recipe = scene.rng.choice(TRAINING)
    scene.begin(recipe, cut_at=f"02-{recipe}")
    used = sum(path.stat().st_size for path in scene.home.rglob("*") if path.is_file())
    spare = scene.rng.randint(1 << 14, 12 << 20)
    scene.outcome.what = f"{recipe}: {spare >> 10} KiB spare"
    _mounted(scene, used + (2 << 20) + spare)
    scene.ends(scene.build(), {0, 5, 8})
    scene.outcome.fired = scene.outcome.codes[-1] != 0
    _mount(b"tmpfs", scene.home, MS_REMOUNT, b"size=1g")
    scene.finish()


def read_only_disk(scene: Scene) -> None:
    """The disk of the home turns read-only, and later writable again."""
    recipe = scene.rng.choice(TRAINING)
    scene.begin(recipe, cut_at=f"02-{recipe}")
    _mounted(scene, 1 << 30)
    _mount(b"tmpfs", scene.home, MS_REMOUNT | MS_RDONLY, None)
    scene.ends(scene.build(), {8})
    scene.outcome.fired, scene.outcome.what = True, recipe
    _mount(b"tmpfs", scene.home, MS_REMOUNT, None)
    scene.finish()


def may_mount() -> bool:
    """Whether this process may make a mount namespace of its own (root, or unprivileged user namespaces). Tried in a child."""
    child = os.fork()
    if child == 0:
        try:
            _own_namespace()
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _own_namespace() -> None:
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount(b"none", Path("/"), MS_REC | MS_PRIVATE, None)


def _mount(source: bytes, target: Path, flags: int, data: bytes | None) -> None:
    kind = b"tmpfs" if source == b"tmpfs" else None
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, os.fsencode(target), kind, flags, data) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def _mounted(scene: Scene, size: int) -> None:
    """Put the scene's home on a disk of that size; this process (one per scenario) then lives in its own namespace."""
    _own_namespace()
    aside = scene.root / "aside"
    scene.home.rename(aside)
    scene.home.mkdir()
    _mount(b"tmpfs", scene.home, 0, f"size={size}".encode())
    shutil.copytree(aside, scene.home, symlinks=True, dirs_exist_ok=True)
