"""docs/cli.md, docs/settings.md and docs/errors.md from the code: `python tests/docs/reference_pages.py` (or `make docs`) writes them."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MADE = "\n<!-- Made by `make docs` from the code; a test says when it is old. -->\n"


def pages() -> dict[str, str]:
    """File name under docs/ -> text."""
    made = {"cli.md": cli_page(), "settings.md": settings_page(), "errors.md": errors_page()}
    return {name: text.rstrip() + "\n" + MADE for name, text in made.items()}


# Commands -----------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """(words after `factory`, command) of every command that does something, groups in the order of `--help`."""
    import typer

    from factory.cli.app import app

    def inside(group: Any, words: list[str]) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if getattr(command, "hidden", False):
                continue
            if hasattr(command, "commands"):
                yield from inside(command, [*words, name])
            else:
                yield " ".join([*words, name]), command

    yield from inside(typer.main.get_command(app), [])


def cli_page() -> str:
    """One section for each command: what it does, its arguments and options with type, default and meaning."""
    import typer

    from factory.cli.app import app

    root = typer.main.get_command(app)
    parts = ["# Commands\n", f"{root.help}\n", "`factory` itself takes:\n", _table(_options(root))]
    parts.append(
        "`--install-completion` writes completion of commands and options for your shell; `--show-completion` prints it.\n"
    )
    listed = list(commands())
    parts.append(
        _rows(
            ("command", "does"),
            [(f"[`factory {name}`](#factory-{name.replace(' ', '-')})", _first(command.help)) for name, command in listed],
        )
    )
    for name, command in listed:
        parts.append(f"## factory {name}\n")
        usage = " ".join(
            [f"factory {name}", *(_metavar(one) for one in command.params if one.param_type_name == "argument"), "[OPTIONS]"]
        )
        parts += [f"```text\n{usage}\n```\n", f"{_plain(command.help)}\n"]
        arguments = [
            (f"`{_metavar(one)}`", _plain(getattr(one, "help", "") or ""))
            for one in command.params
            if one.param_type_name == "argument"
        ]
        if arguments:
            parts.append(_rows(("argument", "meaning"), arguments))
        parts.append(_table(_options(command)))
    return "\n".join(part for part in parts if part)


def _metavar(argument: Any) -> str:
    word = argument.metavar or (argument.name or "").upper()
    return f"{word}..." if argument.nargs == -1 and not word.endswith("...") else word


def _options(command: Any) -> list[tuple[str, str, str, str]]:
    found = []
    hints = get_type_hints(command.callback) if command.callback is not None else {}
    for one in command.params:
        if one.param_type_name != "option" or one.hidden or one.name in ("install_completion", "show_completion"):
            continue
        names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
        kind = "" if one.is_flag else (one.metavar or value_text(hints.get(one.name)))
        default = one.default
        if callable(default) or default in (None, False, (), []) or one.is_flag:
            shown = ""
        else:
            shown = f"`{default.value if isinstance(default, Enum) else default}`"
        found.append(
            (
                names,
                kind.replace("|", " or "),
                shown,
                _plain(one.help or "") + (" Repeatable." if one.multiple and "epeat" not in (one.help or "") else ""),
            )
        )
    return found


def value_text(hint: Any) -> str:
    """What to type for an option, from the type of the function's parameter: the same under every version of typer."""
    inner = [one for one in get_args(hint) if one is not type(None)]
    if inner:
        return value_text(inner[0])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "|".join(str(one.value) for one in hint)
    return {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(hint, "TEXT")


def _table(options: list[tuple[str, str, str, str]]) -> str:
    return _rows(("option", "value", "default", "meaning"), options) if options else ""


def _first(text: str | None) -> str:
    return _plain(text or "").split(". ")[0].rstrip(".") + "."


def _plain(text: str) -> str:
    return " ".join((text or "").split())


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


# Settings -----------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Every key of a build, and of every stage kind, with type, default and meaning."""
    from factory.config.schema import BuildConfig

    parts = ["# Settings\n", "Every key that `--set KEY=VALUE` and a recipe may hold; [configuration](config.md) says how they are laid over each other.",
             "A pack's own options stand under `pack` and in its page; the settings of RL pieces are in [techniques](techniques.md).\n", "## A build\n",
             _rows(("key", "type", "default", "meaning"), list(keys(BuildConfig)))]  # fmt: skip
    for title, head, type_ in other_settings():
        parts += [f"## {title}\n", _rows(("key", "type", "default", "meaning"), list(keys(type_, head)))]
    for kind, type_ in stage_kinds():
        parts += [f"## Stages of kind {kind}\n", f"{_plain(inspect.getdoc(type_) or '')}\n",
                  _rows(("key", "type", "default", "meaning"), list(keys(type_, "stages.NAME.")))]  # fmt: skip
    return "\n".join(parts)


def other_settings() -> list[tuple[str, str, type]]:
    """Sections whose keys are checked by the part that reads them."""
    from factory.rewards.judges.settings import JudgeSettings
    from factory.rewards.watch import WatchSettings

    return [("A judge", "judges.NAME.", JudgeSettings), ("The watch over verifiers", "watch.", WatchSettings)]


def stage_kinds() -> list[tuple[str, type]]:
    """(kind, its settings) of the factory's own kinds that a recipe may list."""
    from factory.plugins import load_stage, stage_entries

    own = [entry.name for entry in stage_entries() if load_stage(entry.name).config_type.__module__.startswith("factory.")]
    return [(name, load_stage(name).config_type) for name in sorted(own) if name not in ("eval", "base")]


def keys(type_: type, head: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of a dataclass and the dataclasses in it."""
    hints, told = get_type_hints(type_), meanings(type_)
    for one in fields(type_):
        inner = hints[one.name]
        if is_dataclass(inner):
            yield from keys(inner, f"{head}{one.name}.")
            continue
        yield f"`{head}{one.name}`", type_text(inner), _default(one), told.get(one.name, "")


def type_text(hint: Any) -> str:
    """A type as people write it."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(str(one.value) for one in hint)
    if get_origin(hint) is not None or get_args(hint):
        return str(hint).replace("typing.", "").replace(" | None", " or null").replace("factory.config.schema.", "")
    return getattr(hint, "__name__", str(hint))


def _default(one: Any) -> str:
    from omegaconf import MISSING as NEEDED

    value = one.default_factory() if one.default_factory is not MISSING else one.default
    if value is MISSING or value == NEEDED:
        return "must be given"
    if value is None:
        return "`null`"
    return f"`{value.value}`" if isinstance(value, Enum) else f"`{value}`" if value != "" else "empty"


@cache
def meanings(type_: type) -> dict[str, str]:
    """Field -> the text under it in the source, of a dataclass and those it inherits from."""
    found: dict[str, str] = {}
    for one in reversed(type_.__mro__):
        if one is object or not is_dataclass(one):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0].body
        for node, below in pairwise(body):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[node.target.id] = _plain(str(below.value.value))
    return found


# Errors -------------------------------------------------------------------------------------------------------------

ACTIONS = {
    "FactoryError": "The message says which part failed; its log is named there.", "ConfigError": "Mend the key at the file and line, or the flag, in the message.",
    "DataError": "`factory data check PATHS --domain NAME` lists every bad row with its file, line, field and reason.",
    "PluginError": "`factory domains list` shows packs; `factory pieces list` pieces.", "UnknownPlugin": "Correct the name: the nearest one and the list are in the message.",
    "DuplicatePlugin": "Uninstall one of the two distributions in the message.", "BrokenPlugin": "Reinstall or mend the plugin; the cause follows in the message, the traceback with `--debug`.",
    "ModelError": "Check the folder in the message: a whole transformers folder with safetensors.", "RewardError": "Mend the verifier; `pool.timeout_s` and `pool.memory_mib` are its limits.",
    "TrainingError": "The message names the step and the log; the last checkpoint is kept.", "RolledBack": "Nothing to do in a build: it goes on from the last checkpoint with a smaller step.",
    "RegistryError": "`factory models verify`, then `factory models repair`; or wait for the other process.", "Interrupted": "Type the same command again: it resumes.",
    "Preempted": "Queue the same command again: it resumes.",
}  # fmt: skip


def errors_page() -> str:
    """Every error class with its exit code and what to do; the site adds every message (see docs/site/hooks.py)."""
    from factory import errors

    rows = []
    for name, one in vars(errors).items():
        if isinstance(one, type) and issubclass(one, errors.FactoryError):
            rows.append((f"`{name}`", one.exit_code, _plain(inspect.getdoc(one) or ""), ACTIONS[name]))
    head = (
        "# Errors\n\nEvery failure that is yours to read is one of these classes. On stderr stands its message: what is wrong, where, and what to do. With `--json`\n"
        'stdout holds `{"error": {"kind", "message", "exit_code"}}`, and `kind` is the class. Anything else is a bug of ours and ends with code 70.\n'
        "The codes are told in [exit codes](exit-codes.md), the common messages in [troubleshooting](troubleshooting.md).\n\n"
    )
    return head + _rows(("class", "exit code", "meaning", "what to do"), rows) + "\n<!-- every message -->\n"


if __name__ == "__main__":
    for file, text in pages().items():
        (DOCS / file).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{DOCS / file}\n")
