"""The `factory` command: puts the command groups together and turns every failure into a message and an exit code.

Nothing heavy is imported here or by the command files at module level: `factory --help` needs only typer and rich.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import factory
from factory.cli import (
    build,
    chat,
    config,
    data,
    doctor,
    domains,
    evaluate,
    export,
    init,
    jobs,
    mix,
    models,
    node,
    pieces,
    plan,
    report,
    serve,
    submit,
    track,
    verify,
    watch,
)
from factory.errors import FactoryError, Interrupted

INTERNAL_ERROR = 70
"""Exit code of a bug of ours (sysexits.h EX_SOFTWARE)."""

EPILOG = "\n\n".join(
    (
        "Exit codes: 0 done, 1 failed or a check found faults, 2 wrong setting, flag or recipe, 3 data, 4 pack or stage kind,",
        "5 model, 6 verifiers failed too often, 7 training cannot go on, 8 registry or run folder, 70 a bug in factory,",
        "75 made room (SIGUSR1), 130 stopped: the same command resumes. See docs/exit-codes.md.",
        "Everything lies under FACTORY_HOME (default ~/.factory). No network unless --online is given.",
    )
)

# ClickException lies in click or inside typer, depending on typer's version; its public child leads to it.
USAGE_ERRORS: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Group(TyperGroup):
    """A command group in which Ctrl-C outside a build ends with our message instead of a bare code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as err:
            raise Interrupted("stopped by Ctrl-C; nothing was left half-written. Type the same command again.") from err


app = typer.Typer(
    cls=_Group, name="factory", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, epilog=EPILOG,
    help="Turn a base model plus a domain pack into a domain specialist: pretraining, reasoning SFT, RL, each measured.",
)  # fmt: skip
app.command("init")(init.init)
app.command("build")(build.build)
app.command("plan")(plan.plan)
app.command("eval")(evaluate.evaluate)
app.command("verify")(verify.verify)
app.command("report")(report.report)
app.command("watch")(watch.watch)
app.command("export")(export.export)
app.command("track")(track.track)
app.command("serve")(serve.serve)
app.command("chat")(chat.chat)
app.add_typer(data.app, name="data")
app.add_typer(domains.app, name="domains")
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")
app.add_typer(pieces.app, name="pieces")
app.add_typer(mix.app, name="mix")
app.command("doctor")(doctor.doctor)
app.command("submit")(submit.submit)
app.add_typer(jobs.app, name="jobs")
app.command("node")(node.node)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"factory {factory.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    del version, debug  # --debug is taken from the arguments by `run`, wherever it stands.


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Never raises for a failure of the command."""
    own = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    is_debug = "--debug" in own or os.environ.get("FACTORY_DEBUG") == "1"
    is_json = "--json" in own
    rest = [word for word in own if word != "--debug"] + list(arguments[len(own) :])
    try:
        code = app(rest, prog_name="factory", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except FactoryError as err:
        if is_debug:
            traceback.print_exc()
        return _fail(type(err).__name__, str(err), err.exit_code, is_json)
    except USAGE_ERRORS as err:
        return _usage(err, is_json)
    except Exception as err:
        if is_debug:
            traceback.print_exc()
        told = f"{type(err).__name__}: {err}. This is a bug in factory, not in your settings."
        message = f"{told} The traceback is in {_log_crash(arguments)}"
        return _fail("InternalError", message, INTERNAL_ERROR, is_json)


def _fail(kind: str, message: str, code: int, is_json: bool) -> int:
    from rich.text import Text

    from factory.cli.output import console, emit_json
    from factory.redaction import redact

    message = redact(message)
    word = "stopped" if kind in ("Interrupted", "Preempted") else "error"
    console(stderr=True).print(Text(f"{word}: ", style="bold red") + Text(message, style="red"), soft_wrap=True)
    if is_json:
        emit_json({"error": {"kind": kind, "message": message, "exit_code": code}})
    return code


def _usage(err: Any, is_json: bool) -> int:
    from factory.cli.output import emit_json

    if type(err).__name__ == "NoArgsIsHelpError":
        err.show()
        return int(err.exit_code)
    context = getattr(err, "ctx", None)
    command = context.command_path if context is not None else "factory"
    _fail("UsageError", f"{err.format_message()} See `{command} --help`.", int(err.exit_code), False)
    if is_json:
        emit_json({"error": {"kind": "UsageError", "message": err.format_message(), "exit_code": int(err.exit_code)}})
    return int(err.exit_code)


def _log_crash(arguments: Sequence[str]) -> Path:
    """Write the current traceback under FACTORY_HOME/logs, or the temporary folder when that cannot be written."""
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    from factory.redaction import redact

    text = redact(f"factory {factory.__version__}\nfactory {' '.join(arguments)}\n\n{traceback.format_exc()}")
    home = Path(os.environ.get("FACTORY_HOME") or "~/.factory").expanduser()
    for folder in (home / "logs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            return folder / name
        except OSError:
            if folder == Path(tempfile.gettempdir()):
                raise
    raise AssertionError("the loop returns or raises")


if __name__ == "__main__":
    main()
