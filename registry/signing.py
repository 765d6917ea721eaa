"""Signatures of models: made and checked offline with OpenSSF model-signing and an elliptic-curve key of the user's own.

    signatures/<model-id>/manifest.sig     of manifests/<model-id>.json: lineage, measurements, licence and the hashes of the weights
    signatures/<model-id>/<role>.sig       of each stored folder of weights, so that a copy of it can be checked without a registry

Each file is a Sigstore bundle that the `model_signing` command reads too (`model_signing verify key`). A signature says who vouches
for the files; `Registry.verify` says that they are as they were stored. Keys: `openssl ecparam -name prime256v1 -genkey -noout`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, RegistryError
from factory.registry.files import sync_folder, sync_tree
from factory.registry.models import Registry
from factory.registry.records import ModelRecord

PUBLIC_KEY = "FACTORY_PUBLIC_KEY"
"""Environment variable: a PEM file. When it is set, only models that this key signed are loaded from the registry."""
MANIFEST = "manifest"


@dataclass(frozen=True)
class Signed:
    """One thing of a model that carries a signature."""

    role: str
    """`manifest`, or the role of an artifact."""
    path: Path
    signature: Path


def signed_parts(registry: Registry, record: ModelRecord) -> list[Signed]:
    """The manifest and every stored folder of a model, with the place of its signature. None needs to exist."""
    folder = registry.root / "signatures" / record.id
    parts = [Signed(MANIFEST, registry.root / "manifests" / f"{record.id}.json", folder / f"{MANIFEST}.sig")]
    for role, digest in sorted(record.artifacts.items()):
        parts.append(Signed(role, registry.store.root / digest, folder / f"{role}.sig"))
    return parts


def is_signed(registry: Registry, record: ModelRecord) -> bool:
    """Whether signatures are there; `verify_signature` says whether they hold."""
    return all(part.signature.is_file() for part in signed_parts(registry, record))


def sign(registry: Registry, name: str, key: Path, *, password: str | None = None) -> list[Signed]:
    """Sign a model; earlier signatures of it are replaced, all at once.

    Args:
        key: PEM file of a private elliptic-curve key (NIST P-256, P-384 or P-521).
        password: of an encrypted key.

    Raises:
        ConfigError: the package is missing, or the key cannot be read.
        RegistryError: no such model, or its files are damaged: what is damaged is not signed.
    """
    signing, _ = _library()
    record = registry.show(name)
    _refuse_readable_by_others(key)
    problems = registry.verify(record.id)
    if problems:
        raise RegistryError(
            f"{record.id}: {problems[0].path}: {problems[0].what}. Only an intact model is signed: `factory models verify`."
        )
    parts = signed_parts(registry, record)
    home = parts[0].signature.parent
    home.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{record.id}-", dir=home.parent))
    try:
        try:
            signer = signing.Config().use_elliptic_key_signer(private_key=key, password=password.encode() if password else None)
        except (ValueError, TypeError, OSError, AttributeError) as err:
            raise ConfigError(f"--key {key}: is no private elliptic-curve key in PEM that can be opened ({_line(err)}). Make one: "
                              "openssl ecparam -name prime256v1 -genkey -noout -out key.pem") from err  # fmt: skip
        for part in parts:
            signer.sign(part.path, staging / part.signature.name)
        sync_tree(staging)
        staging.chmod(0o755)
        if home.exists():
            shutil.rmtree(home)
        staging.rename(home)
        sync_folder(home.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return parts


def verify_signature(registry: Registry, name: str, public_key: Path) -> list[Signed]:
    """Check that the key signed the manifest and every file of a model as they are now.

    Raises:
        ConfigError: the package is missing, or the key cannot be read.
        RegistryError: unsigned, signed by another key, or changed since.
    """
    _, verifying = _library()
    record = registry.show(name)
    parts = signed_parts(registry, record)
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, OSError, AttributeError) as err:
        raise ConfigError(f"{public_key}: is no public elliptic-curve key in PEM ({_line(err)}). Give the file that "
                          "`openssl ec -in key.pem -pubout` writes.") from err  # fmt: skip
    for part in parts:
        if not part.signature.is_file():
            raise RegistryError(
                f"{record.id}: {part.role} is not signed. If you trust it: factory models sign {record.id} --key FILE; "
                f"else unset {PUBLIC_KEY} to load unsigned models."
            )
        try:
            verifier.verify(part.path, part.signature)
        # The library raises ValueError, and what its parsers of JSON, Base64 and protobuf raise for a forged file.
        except Exception as err:
            raise RegistryError(
                f"{record.id}: the signature of {part.role} does not fit key and files ({_line(err)}). They were changed, or another "
                "key signed them: restore them from a backup, or sign again if you know why they changed."
            ) from err
    _refuse_other_base(registry, record)
    return parts


def require_signature(registry: Registry, name: str, env: Mapping[str, str] | None = None) -> None:
    """Do nothing unless FACTORY_PUBLIC_KEY names a key; then raise as `verify_signature`."""
    key = (os.environ if env is None else env).get(PUBLIC_KEY)
    if key:
        verify_signature(registry, name, Path(key).expanduser())


def _refuse_other_base(registry: Registry, record: ModelRecord) -> None:
    """A base that is used in place has no folder here; the signed manifest holds its hash."""
    if "path" in record.base and (problems := registry.verify(record.id)):
        raise RegistryError(
            f"{record.id}: {problems[0].path}: {problems[0].what}. The signature does not cover it as it is now. Put it back."
        )


def _refuse_readable_by_others(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as err:
        raise ConfigError(f"--key {key}: cannot be read: {err.strerror}. Name a private key in PEM.") from err
    if mode & 0o077:
        raise ConfigError(
            f"--key {key}: other users may read or change this private key (mode {mode & 0o777:o}). Run: chmod 600 {key}"
        )


def _line(err: BaseException) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0][:160]


def _library() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ImportError as err:
        raise ConfigError(
            f"signing needs the package model-signing, which cannot be imported ({_line(err)}). pip install 'domain-factory[sign]'"
        ) from err
    return signing, verifying
