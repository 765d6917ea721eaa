"""Estimate, tail of metrics, worker environment, choice of the stage, launch commands: by hand."""

from __future__ import annotations

import pytest

from factory.contracts import ModelFacts, StagePlan
from factory.errors import ModelError, RegistryError
from factory.launch.devices import num_gpus
from factory.launch.environment import worker_env
from factory.launch.local import worker_command
from factory.pipeline import estimate as est
from factory.pipeline.base_step import check_folder
from factory.pipeline.calibration import Factors
from factory.pipeline.finish import choose
from factory.pipeline.tail import MetricsTail

FACTS = ModelFacts("x", "text", num_params=1_000_000, hidden_size=10, num_layers=2, vocab_size=100, context=64)


def test_seconds_by_hand():
    plan = StagePlan("s", "k", 0, num_steps=100, num_tokens=40_000, num_generated_tokens=15_000)
    # 1 + 100 * 0.02 + 6e6 * 40e3 / 40e9 + 2e6 * 15e3 / 15e9 = 1 + 2 + 6 + 2
    assert est.estimate(plan, FACTS, est.CPU_THREAD).seconds == pytest.approx(11.0)
    assert est.estimate(plan, FACTS, est.CPU_THREAD, processes=2).seconds == pytest.approx(7.0)
    # The start of 1 s and the work of 10 s are scaled apart.
    assert est.estimate(plan, FACTS, est.CPU_THREAD, factors=Factors(work=0.5)).seconds == pytest.approx(6.0)
    assert est.estimate(plan, FACTS, est.CPU_THREAD, factors=Factors(start=2.0)).seconds == pytest.approx(12.0)


def test_disk_by_hand():
    def size(role, rank=None, in_place=False):
        return est.disk_bytes(FACTS, precision="bf16", role=role, is_in_place=in_place, adapter_rank=rank)

    assert size("stage") == 2_000_000 + 24 * 1_000_000
    # 2 layers x rank 4 x hidden 10 x 23 = 1840 parameters
    assert size("stage", rank=4) == 1840 * (4 + 24)
    assert (size("base"), size("base", in_place=True), size("eval")) == (4_000_000, 0, 0)


def test_tail_shows_whole_new_rows_and_follows_a_truncation(tmp_path):
    path = tmp_path / "m.jsonl"
    tail = MetricsTail(path)
    assert tail.new_rows() == []
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in tail.new_rows()] == [1, 2]
    path.write_text('{"step": 1}\n')
    assert tail.new_rows() == []
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert [row["step"] for row in tail.new_rows()] == [2]
    assert MetricsTail(path, is_resumed=True).new_rows() == []


def test_workers_are_offline_single_threaded_and_on_the_cpu_unless_told():
    env = worker_env({"HOME": "/h"}, threads=1, online=False, num_gpus=0)
    wanted = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu", "PYTHONHASHSEED": "0", "HOME": "/h"}
    assert {key: env[key] for key in wanted} == wanted
    other = worker_env({}, threads=3, online=True, num_gpus=1)
    assert "HF_HUB_OFFLINE" not in other and "DS_ACCELERATOR" not in other and other["OMP_NUM_THREADS"] == "3"


def test_one_process_is_plain_python_and_more_are_torchrun():
    assert worker_command("m", ["j"], 1)[1:] == ["-m", "m", "j"]
    many = worker_command("m", ["j"], 3)
    assert (
        many[1:3] == ["-m", "torch.distributed.run"]
        and many[many.index("--nproc-per-node") + 1] == "3"
        and many[-3:] == ["-m", "m", "j"]
    )


def test_gpus_are_counted_by_device_files_and_visibility(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert [num_gpus(env, tmp_path) for env in ({}, {"CUDA_VISIBLE_DEVICES": "1"}, {"CUDA_VISIBLE_DEVICES": ""})] == [2, 1, 0]


def _row(stage, validation, control=False):
    return {"stage": stage, "validation": validation, "control": control}


def test_choice_is_by_validation_without_controls_and_the_earlier_on_a_tie():
    rows = [_row("base", 0.2), _row("cpt", 0.6), _row("ctl", 0.9, True), _row("sft", 0.6), _row("rl", None)]
    assert choose(rows) == "cpt"
    with pytest.raises(RegistryError, match="no stage has a validation value"):
        choose([_row("base", None), _row("ctl", 0.9, True)])


def test_pickled_weights_are_refused_by_name(tmp_path):
    for name in ("config.json", "tokenizer_config.json", "pytorch_model.bin"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"no \*.safetensors weights. It holds pytorch_model.bin"):
        check_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer_config.json"):
        check_folder(tmp_path)
