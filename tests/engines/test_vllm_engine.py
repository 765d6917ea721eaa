"""The vLLM engine against a scripted server: what is sent, and what becomes of deaths, silence, wrong weights and strange answers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from factory.config.schema import VllmConfig
from factory.contracts import Message, Sample
from factory.errors import ConfigError, TrainingError
from factory.stages.models.codec import Encoded
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.engines.vllm import VllmEngine, VllmPlace
from factory.stages.rl.engines.vllm_server import VllmServer
from factory.stages.rl.rollouts import Request, Sampling

HERE = Path(__file__).parent
VOCABULARY = 8


class Uniform(torch.nn.Module):
    """A policy that finds all of 8 tokens equally likely."""

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, VOCABULARY))


class OneProcess:
    """The parts of a Learner that the engine uses."""

    rank, world_size, is_main, max_context, device = 0, 1, True, 64, torch.device("cpu")

    def __init__(self):
        tokenizer = SimpleNamespace(get_vocab=lambda: {str(i): i for i in range(VOCABULARY)}, all_special_ids=[0, 2])
        codec = SimpleNamespace(tokenizer=tokenizer, eos_ids=(2, 0), collate=self.collate)
        self.model = Uniform()
        self.loaded = SimpleNamespace(codec=codec, earlier=(), base=Path("base-folder"), adapter=False)

    def collate(self, rows, *, device):
        ids = torch.tensor([rows[0].ids])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": torch.arange(ids.shape[1])[None]}

    def save_model(self, folder):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text('{"tie_word_embeddings": false}')

    def gather(self, value):
        return [value]

    def wait(self):
        """Alone."""

    def autocast(self):
        return contextlib.nullcontext()


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """scripted(script, **settings) -> (engine, calls()); the engine is closed at the end."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "scripted_server.py"} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("SCRIPTED_FOLDER", str(tmp_path))
    made = []

    def make(script=None, temperature=1.0, **settings):
        (tmp_path / "script.json").write_text(json.dumps(script or {}))
        (tmp_path / "calls.jsonl").write_text("")
        config = VllmConfig(**{"python": str(python), "ready_timeout_s": 60.0, "request_timeout_s": 30.0} | settings)
        made.append(VllmEngine(OneProcess(), VllmPlace(tmp_path / "vllm", config, "fp32", temperature)))
        return made[-1], lambda: [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]

    yield make
    for engine in made:
        engine.close()


def weights(engine, version):
    return WeightSource(version, engine._learner.model, adapter=False)


def requests(num=3):
    samples = [Sample(f"s{i}", "t", (Message("user", "?"),), "x") for i in range(num)]
    return [Request(place, sample, Encoded([3, 4, 5 + place], [0, 0, 0])) for place, sample in enumerate(samples)]


SAMPLING = Sampling(group_size=4, max_new_tokens=6)


def test_groups_come_back_whole_and_every_prompt_has_its_own_seed(scripted):
    engine, calls = scripted()
    assert engine.sync(weights(engine, 5)) == 5
    found = list(engine.generate(requests(), SAMPLING, seed=11))
    assert sorted((r.place, r.index) for r in found) == [(p, i) for p in range(3) for i in range(4)]
    assert all(r.ids == [3, 4, 2] and r.finished and r.version == 5 and len(r.logprobs) == 3 for r in found)
    list(engine.generate(requests(), SAMPLING, seed=11))
    bodies = [row["body"] for row in calls() if row.get("path") == "/v1/completions" and "prompt_logprobs" not in row["body"]]
    seeds = [{tuple(body["prompt"]): body["seed"] for body in bodies[start : start + 3]} for start in (0, 3)]
    assert len(set(seeds[0].values())) == 3 and seeds[0] == seeds[1], "the same call asks for the same draws"
    assert all(body["n"] == 4 and body["max_tokens"] == 6 and body["stop_token_ids"] == [2, 0] for body in bodies)


def test_a_request_with_a_seed_of_its_own_keeps_it(scripted):
    engine, calls = scripted()
    engine.sync(weights(engine, 0))
    (request,) = requests(1)
    list(engine.generate([Request(0, request.sample, request.prompt, seed=99)], SAMPLING, seed=1))
    assert calls()[-1]["body"]["seed"] == 99


def test_weights_are_sent_numbered_and_cleared_away(scripted, tmp_path):
    engine, calls = scripted()
    for version in (0, 1, 2):
        engine.sync(weights(engine, version))
        assert [path.name for path in (tmp_path / "vllm").glob("weights-*")] == [f"weights-{version:08d}"]
        assert engine.figures() | {"engine_sync_s": 0} == {
            "engine_version": version, "engine_canary": pytest.approx(0, abs=1e-6), "engine_sync_s": 0, "engine_restarts": 0,
        }  # fmt: skip
    (start,) = [row["start"] for row in calls() if "start" in row]
    assert start[start.index("--model") + 1].endswith("weights-00000000"), "the first weights are those it starts on"
    reloads = [row["body"]["kwargs"]["weights_path"] for row in calls() if row.get("path") == "/collective_rpc"]
    assert [Path(path).name for path in reloads] == ["weights-00000001", "weights-00000002"]
    assert sum(row.get("path") == "/reset_prefix_cache" for row in calls()) == 2, "what was cached of older weights is forgotten"
    engine.close()
    assert not list((tmp_path / "vllm").glob("weights-*"))


def test_a_server_that_dies_while_it_generates_is_started_on_the_newest_weights(scripted, tmp_path):
    # The first completion is the canary's, of version 0; then version 1's; then the second rollout kills it.
    engine, calls = scripted({"/v1/completions": ["ok", "ok", "ok", "die"]})
    engine.sync(weights(engine, 0))
    engine.sync(weights(engine, 1))
    found = list(engine.generate(requests(), SAMPLING, seed=1))
    assert len(found) == 12 and {r.version for r in found} == {1}
    starts = [row["start"] for row in calls() if "start" in row]
    assert [Path(start[start.index("--model") + 1]).name for start in starts] == ["weights-00000000", "weights-00000001"]
    engine.sync(weights(engine, 2))
    assert engine.figures()["engine_restarts"] == 1


def test_a_server_that_dies_while_it_takes_weights_has_them_after_its_restart(scripted):
    engine, calls = scripted({"/collective_rpc": ["die"]})
    engine.sync(weights(engine, 0))
    assert engine.sync(weights(engine, 1)) == 1
    assert sum(row.get("path") == "/collective_rpc" for row in calls()) == 1, "it started on them, nothing is sent twice"


def test_a_silent_server_is_killed_and_started_again(scripted):
    engine, calls = scripted({"/v1/completions": ["ok", "hang"]}, request_timeout_s=2.0)
    engine.sync(weights(engine, 0))
    assert len(list(engine.generate(requests(1), SAMPLING, seed=1))) == 4
    assert sum("start" in row for row in calls()) == 2


def test_a_server_that_keeps_dying_ends_with_its_last_words(scripted):
    engine, calls = scripted({"then": {"/v1/completions": "die"}}, restarts=1)
    with pytest.raises(TrainingError, match=r"(?s)did not answer 2 times in a row.*the script says: die.*server\.log"):
        engine.sync(weights(engine, 0))
    assert sum("start" in row for row in calls()) == 2


def test_a_server_that_never_starts_ends_with_its_last_words(scripted):
    engine, _ = scripted({"start": "die"}, restarts=0)
    with pytest.raises(TrainingError, match=r"(?s)died 1 time \(.*no such model"):
        engine.sync(weights(engine, 0))


def test_a_server_that_answers_500_forever_ends_after_the_tries(scripted):
    engine, _ = scripted({"/v1/completions": ["ok"], "then": {"/v1/completions": "500"}}, restarts=1)
    engine.sync(weights(engine, 0))
    with pytest.raises(TrainingError, match=r"did not answer 2 times in a row; last: /v1/completions answered 500"):
        list(engine.generate(requests(1), SAMPLING, seed=1))


def test_other_logprobs_than_the_policys_stop_the_stage(scripted):
    engine, _ = scripted({"logprob": -2.08})  # a uniform choice of 8 is -2.0794
    with pytest.raises(
        TrainingError, match=r"after update 3 .* differ from the policy's by up to 0\.000558 nats \(allowed: 0\.0001\)"
    ):
        engine.sync(weights(engine, 3))


def test_the_canarys_limit_is_a_setting(scripted):
    engine, _ = scripted({"logprob": -2.08}, canary_nats=1e-3)
    engine.sync(weights(engine, 3))
    assert engine.figures()["engine_canary"] == pytest.approx(5.58e-4, rel=1e-2)


def test_another_number_of_the_weights_is_refused(scripted):
    engine, _ = scripted({"version": "41"})
    with pytest.raises(TrainingError, match="has weights 41, not 3"):
        engine.sync(weights(engine, 3))


def test_a_refusal_is_told_at_once(scripted):
    engine, calls = scripted({"/v1/completions": ["ok", "400"]})
    engine.sync(weights(engine, 0))
    with pytest.raises(TrainingError, match=r"refused /v1/completions \(400\)"):
        list(engine.generate(requests(1), SAMPLING, seed=1))
    assert sum(row.get("path") == "/v1/completions" for row in calls()) == 2, "a refusal is not tried again"


def test_an_answer_without_token_ids_names_the_versions_that_were_run(scripted):
    engine, _ = scripted({"/v1/completions": ["ok", "strange"]})
    engine.sync(weights(engine, 0))
    with pytest.raises(TrainingError, match=r"lacks KeyError\('index'\).*0\.32\.0"):
        list(engine.generate(requests(1), SAMPLING, seed=1))


def test_without_an_environment_the_message_names_the_doctor(scripted, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*/nowhere.*factory doctor.*launch\.vllm\.python"):
        scripted(python=str(tmp_path / "nowhere"))


def test_an_attached_server_is_used_and_left_alone(scripted, tmp_path):
    owner, _ = scripted()
    owner.sync(weights(owner, 0))
    guest = VllmEngine(OneProcess(), VllmPlace(tmp_path / "guest", VllmConfig(url=owner._api.url), "fp32", 1.0))
    assert guest.sync(weights(guest, 7)) == 7 and len(list(guest.generate(requests(1), SAMPLING, seed=1))) == 4
    guest.close()
    assert owner._api.is_up() and owner._api.weight_version() == 7


def test_an_attached_server_that_is_gone_is_told_after_the_tries(tmp_path):
    settings = VllmConfig(url="http://127.0.0.1:9", ready_timeout_s=0.1, restarts=1)
    engine = VllmEngine(OneProcess(), VllmPlace(tmp_path, settings, "fp32", 1.0))
    with pytest.raises(TrainingError, match=r"127\.0\.0\.1:9 did not answer 2 times in a row; last: .*ConnectionRefusedError"):
        engine.sync(weights(engine, 0))


def test_the_server_dies_with_the_training_process(tmp_path):
    """Killed by SIGKILL, the trainer cannot clean up; the program between it and the server does."""
    child = Path(sys.modules["factory.stages.rl.engines.vllm"].__file__).with_name("vllm_child.py")
    server = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    code = (
        "import os, subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, {str(child)!r}, str(os.getpid()), sys.executable, '-c', {server!r}], start_new_session=True); "
        "time.sleep(300)"
    )
    trainer = subprocess.Popen([sys.executable, "-c", code])
    pid = int(_wait_for(lambda: (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""))
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    assert _wait_for(lambda: "gone" if not _is_alive(pid) else "") == "gone"


def _wait_for(find, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := find()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _is_alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_who_waits_for_a_server_is_let_go_when_it_is_closed(tmp_path):
    """Rollouts written in a thread must not hold up the end of a program for `ready_timeout_s`."""
    server = VllmServer(VllmConfig(python=sys.executable, ready_timeout_s=600.0), tmp_path, threads=1, on_gpu=False)
    said = []

    def wait():
        try:
            server.wait_ready()
        except TrainingError as err:
            said.append(str(err))

    waiting = threading.Thread(target=wait)
    waiting.start()
    server.close()
    waiting.join(30)
    assert not waiting.is_alive() and "was closed" in said[0]
