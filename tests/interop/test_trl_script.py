"""Stages as TRL scripts: what is refused, settings in TRL's words, and real scripts of real runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from factory.errors import ConfigError, RegistryError
from factory.interop.trl_script import find_stage, write_script
from factory.interop.trl_settings import grpo_settings
from factory.stages.rl.config import RlConfig

ROOT = Path(__file__).parents[2]
BUILD = {"seed": 0, "precision": "fp32", "launch": {"processes": 1}, "domain": "timeseries"}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "resolved.yaml").write_text(yaml.safe_dump({"stages": {"sft": {"kind": "sft"}, "cpt": {"kind": "cpt"}}}))
    return tmp_path / "run"


def test_what_no_script_can_be_written_of_is_told(run):
    with pytest.raises(ConfigError, match="wants RUN:STAGE"):
        find_stage("sft")
    with pytest.raises(RegistryError, match="is no run folder"):
        find_stage("/nowhere:sft")
    with pytest.raises(ConfigError, match="stage 'cpt' is cpt; scripts are written of sft and rl stages: sft"):
        find_stage(f"{run}:cpt")
    with pytest.raises(RegistryError, match="'sft' has not finished"):
        find_stage(f"{run}:sft")


def grpo(preset, **more):
    return grpo_settings("r", "rl", RlConfig(preset=preset, **more), BUILD)


def test_presets_in_trls_words():
    assert [grpo("grpo")[0][key] for key in ("loss_type", "scale_rewards", "eps_low", "eps_high", "beta")] == [
        "grpo",
        "group",
        0.2,
        0.2,
        0.0,
    ]
    assert [grpo("dr_grpo")[0][key] for key in ("loss_type", "scale_rewards")] == ["dr_grpo", "none"]
    settings, notes = grpo("dapo")
    assert (settings["loss_type"], settings["eps_high"], settings["mask_truncated"]) == ("dapo", 0.28, True)
    assert any("supply.refill" in note for note in notes) and any("reward.overlong" in note for note in notes)
    assert grpo("gspo")[0]["level"] == "sequence"
    assert grpo("grpo", pieces={"kl": {"k3": {"coef": 0.04}}})[0]["beta"] == 0.04
    with pytest.raises(ConfigError, match="TRL has no setting for loss"):
        grpo("grpo", pieces={"loss": {"mirror_descent": {"tau": 0.1}}, "advantage": "group_mean"})


def test_a_piece_that_the_script_leaves_out_is_named():
    assert all(note.split(": ")[1] for note in grpo("dapo_oversample")[1] if note.startswith("left out"))
    assert SimpleNamespace(**grpo("dapo_oversample")[0]).batch == 16 * 8


def build(home: Path, *words: str) -> Path:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FACTORY_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", "from factory.cli.app import main; main()", "build", "--run", "r", "--json", *words]
    small = ["-s", "eval={samples: 4, validation_samples: 2, max_new_tokens: 4, blind: false, probes: false}"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return home / "runs" / "r"


def trained(folder: Path, **more: str) -> str:
    """Run the script where it stands, without factory's folder on the path unless `PYTHONPATH` is given."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"} | more
    done = subprocess.run([sys.executable, "train.py", "out"], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


SFT = [
    "-s",
    "stages.cpt=null",
    "-s",
    "stages.rl=null",
    "-s",
    "stages.sft.lessons=24",
    "-s",
    "stages.sft.epochs=2",
    "-s",
    "stages.sft.batch_size=8",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["-d", "pathology"],
        ["-d", "biology", "-s", "stages.sft.optim.micro_batch_size=4"],
        [
            "-d",
            "pathology",
            "-s",
            "stages.sft.adapter={kind: lora, rank: 4}",
            "-s",
            "stages.sft.lessons=20",
            "-s",
            "stages.sft.optim={lr: 0.02, warmup_steps: 1}",
        ],
    ],
    ids=["vl", "text-micro-batches", "lora-and-a-short-last-batch"],
)
def test_the_sft_script_reproduces_the_stages_loss_curve(words, tmp_path):
    pytest.importorskip("trl")
    run = build(tmp_path / "home", *SFT, *words)
    assert write_script(f"{run}:sft", tmp_path / "script")["notes"] == []
    said = trained(tmp_path / "script")
    found = json.loads((tmp_path / "script" / "out" / "losses.json").read_text())
    wanted = [json.loads(line)["loss"] for line in (tmp_path / "script" / "losses.jsonl").read_text().splitlines()]
    assert len(found) == len(wanted) >= 5 and wanted[0] - wanted[-1] > 0.1, "the stage learned"
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 1e-4, said


@pytest.mark.slow
def test_the_rl_script_runs_with_our_verifiers(tmp_path):
    pytest.importorskip("trl")
    words = ["-d", "biology", "-s", "stages.cpt=null", *SFT[4:], "-s", "stages.rl.num_steps=1", "-s", "stages.rl.samples=8",
             "-s", "stages.rl.prompts_per_step=2", "-s", "stages.rl.group_size=4", "-s", "stages.rl.max_new_tokens=16"]  # fmt: skip
    run = build(tmp_path / "home", *words)
    write_script(f"{run}:rl", tmp_path / "script")
    trained(tmp_path / "script", STEPS="2", PYTHONPATH=str(ROOT))
    rewards = json.loads((tmp_path / "script" / "out" / "rewards.json").read_text())
    assert len(rewards) == 2 and all(0.0 <= reward <= 1.0 for reward in rewards)
