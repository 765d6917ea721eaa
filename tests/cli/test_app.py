"""The command itself: help without heavy imports, exit codes, messages, tracebacks only when asked for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

import factory.errors
from factory.cli.app import INTERNAL_ERROR, app
from factory.errors import FactoryError

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "monai",
    "accelerate",
    "peft",
    "deepspeed",
    "numpy",
    "PIL",
    "omegaconf",
    "pandas",
    "pyarrow",
)


def modules_after(*words: str) -> set[str]:
    """Top-level modules in memory after a command line ran in a fresh Python."""
    told = "print(*{m.split('.')[0] for m in sys.modules}, file=sys.stderr)"
    program = f"import sys; from factory.cli.app import run; run({list(words)!r}); {told}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=ROOT, check=True)
    return set(done.stderr.splitlines()[-1].split())


def commands(group: typer.Typer = app) -> dict[str, object]:
    """Every leaf command by its full name."""

    def walk(node, words):
        if hasattr(node, "commands"):
            for name, inside in node.commands.items():
                yield from walk(inside, (*words, name))
        else:
            yield " ".join(words), node

    return dict(walk(typer.main.get_command(group), ()))


@pytest.mark.parametrize("words", [["--help"], ["build", "--help"], ["--version"], ["domains", "list"]])
def test_light_commands_import_nothing_heavy(words):
    assert not modules_after(*words) & set(HEAVY)


def test_plan_imports_no_training_library():
    loaded = modules_after("plan", "-d", "toy")
    assert "omegaconf" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "monai", "accelerate", "peft", "deepspeed"}


def test_help_names_every_command_and_where_exit_codes_are(process):
    ended = process("--help")
    assert ended.code == 0 and ended.err == ""
    for name in ("build", "plan", "eval", "export", "serve", "chat", "doctor", "data", "domains", "models", "config"):
        assert re.search(rf"^│ {name} ", ended.out, re.M), name
    assert "Exit codes: 0 done" in ended.out and "docs/exit-codes.md" in ended.out


def test_every_command_has_help_and_json():
    for name, command in commands().items():
        assert command.help, name
        if name in ("serve", "chat", "node"):
            continue  # they run until they are stopped; node passes the build's own output on
        assert any("--json" in option.opts for option in command.params), name


def test_every_exit_code_is_documented():
    told = (ROOT / "docs" / "exit-codes.md").read_text()
    kinds = [kind for kind in vars(factory.errors).values() if isinstance(kind, type) and issubclass(kind, FactoryError)]
    assert len(kinds) >= 9
    for code in {kind.exit_code for kind in kinds} | {0, INTERNAL_ERROR}:
        assert re.search(rf"^\| {code} \|", told, re.M), code


def test_version(factory):
    from factory import __version__

    assert factory("--version") == (0, f"factory {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["buld"], 2, r"No such command 'buld'.*build"),
        (["build", "--domian", "toy"], 2, r"No such option.*--domain.*See `factory build --help`"),
        (["build"], 2, r"no domain is given\. Add --domain NAME"),
        (["plan", "-d", "tyo"], 4, r"unknown domain pack 'tyo'\. Did you mean 'toy'\?"),
        (["plan", "-d", "toy", "-s", "stages.main.grup_size=3"], 2, r"'stages\.main\.grup_size'\. Did you mean 'group_size'"),
        (["plan", "-d", "toy", "--data", "/nowhere/at/all"], 2, r"--data /nowhere/at/all: data path '/nowhere/at/all' does not"),
        (["plan", "-d", "toy", "--run", "a/b"], 2, r"--run 'a/b' cannot name a folder"),
        (["plan", "-d", "toy", "-b", "nobody/nothing"], 2, r"nobody/nothing.*--online"),
        (["plan", "-c", "x.yaml", "-d", "toy"], 2, r"--config holds every setting, so --domain cannot be given too"),
        (["models", "show", "nobody"], 8, r"no model 'nobody'"),
        (["export", "nobody", "out"], 8, r"no model 'nobody'"),
        (["eval", "nobody", "-d", "toy"], 8, r"no model 'nobody'"),
        (["eval", "embedded-text"], 2, r"which pack should measure the model\? Add --domain"),
        (["data", "check", "x"], 2, r"which pack should read the data\? Add --domain"),
        (["domains", "check", "toy", "--only", "nothing"], 2, r"there is no check 'nothing'"),
    ],
)  # fmt: skip
def test_failure_ends_with_its_code_and_one_message(factory, words, code, told):
    ended = factory(*words)
    assert ended.code == code
    assert ended.err.startswith("error: ") and re.search(told, ended.err)
    assert "Traceback" not in ended.err and ended.out == ""


def test_wrong_recipe_line_is_named_by_the_real_command(process, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: embedded\nstages:\n  main:\n    optim:\n      learning_rate: 1e-3\n")
    ended = process("plan", "--domain", "toy", "--recipe", str(recipe))
    assert ended.code == 2
    assert f"{recipe}:5: unknown key 'stages.main.optim.learning_rate'" in ended.err


def test_json_failure_is_one_document(factory):
    ended = factory("plan", "-d", "tyo", "--json")
    assert ended.code == 4
    assert ended.json["error"]["kind"] == "UnknownPlugin" and ended.json["error"]["exit_code"] == 4
    assert factory("plan", "--nothing", "--json").json["error"]["kind"] == "UsageError"


def test_bug_is_logged_and_shown_only_with_debug(factory, home, monkeypatch):
    monkeypatch.setattr("factory.plugins.pack_entries", lambda: 1 / 0)
    ended = factory("domains", "list")
    assert ended.code == INTERNAL_ERROR == 70
    assert "This is a bug in factory" in ended.err and "Traceback" not in ended.err
    log = Path(ended.err.split("The traceback is in ")[1].strip())
    assert log.parent == home / "logs"
    assert "ZeroDivisionError" in log.read_text() and "factory domains list" in log.read_text()
    assert "Traceback" in factory("domains", "list", "--debug").err


def test_bug_is_logged_elsewhere_when_home_cannot_be_written(factory, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("factory.plugins.pack_entries", lambda: 1 / 0)
    log = Path(factory("domains", "list").err.split("The traceback is in ")[1].strip())
    assert log.parent == tmp_path and "ZeroDivisionError" in log.read_text()


def test_debug_shows_the_traceback_of_a_known_error(factory):
    assert "Traceback" in factory("--debug", "plan", "-d", "tyo").err
    assert "Traceback" not in factory("plan", "-d", "tyo").err


def test_ctrl_c_ends_with_130_and_says_what_to_type(tmp_path):
    pipe = tmp_path / "rows.txt"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "factory.cli.app", "data", "check", str(pipe), "-d", "toy"]

    def hear_ctrl_c():
        # A run started in the background of a shell inherits that SIGINT is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c
    )
    writer = os.open(pipe, os.O_WRONLY)  # returns when the command has opened the pipe to read
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    os.close(writer)
    assert process.returncode == 130
    assert err.startswith("stopped: ") and "Type the same command again" in err and "Traceback" not in err
