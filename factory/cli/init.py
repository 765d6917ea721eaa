"""`factory init`: look at a folder of your data, propose domain, recipe and base, and write a recipe file to build from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, table
from factory.errors import ConfigError, DataError, FactoryError

if TYPE_CHECKING:
    from factory.pipeline.propose import Choice, Reading

NAME = "factory.yaml"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DATA", help="File or folder with your data.")],
    domain: Annotated[
        str | None, typer.Option("--domain", "-d", help="Pack that reads it; without it the one that understands most rows.")
    ] = None,
    base: options.Base = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="Recipe of the pack to build upon; without it the one that fits base and machine."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Recipe file to write; without it factory.yaml in the folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe file that exists.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing. Nothing is asked anyway when stdin is no terminal.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Detect what your data is, propose domain, recipe and base for this machine, and write a recipe file. Nothing is trained or fetched."""
    from factory.pipeline.propose import choose_recipe, is_untaught, readings, stages_without_rows

    if not folder.exists():
        raise DataError(f"{folder}: no such file or folder. Give the path of your data.")
    path = out or (folder if folder.is_dir() else folder.parent) / NAME
    if path.exists() and not force:
        raise ConfigError(f"{path} exists. Use --force to write over it, or name another file with --out.")
    may_ask = sys.stdin.isatty() and not yes and not as_json
    found = readings([str(folder)], [domain] if domain else ())
    if not as_json:
        _show(found)
    best = chosen(found, may_ask=may_ask)
    choice = choose_recipe(best.domain, base=base)
    if may_ask and base is None:
        choice = _asked_base(best, choice)
    if recipe is not None:
        choice = type(choice)(recipe, choice.base, choice.why)
    dropped = stages_without_rows(best.domain, choice.recipe, best.counts)
    text = recipe_text(best, choice, folder, path, dropped)
    from factory.registry.files import write_atomic

    write_atomic(path, text)
    told = _planned(path)
    if as_json:
        emit_json({"recipe_file": str(path), "domain": best.domain, "recipe": choice.recipe, "base": choice.base, "why": choice.why, "left_out": dropped,
                   "read": [vars(one) for one in found], **told})  # fmt: skip
        return
    say(f"domain   {best.domain}", f"recipe   {choice.recipe}", f"base     {choice.base} ({choice.why})", f"wrote    {path}")
    if dropped:
        say(f"note     left out, since the files hold nothing for it to train on: {', '.join(dropped)}")
    if is_untaught(best.domain, choice, dropped):
        say(
            "note     without SFT the embedded base never answers in the asked form, so RL finds no reward to climb: add lessons",
            "         (questions with a worked `response`), or choose a base that answers already with --base",
        )
    if "plan_error" in told:
        say(f"note     it cannot be planned yet: {told['plan_error']}")
    else:
        say(f"plan     {told['steps']} steps, about {told['time']}, peak memory {told['memory']} a process")
    flag = f"--recipe {path}"
    say(
        f"next     factory data check {folder} --domain {best.domain}",
        f"         factory plan {flag}",
        f"         factory build {flag}",
    )


def chosen(found: list[Reading], *, may_ask: bool) -> Reading:
    """The pack to use. Raises DataError when none reads the data, ConfigError when several do and nobody can be asked."""
    able = [one for one in found if one.num_read]
    if not able:
        raise DataError(
            f"no pack understands these files; {found[0].domain} says: {found[0].first_fault or 'nothing was found'}. "
            "Make a pack of a table with question and answer: factory domains new NAME --from FILE"
        )
    ties = [one for one in able if one.rank == able[0].rank]
    if len(ties) == 1:
        return ties[0]
    names = [one.domain for one in ties]
    if not may_ask:
        raise ConfigError(f"{len(names)} packs read these files equally well: {', '.join(names)}. Add --domain NAME.")
    answer = typer.prompt(f"{len(names)} packs read these files: {', '.join(names)}. Which one?", default=names[0])
    picked = next((one for one in ties if one.domain == answer), None)
    if picked is None:
        raise ConfigError(f"'{answer}' is none of {', '.join(names)}. Run the command again, or add --domain NAME.")
    return picked


def _asked_base(best: Reading, choice: Choice) -> Choice:
    from factory.pipeline.propose import choose_recipe

    answer = typer.prompt(f"base model ({choice.why})", default=choice.base)
    return choice if answer == choice.base else choose_recipe(best.domain, base=answer)


def _show(found: list[Reading]) -> None:
    rows = [
        (
            one.domain,
            *(one.counts.get(sort, "") for sort in ("samples", "lessons", "corpus", "pairs")),
            one.bad or "",
            one.first_fault.splitlines()[0][:90] if one.first_fault else "",
        )
        for one in found
    ]
    columns = ("pack", "questions", "lessons", "texts", "pairs", "bad rows", "first complaint")
    say(table(columns, rows, title="What each pack understands of the first rows", right=columns[1:6]))


def recipe_text(best: Reading, choice: Choice, folder: Path, path: Path, dropped: Sequence[str] = ()) -> str:
    """The recipe file. Paths in a recipe start at its own folder, so a file inside the data folder can move with it. `dropped` stages are removed."""
    import os

    import yaml

    inside = os.path.relpath(folder.absolute(), path.absolute().parent)
    data = inside if not inside.startswith("..") else str(folder.absolute())
    settings: dict[str, Any] = {
        "extends": choice.recipe, "description": f"{best.domain} on {folder.name}, proposed by factory init.", "domain": best.domain,
        "base": choice.base, "data": {"paths": [data if data.startswith(("/", ".")) else f"./{data}"]},
    }  # fmt: skip
    if dropped:
        settings["stages"] = dict.fromkeys(dropped)
    rows = ", ".join(f"{count}{'+' if count >= 200 else ''} {sort}" for sort, count in best.counts.items() if count)
    head = [f"# Found: {rows}; tasks {', '.join(best.tasks[:8]) or 'none'}.", f"# Base: {choice.why}.",
            "# All settings with their defaults: factory config show --recipe THIS_FILE"]  # fmt: skip
    return "\n".join(head) + "\n" + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _planned(path: Path) -> dict[str, Any]:
    """Steps, time and memory of the build; or why there is no plan yet (the base is not on this machine, say)."""
    from factory.cli.output import size, span
    from factory.cli.plan import plan_of
    from factory.config.compose import compose

    try:
        made = plan_of(compose(None, recipe=str(path)), None)
    except FactoryError as err:
        return {"plan_error": str(err)}
    return {"steps": len(made.steps), "time": span(made.seconds), "memory": size(made.peak_memory_bytes)}
