"""inspect_ai against an address, as docs/evaluate.md shows it. Needs the `inspect` program: on PATH, or FACTORY_TEST_INSPECT."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from openai_server import Server, said

TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import generate


@task
def sums():
    return Task(dataset=[Sample(input="1+1?", target="2"), Sample(input="1+2?", target="3")], solver=generate(), scorer=match())
"""


@pytest.mark.slow
def test_inspect_evaluates_an_address(tmp_path):
    program = os.environ.get("FACTORY_TEST_INSPECT") or shutil.which("inspect")
    if not program or not Path(program).is_file():
        pytest.skip("inspect_ai is not installed (pip install inspect_ai), and FACTORY_TEST_INSPECT names no program")
    server = Server(lambda body, number: said("2"))
    (tmp_path / "sums.py").write_text(TASK)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "FACTORY_API_KEY": "none", "FACTORY_BASE_URL": server.base, "HOME": str(tmp_path), "INSPECT_LOG_FORMAT": "json",
    }  # fmt: skip
    words = [
        "eval",
        "sums.py",
        "--model",
        "openai-api/factory/m1",
        "--log-dir",
        "logs",
        "--display",
        "plain",
        "--log-format",
        "json",
    ]
    done = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300)
    server.close()
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (tmp_path / "logs").glob("*.json")
    results = json.loads(log.read_text())["results"]
    assert results["scores"][0]["metrics"]["accuracy"]["value"] == 0.5, "one of the two answers is right"
    assert server.requests[0]["model"] == "m1"
