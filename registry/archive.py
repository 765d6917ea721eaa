"""One model as one file: its manifest, its objects and their hashes, in a tar that any `tar` reads and nothing else is needed for.

    factory-model.json             format, record (the manifest), objects: {hash: [{path, sha256, num_bytes}]}
    objects/<hash>/<path>          every file that factory-model.json names, no other, uncompressed

Equal models give equal archives: no times, owners or permissions are written. Taking one believes nothing: what the first
member declares is the limit of everything that follows, and no model is visible before every hash is right.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from factory.errors import RegistryError
from factory.registry.files import BLOCK, FileEntry, give_new_name, sync_folder, tree_hash
from factory.registry.models import ADAPTER_CONFIG, CHAIN, Registry
from factory.registry.records import DIGEST, ModelRecord
from factory.registry.store import TAKING
from factory.registry.tar_reader import TarReader

HEADER, KIND, FORMAT = "factory-model.json", "factory-model", 1
HEADER_LIMIT = 32 << 20
"""Bytes of the first member."""
FILES_LIMIT = 100_000
RUNNABLE = (".bin", ".ckpt", ".dll", ".joblib", ".pickle", ".pkl", ".pt", ".pth", ".py", ".pyc", ".so")
"""Files that loading could execute; foreign weights come as safetensors only."""


@dataclass(frozen=True)
class Taken:
    """What `take` did."""

    record: ModelRecord
    """As it stands in this registry."""
    archived_id: str
    was_here: bool
    """True when this registry held the model already and nothing was changed."""


def archive(registry: Registry, name: str, out: Path) -> tuple[ModelRecord, int]:
    """Write a model to the new file `out`; return its record and the archive's size in bytes.

    Raises:
        RegistryError: no such model, its base is the user's own folder, a stored file is damaged, or `out` exists or cannot be
            written. No file is left then.
    """
    record = registry.show(name)
    if "path" in record.base:
        raise RegistryError(
            f"{record.id} needs the base at {record.base['path']}, which is used in place and not stored, so an archive would not be "
            f"whole. Write the merged model instead: factory export {record.id} OUT_FOLDER."
        )
    if out.exists():
        raise RegistryError(f"{out} exists already. Name a new file; nothing is overwritten.")
    objects = {digest: registry.store.files(digest) for digest in sorted(set(record.artifacts.values()))}
    for digest, files in objects.items():
        if tree_hash(files) != digest:
            raise RegistryError(
                f"{registry.store.root / digest}.json: was changed. Run `factory models repair`, then this again."
            )
        for file in files:
            if why := unsafe(file.path):
                raise RegistryError(
                    f"{registry.store.root / digest / file.path}: is {why}, so no registry would take the archive. Rename the file and register the model again."
                )
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent)
    except OSError as err:
        raise RegistryError(
            f"{out.parent}: cannot be written: {err.strerror}. Name a file in a folder that you may write to."
        ) from err
    try:
        with os.fdopen(handle, "wb") as file:
            write_tar(file, record, objects, registry.store.root)
            file.flush()
            os.fsync(handle)
        Path(temporary).chmod(0o644)
        num_bytes = Path(temporary).stat().st_size
        give_new_name(Path(temporary), out)
        sync_folder(out.parent)
    except OSError as err:
        raise RegistryError(f"{out}: cannot be written: {err.strerror or err}. Check the disk; no archive was left.") from err
    finally:
        Path(temporary).unlink(missing_ok=True)
    return record, num_bytes


def write_tar(file: BinaryIO, record: ModelRecord, objects: Mapping[str, Sequence[FileEntry]], root: Path) -> None:
    """The archive's bytes. `root` holds the objects; a file that is not what its entry says raises RegistryError."""
    header = {"kind": KIND, "format": FORMAT, "record": record.to_json(),
              "objects": {digest: [asdict(entry) for entry in files] for digest, files in objects.items()}}  # fmt: skip
    raw = (json.dumps(header, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
    if len(raw) > HEADER_LIMIT or sum(map(len, objects.values())) > FILES_LIMIT:
        raise RegistryError(
            f"{record.id}: its manifest is too large for an archive ({len(raw)} bytes, limit {HEADER_LIMIT}). Copy FACTORY_HOME instead."
        )
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, HEADER, len(raw), io.BytesIO(raw))
        for digest, files in objects.items():
            for entry in files:
                _add_file(tar, f"objects/{digest}/{entry.path}", root / digest / entry.path, entry)


def _add(tar: tarfile.TarFile, name: str, num_bytes: int, content: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = num_bytes, 0o644
    tar.addfile(info, content)


def _add_file(tar: tarfile.TarFile, name: str, path: Path, entry: FileEntry) -> None:
    damaged = RegistryError(
        f"{path}: is missing or damaged. `factory models verify` lists such files; restore them from a backup, or build again."
    )
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != entry.num_bytes:
                raise damaged
            hashed = _Hashed(file)
            _add(tar, name, entry.num_bytes, hashed)
    except FileNotFoundError as err:
        raise damaged from err
    if hashed.digest.hexdigest() != entry.sha256:
        raise damaged


class _Hashed:
    """A file that hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, num_bytes: int) -> bytes:
        block = self._file.read(num_bytes)
        self.digest.update(block)
        return block


def take(registry: Registry, path: Path) -> Taken:
    """Put an archived model into the registry; doing it again changes nothing.

    The model keeps its id, unless another model here has it: then it becomes the next version of its name.

    Raises:
        RegistryError: the archive is damaged, or is not what it declares. Nothing of it is in the registry then.
    """
    with TarReader(path) as tar, registry.writing():
        record, objects = _read_header(tar)
        root = registry.store.root
        try:
            root.mkdir(parents=True, exist_ok=True)
            here = {digest for digest in objects if (root / digest).is_dir() and not registry.store.verify(digest)}
            wanted = sum(file.num_bytes for digest, files in objects.items() if digest not in here for file in files)
            if wanted > (free := shutil.disk_usage(root).free):
                raise tar.wrong(f"declares {wanted} bytes, and {root} has {free} free")
            staging = Path(tempfile.mkdtemp(prefix=TAKING, dir=root))
            try:
                _unpack(tar, objects, here, staging)
                for digest in sorted(set(objects) - here):
                    _check_chain(tar, staging / digest, objects)
                    registry.store.publish(staging / digest, objects[digest])
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            before = {known.name for known in registry.manifest_paths()}
            stored = registry.enter(record)
        except OSError as err:
            raise RegistryError(f"{root}: cannot be written: {err.strerror or err}. Nothing was taken; check the disk.") from err
    registry.refresh()
    return Taken(stored, record.id, f"{stored.id}.json" in before)


def _read_header(tar: TarReader) -> tuple[ModelRecord, dict[str, list[FileEntry]]]:
    first = tar.next()
    if first is None or first.name != HEADER or first.num_bytes > HEADER_LIMIT:
        raise tar.wrong(f"does not begin with {HEADER} of at most {HEADER_LIMIT} bytes, so it is no archive of a model")
    try:
        header = json.loads(b"".join(tar.content(BLOCK)))
        if not isinstance(header, dict) or set(header) != {"kind", "format", "record", "objects"} or header["kind"] != KIND:
            raise tar.wrong(f"has a {HEADER} of another kind")
        if header["format"] != FORMAT:
            raise tar.wrong(f"has format {header['format']!r}, this factory reads {FORMAT}")
        objects = {str(digest): [FileEntry(**row) for row in rows] for digest, rows in header["objects"].items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as err:
        raise tar.wrong(f"has a {HEADER} that cannot be read ({str(err)[:200]})") from err
    record = ModelRecord.from_json(header["record"], f"{tar.path}, {HEADER}")
    if record.version < 1 or "path" in record.base or "model" not in record.artifacts:
        raise tar.wrong(f"holds no whole model: {record.id} wants a version and its own files")
    if set(record.artifacts.values()) != set(objects) or sum(map(len, objects.values())) > FILES_LIMIT:
        raise tar.wrong("has other objects than its record names, or too many files")
    for digest, files in objects.items():
        _check_files(tar, digest, files)
    return record, objects


def _check_files(tar: TarReader, digest: str, files: Sequence[FileEntry]) -> None:
    names = {file.path for file in files}
    for file in files:
        if not isinstance(file.path, str) or (why := unsafe(file.path)):
            raise tar.wrong(f"names the file {file.path!r:.200}, which is {why if isinstance(file.path, str) else 'no text'}")
        if type(file.num_bytes) is not int or not 0 <= file.num_bytes < 1 << 60:
            raise tar.wrong(f"declares an impossible size of {file.path}")
        if not isinstance(file.sha256, str) or not DIGEST.fullmatch(file.sha256):
            raise tar.wrong(f"declares no sha256 of {file.path}")
        if any("/".join(file.path.split("/")[:depth]) in names for depth in range(1, file.path.count("/") + 1)):
            raise tar.wrong(f"declares {file.path} inside of a file")
    if not files or len(names) != len(files) or tree_hash(files) != digest:
        raise tar.wrong(f"declares files that do not give the object {digest[:12]}")


def unsafe(path: str) -> str | None:
    """Why a relative path may not be written; None when it may."""
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or ":" in path:
        return "absolute, or of another system"
    if any(part in ("", ".", "..", "__pycache__") for part in parts):
        return "leading elsewhere"
    if not path.isprintable() or len(path.encode()) > 1024 or any(len(part.encode()) > 200 for part in parts):
        return "too long, or unprintable"
    if path.lower().endswith(RUNNABLE):
        return "of a kind that loading could execute; weights are taken as safetensors only"
    return None


def _unpack(tar: TarReader, objects: Mapping[str, Sequence[FileEntry]], here: set[str], staging: Path) -> None:
    """Write every declared file under `staging`, except those of objects that are `here`, which are only hashed."""
    wanted = {f"objects/{digest}/{file.path}": (digest, file) for digest, files in objects.items() for file in files}
    while (member := tar.next()) is not None:
        if member.name not in wanted:
            raise tar.wrong(f"holds {member.name[:200]!r}, which its manifest does not name, or holds it twice")
        digest, file = wanted.pop(member.name)
        if member.num_bytes != file.num_bytes:
            raise tar.wrong(f"holds {member.num_bytes} bytes of '{file.path}', and its manifest declares {file.num_bytes}")
        target = Path(os.devnull) if digest in here else staging / digest / file.path
        if digest not in here:
            target.parent.mkdir(parents=True, exist_ok=True)
        found = hashlib.sha256()
        with target.open("wb") as out:
            for block in tar.content(BLOCK):
                found.update(block)
                out.write(block)
        if found.hexdigest() != file.sha256:
            raise tar.wrong(f"holds another '{file.path}' than its manifest declares (sha256 {found.hexdigest()[:12]}…)")
    if wanted:
        raise tar.wrong(f"lacks {len(wanted)} of the files that its manifest names, such as '{min(wanted)}'")


def _check_chain(tar: TarReader, folder: Path, objects: Mapping[str, Any]) -> None:
    """An adapter may only lead to objects of the same archive."""
    allowed = {f"../{digest}" for digest in objects}
    try:
        if (folder / CHAIN).is_file():
            chain = json.loads((folder / CHAIN).read_bytes())
            if not {chain["base"], *chain["adapters"]} <= allowed or "written_at" in chain:
                raise tar.wrong(f"holds an adapter that leads out of the archive ({CHAIN})")
            if (folder / ADAPTER_CONFIG).is_file():
                settings = json.loads((folder / ADAPTER_CONFIG).read_bytes())
                if settings.get("base_model_name_or_path") not in allowed:
                    raise tar.wrong(f"holds an adapter that leads out of the archive ({ADAPTER_CONFIG})")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise tar.wrong(f"holds an adapter whose {CHAIN} cannot be read") from err
