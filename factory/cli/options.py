"""Options that several commands share, and the config they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.errors import ConfigError

if TYPE_CHECKING:
    from factory.config.compose import Composed

Domain = Annotated[
    str | None, typer.Option("--domain", "-d", help="Domain pack, see `factory domains list`; a,b builds on several.")
]
Mix = Annotated[
    str | None,
    typer.Option(
        "--mix", help="Shares of the packs of --domain a,b in training, such as 0.6,0.4. Held-out data is shared equally."
    ),
]
Recipe = Annotated[str | None, typer.Option("--recipe", "-r", help="Recipe of the pack, or a YAML file; without it `embedded`.")]
Base = Annotated[
    str | None,
    typer.Option("--base", "-b", help="Base model: embedded-text, embedded-vl, a folder, or with --online a hub id."),
]
DataPaths = Annotated[list[str] | None, typer.Option("--data", help="Your data: a file or folder. Repeat for more.")]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change one setting. Repeat for more.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Online = Annotated[bool, typer.Option("--online", help="Allow the network, for hub ids. Off by default.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Build from a run's resolved.yaml instead of pack and recipe."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Run = Annotated[str | None, typer.Option("--run", help="Name of the run; the name of an unfinished run resumes it.")]


def composed_from(
    domain: str | None, recipe: str | None, base: str | None, data: list[str] | None, overrides: list[str] | None,
    seed: int | None, online: bool, config: Path | None, mix: str | None = None,
) -> Composed:  # fmt: skip
    """Compose the config that the shared options describe. Raises ConfigError, also when --config meets an option it excludes."""
    from factory.config.compose import compose, from_resolved

    if config is None:
        return compose(
            domain,
            recipe=recipe,
            base=base,
            seed=seed,
            data=data or (),
            overrides=overrides or (),
            online=True if online else None,
            mix=mix,
        )
    clashing = [
        ("--domain", domain),
        ("--recipe", recipe),
        ("--base", base),
        ("--data", data),
        ("--seed", seed),
        ("--online", online),
        ("--mix", mix),
    ]
    for flag, value in clashing:
        if value not in (None, False, []):
            raise ConfigError(f"--config holds every setting, so {flag} cannot be given too. Use --set KEY=VALUE to change one.")
    return from_resolved(config, overrides or ())
