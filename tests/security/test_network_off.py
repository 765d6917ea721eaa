"""Commands in a network name space without routes: what needs no network must not miss it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = "from factory.cli.app import main; main()"
LOOK = "import socket\ntry:\n socket.create_connection(('192.0.2.1', 9), timeout=1)\nexcept TimeoutError: print('route')\nexcept OSError: print('none')"
"""A connection to an address for documentation (RFC 5737): without a route it fails at once."""


def jail() -> list[str]:
    """The words that run a command without any network. Skips when this system allows none."""
    tried = []
    for words in (["unshare", "-n"], ["unshare", "-r", "-n"], ["bwrap", "--dev-bind", "/", "/", "--unshare-net"]):
        if shutil.which(words[0]):
            done = subprocess.run([*words, sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=120)
            if done.returncode == 0 and done.stdout.strip() == "none":
                return words
            tried.append(f"{' '.join(words)}: {done.stderr.strip()[:100]}")
    pytest.skip(f"no network name space can be made here ({'; '.join(tried) or 'neither unshare nor bwrap'})")


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`offline("plan", …)` runs a command without a network, and with none of the variables that forbid it."""
    words, home = jail(), tmp_path_factory.mktemp("home")
    free = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_", "FACTORY_"))}
    env = free | {"PYTHONPATH": str(ROOT), "FACTORY_HOME": str(home), "HOME": str(home), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*words, sys.executable, "-c", RUN, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=900, env=env, cwd=home)

    return run


COMMANDS = {
    "help": (["--help"], "No network"),
    "plan": (["plan", "--domain", "safety"], "steps to run"),
    "domains list": (["domains", "list"], "medicine"),
    "pieces": (["pieces", "list"], "advantage"),
    "models list": (["models", "list"], "no models yet"),
    "models bases": (["models", "bases"], "embedded"),
    "config show": (["config", "show", "--domain", "music"], "stages"),
    "data preview": (["data", "preview", "--domain", "safety", "--number", "1"], "task"),
    "doctor security": (["doctor", "--security"], "what is not defended"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_need_no_network(offline, name):
    words, wanted = COMMANDS[name]
    done = offline(*words)
    assert done.returncode == 0, done.stderr
    assert wanted in done.stdout


def test_a_hub_model_is_refused_with_the_remedy_instead_of_tried(offline):
    done = offline("plan", "--domain", "safety", "--base", "Qwen/Qwen2.5-0.5B-Instruct")
    assert done.returncode == 2 and "--online" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["doctor"], ["verify", "--domain", "safety", "--audit"]])
def test_checks_need_no_network(offline, words):
    done = offline(*words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_build_its_report_and_its_model_need_no_network(offline):
    short = [
        "--set",
        "eval.samples=8",
        "--set",
        "eval.validation_samples=8",
        "--set",
        "eval.probes=false",
        "--set",
        "eval.blind=false",
    ]
    shown = offline("plan", "--domain", "safety", "--json")
    stages = [row["stage"] for row in json.loads(shown.stdout)["steps"] if row["role"] == "stage"]
    kept = stages[0]
    assert kept == "cpt"
    short += ["--set", "stages.cpt.documents=24"]
    short += [word for stage in stages[1:] for word in ("--set", f"stages.{stage}=null")]
    done = offline("build", "--domain", "safety", "--run", "off", *short)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert offline("report", "off").returncode == 0
    assert offline("models", "verify").returncode == 0 and offline("models", "show", "off").returncode == 0
