"""`factory track`: send a finished run to W&B, MLflow or trackio; and the trackers of a running build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say
from factory.errors import ConfigError, FactoryError

if TYPE_CHECKING:
    from factory.pipeline.plan import BuildPlan
    from factory.tracking.trackers import About

To = Annotated[
    list[str] | None,
    typer.Option(
        "--track", help="Also send metrics to wandb, mlflow or trackio (local files only, unless --online). Repeat for more."
    ),
]


def about_of(made: BuildPlan) -> About:
    """What trackers are told of a planned build."""
    from factory.tracking.trackers import About

    config = made.config
    tags = {"domain": config.domain, "recipe": str(config.recipe), "base": made.base.ref}
    return About(made.run, made.folder.root, made.home.root, made.composed.plain, tags, online=bool(config.online))


def track(
    run: Annotated[str, typer.Argument(help="Name or folder of a run.")],
    to: To = None, online: options.Online = False, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Send what a run left on disk to a tracker; for runs made where there was no network."""
    from factory.registry.home import Home
    from factory.report.read import read_run
    from factory.tracking.trackers import About, read_names, send_run

    names = read_names(to or ())
    if not names:
        raise ConfigError(
            "which tracker? Add --track wandb, mlflow or trackio. metrics.jsonl and TensorBoard files are there already."
        )
    home = Home.find()
    folder = Path(run).expanduser() if Path(run).expanduser().is_dir() else home.runs / run
    config = read_run(folder).config
    tags = {"domain": str(config.get("domain")), "recipe": str(config.get("recipe")), "base": str(config.get("base"))}
    taken = send_run(folder, names, About(folder.name, folder, home.root, config, tags, online=online))
    if as_json:
        emit_json({"run": folder.name, "sent": taken, "failed": [name for name in names if name not in taken]})
    else:
        say(f"sent {folder.name} to {', '.join(taken) or 'no tracker'}")
    if len(taken) < len(names):
        raise FactoryError(f"{', '.join(name for name in names if name not in taken)} failed; the warning above says why.")
