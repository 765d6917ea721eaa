"""Secrets in variables, addresses and by their looks never reach a record, a message, a log or a manifest."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.config.compose import compose
from factory.errors import ConfigError
from factory.launch.environment import NO_TELEMETRY, OFFLINE, worker_env
from factory.redaction import RedactedStream, is_secret_name, redact

SECRET = "s3cr3t-Value-0042"
NEAR = "abX0:/@?=& *-_\n"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "MYKEY_API_KEY",
        "WANDB_API_KEY",
        "SIGN_PASSPHRASE",
        "JUDGE_KEY",
    ],
)
def test_values_of_secret_variables_are_masked(name):
    assert is_secret_name(name)
    assert redact(f"sent {SECRET} to it", {name: SECRET}) == "sent *** to it"


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "MAX_NEW_TOKENS", "HOME", "FACTORY_PUBLIC_KEY", "KEYBOARD", "SSH_KEY_PATH"]
)
def test_other_variables_are_left(name):
    assert redact("sent plain-value to it", {name: "plain-value"}) == "sent plain-value to it"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://jane:pa55word@host:8000/v1", "https://***@host:8000/v1"),
        ("GET /x?api_key=abcdefgh&n=1", "GET /x?api_key=***&n=1"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer ***"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "***"),
        ("http://localhost:8000/v1 and a@b.example", "http://localhost:8000/v1 and a@b.example"),
        ("-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY----- end", "*** end"),
    ],
)
def test_secrets_are_known_by_their_shape(text, left):
    assert redact(text, {}) == left


@given(st.text(NEAR, max_size=20), st.text(NEAR, max_size=20), st.text("abXZ09-_", min_size=8, max_size=20))
def test_no_text_around_a_secret_keeps_it(before, after, value):
    assert value not in redact(f"{before}{value}{after}", {"SOME_TOKEN": value})


def test_a_stream_masks_what_is_written():
    out = io.StringIO()
    stream = RedactedStream(out)
    assert stream.write("x https://a:b@h/ y") == 18
    stream.writelines(["Bearer abcdefghijklmnop\n"])
    assert out.getvalue() == "x https://***@h/ yBearer ***\n" and not stream.isatty()


@pytest.mark.parametrize("value", ["http://user:hunter22@host/v1", SECRET, "hf_abcdefghijklmnopqrstuvwxyz"])
def test_a_setting_with_a_secret_is_refused_so_no_plan_manifest_or_report_can_hold_it(value, monkeypatch):
    monkeypatch.setenv("SITE_TOKEN", SECRET)
    with pytest.raises(ConfigError, match="secret") as caught:
        compose("safety", overrides=["judges.j.kind=endpoint", f"judges.j.url={value}"])
    assert value not in str(caught.value) and "judges.j.url" in str(caught.value)


def test_messages_and_crash_files_hold_no_secret(factory, home, monkeypatch):
    monkeypatch.setenv("SITE_TOKEN", SECRET)
    done = factory("plan", "--domain", f"pack-{SECRET}", "--json")
    assert done.code != 0 and SECRET not in done.out + done.err and "***" in done.err

    def crash(*_, **__):
        raise RuntimeError(f"lost {SECRET}")

    monkeypatch.setattr("factory.plugins.pack_entries", crash)
    done = factory("domains", "list")
    [file] = (home.root / "logs").glob("crash-*.txt")
    assert done.code == 70 and SECRET not in done.err + file.read_text() and "lost ***" in file.read_text()


def test_the_command_in_run_json_holds_no_secret(monkeypatch):
    from factory.pipeline.record import command_line

    monkeypatch.setenv("SITE_TOKEN", SECRET)
    assert command_line(["factory", "build", "--set", f"x={SECRET}"]) == "factory build --set 'x=***'"


def test_a_worker_that_fails_logs_and_tells_no_secret(tmp_path, monkeypatch):
    job = {"role": "stage", "step": "01-x", "kind": SECRET, "stage": "x", "domain": f"pack-{SECRET}", "seed": 0, "precision": "fp32",
           "request": {}, "build": {}, "config": {"kind": SECRET}, "model_dir": "m", "inputs": {}, "fingerprint": "f"}  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    root = Path(__file__).parents[2]
    monkeypatch.setenv("SITE_TOKEN", SECRET)
    done = subprocess.run([sys.executable, "-m", "factory.pipeline.worker", str(tmp_path / "job.json")], cwd=root, capture_output=True, text=True, timeout=300)  # fmt: skip
    told = "".join(path.read_text() for path in tmp_path.iterdir() if path.name != "job.json")
    assert done.returncode != 0 and told and "***" in done.stderr
    assert SECRET not in done.stdout + done.stderr + told


def test_verifier_workers_get_no_secret(monkeypatch):
    from factory.rewards.pool_process import worker_environment

    monkeypatch.setenv("SITE_TOKEN", SECRET)
    monkeypatch.setenv("SITE_API_KEY", SECRET)
    assert SECRET not in worker_environment().values()


def test_workers_are_offline_and_send_no_telemetry_unless_asked():
    env = worker_env({"WANDB_MODE": "online"}, threads=1, online=False, num_gpus=0)
    assert {**NO_TELEMETRY, **OFFLINE}.items() <= env.items() and env["DO_NOT_TRACK"] == env["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not OFFLINE.keys() & worker_env({}, threads=1, online=True, num_gpus=0).keys()
