"""Locks between processes, on local disks and on network file systems as far as those allow.

`flock` is tried first: Linux keeps it with the open file, and NFS clients turn it into byte-range locks that the server
knows. Where a file system refuses it, a POSIX record lock (`fcntl`) is tried. Where both are refused the caller hears of it
(LocksRefused). The kernel drops either when the process is gone, so a kill -9 leaves no stale lock.

    .locks/gate      a cleaner holds it while it waits, so that new writers queue behind it
    .locks/writers   shared by all that write models, exclusive for gc and repair
    .locks/object-N  exclusive while one object is put into place
    .lock            exclusive while a version number is chosen
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from factory.errors import RegistryError

POLL_S = 0.02
_REFUSED = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}
"""What file systems answer that cannot lock."""
_REMEDY = "Mount it with locks (Lustre: -o flock; NFS: without nolock and local_lock), or set FACTORY_HOME to another disk."


class LocksRefused(RegistryError):
    """The file system knows neither flock nor fcntl locks."""


@contextmanager
def locked(path: Path, *, is_shared: bool = False, wait_s: float | None = None) -> Iterator[None]:
    """Hold a lock file for this process.

    Args:
        is_shared: others may hold it too, if they also share.
        wait_s: how long to wait for other processes; None waits as long as it takes.

    Raises:
        LocksRefused: the file system cannot lock.
        RegistryError: the lock file cannot be written, or another process holds it for longer than `wait_s`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as err:
        raise RegistryError(
            f"{path}: the lock file cannot be opened: {err.strerror}. This command writes; it needs a registry you may write to."
        ) from err
    try:
        _wait(handle, path, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX, wait_s)
        yield
    finally:
        os.close(handle)


def _wait(handle: int, path: Path, kind: int, wait_s: float | None) -> None:
    deadline = None if wait_s is None else time.monotonic() + wait_s
    while not _try(handle, path, kind | fcntl.LOCK_NB):
        if deadline is not None and time.monotonic() >= deadline:
            raise RegistryError(
                f"{path}: other processes hold the registry for more than {wait_s:.0f} s (a build that is being registered, "
                "a take, a gc or a repair). Wait for them and run this again."
            )
        time.sleep(POLL_S)


def _try(handle: int, path: Path, kind: int) -> bool:
    for lock in (fcntl.flock, fcntl.lockf):
        try:
            lock(handle, kind)
            return True
        except OSError as err:
            if err.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if err.errno not in _REFUSED:
                raise RegistryError(f"{path}: cannot be locked: {err.strerror}. {_REMEDY}") from err
    raise LocksRefused(f"{path}: its file system offers no locks. {_REMEDY}")


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Shared by every process that writes models under `root`; while it is held, gc and repair wait."""
    folder = root / ".locks"
    with ExitStack() as held:
        # Taken inside the gate and kept after it: a cleaner that holds the gate only waits for writers that began before.
        with locked(folder / "gate", is_shared=True):
            held.enter_context(locked(folder / "writers", is_shared=True))
        yield


@contextmanager
def cleaning(root: Path, wait_s: float) -> Iterator[None]:
    """Alone in the registry under `root`, except for readers."""
    folder = root / ".locks"
    with locked(folder / "gate", wait_s=wait_s), locked(folder / "writers", wait_s=wait_s):
        yield


def lock_warning(folder: Path, mounts: str | None = None) -> str | None:
    """Why a lock under `folder` may not reach other machines; None when it does, or when only this machine has the disk.

    Args:
        mounts: content of /proc/self/mountinfo.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return "this system does not tell how its disks are mounted, so it is unknown whether locks reach other machines"
    place, kind, options = _mount_of(folder.absolute(), mounts)
    why = None
    if kind in ("nfs", "nfs4"):
        why = next((o for o in ("nolock", "local_lock=all", "local_lock=flock") if o in options), None)
    elif kind == "lustre":
        why = "localflock" if "localflock" in options else None if "flock" in options else "without flock"
    elif kind in ("cifs", "smb3"):
        why = "nobrl" if "nobrl" in options else None
    elif kind.startswith("fuse.") or kind in ("9p", "vboxsf", "afs"):
        why = "a file system that may keep locks on one machine"
    return why and f"{place} is mounted as {kind} ({why}): locks may hold on this machine only"


def _mount_of(folder: Path, mounts: str) -> tuple[str, str, set[str]]:
    """(mount point, type, options) of the disk that holds `folder`; the last of equal mount points wins, as in the kernel."""
    best: tuple[str, str, set[str]] = ("/", "", set())
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if len(before) < 6 or len(after) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before[4])
        if folder.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, after[0], {*before[5].split(","), *after[2].split(",")})
    return best
