"""`factory models sign`, and the part of `factory models verify` that checks a signature. Offline, with keys of the user's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say

if TYPE_CHECKING:
    from factory.registry.models import Registry

Name = Annotated[str, typer.Argument(help="Id of a built model (name-v1), or its name for the newest version.")]
PublicKey = Annotated[
    Path | None, typer.Option("--public-key", metavar="FILE", help="Also check that this key (PEM) signed the model as it is.")
]


def sign(
    name: Name,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Private elliptic-curve key in PEM, readable by you alone.")],
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VARIABLE", help="Environment variable with the key's password.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Sign a model's manifest and weights (OpenSSF model-signing); needs the extra `sign` and no network."""
    from factory.cli.models import open_registry
    from factory.errors import ConfigError
    from factory.registry.signing import sign as write_signatures

    if password_env and password_env not in os.environ:
        raise ConfigError(f"--password-env {password_env}: no such environment variable. Set it, or leave the option out.")
    password = os.environ[password_env] if password_env else None
    registry = open_registry()
    parts = write_signatures(registry, name, key.expanduser(), password=password)
    folder = parts[0].signature.parent
    if as_json:
        emit_json({"model": folder.name, "signatures": {part.role: str(part.signature) for part in parts}})
    else:
        say(f"signed {folder.name}: {', '.join(part.role for part in parts)}", f"in {folder}",
            "Give the public key to those who load it: export FACTORY_PUBLIC_KEY=FILE refuses all other models.")  # fmt: skip


def signed_by(registry: Registry, name: str | None, public_key: Path) -> list[str]:
    """Ids of the models whose signatures hold: one, or all. Raises RegistryError for the first that is not so signed."""
    from factory.registry.signing import verify_signature

    ids = [registry.show(name).id] if name is not None else [record.id for record in registry.records()]
    for one in ids:
        verify_signature(registry, one, public_key.expanduser())
    return ids
