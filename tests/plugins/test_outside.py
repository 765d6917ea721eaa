"""A pack written outside the repository, installed with pip in a fresh environment, does all that a built-in one does."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

SMALL = ("--set", "stages.cpt.documents=16", "--set", "stages.sft.lessons=16", "--set", "stages.sft.epochs=1", "--set", "stages.rl=null",
         "--set", "eval.samples=8", "--set", "eval.validation_samples=4", "--set", "eval.max_new_tokens=8", "--set", "eval.bootstrap=50")  # fmt: skip


@pytest.fixture
def run(fresh, tmp_path):
    """Run a command of the fresh environment away from the repository; its standard output."""

    def command(*words, timeout=900):
        done = subprocess.run([*map(str, words)], cwd=tmp_path, env=fresh, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"$ {' '.join(map(str, words))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    return command


@pytest.mark.slow
def test_a_pack_from_pip_is_listed_checked_built_evaluated_exported_and_served(run, fresh, tmp_path):
    run("factory", "domains", "new", "riddles", "--to", tmp_path / "src")
    run("pip", "install", tmp_path / "src")
    shutil.rmtree(tmp_path / "src")  # what was installed is all there is
    listed = {row["name"]: row for row in json.loads(run("factory", "domains", "list", "--json"))}
    assert listed["riddles"]["origin"] == "factory-pack-riddles 0.1.0" and listed["riddles"]["fault"] is None
    assert listed["riddles"]["recipes"] == ["embedded"]
    checks = json.loads(run("factory", "domains", "check", "riddles", "--build", "--json"))
    assert checks["failed"] == 0 and checks["checks"][-1]["check"] == "embedded_recipe_builds"
    built = json.loads(run("factory", "build", "--domain", "riddles", "--run", "first", "--json", *SMALL))
    assert [row["stage"] for row in built["stages"]] == ["base", "cpt", "sft"]
    model = built["result"]["model"]["id"]
    figures = json.loads(run("factory", "eval", model, "--domain", "riddles", "--json", *SMALL))
    assert figures["splits"]["test"]["primary"]["n"] == 8
    run("factory", "export", model, tmp_path / "model")
    assert list((tmp_path / "model").glob("*.safetensors")) and (tmp_path / "model" / "tokenizer.json").is_file()
    _serve(fresh, tmp_path)
    run("pip", "uninstall", "--yes", "factory-pack-riddles")
    assert "riddles" not in {row["name"] for row in json.loads(run("factory", "domains", "list", "--json"))}


def _serve(fresh, tmp_path, port=18473):
    """One answer of the exported model through `factory serve`."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    words = ["factory", "serve", str(tmp_path / "model"), "--port", str(port), "--name", "riddles", "--engine", "transformers"]
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(words, cwd=tmp_path, env=fresh, stdout=log, stderr=subprocess.STDOUT)
    try:
        asked = {"model": "riddles", "messages": [{"role": "user", "content": "What is 1 plus 2?"}], "max_tokens": 4}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    answer = json.load(reply)
                break
            except (ConnectionError, urllib.error.URLError) as err:
                assert server.poll() is None and time.monotonic() < deadline, (
                    f"{err}: {(tmp_path / 'serve.log').read_text()[-2000:]}"
                )
                time.sleep(0.5)
        assert isinstance(answer["choices"][0]["message"]["content"], str)
    finally:
        server.terminate()
        server.wait(timeout=30)
