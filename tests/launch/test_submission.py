"""What is submitted: refused when it cannot work, quoted where it could be misread, without the value of any secret."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.errors import ConfigError, RegistryError
from factory.launch import background, jobs, slurm
from factory.launch.jobs import JobRecord
from factory.launch.submission import Submission, check_env, new_name
from factory.registry.home import Home

ROOT = Path(__file__).parents[2]
BUILD = ("build", "--domain", "music")


def made(**fields):
    return Submission(**{"command": BUILD, "home": Path("/shared/home"), "name": "t"} | fields)


def script(log_folder=Path("/shared/home/jobs/t"), **fields):
    return slurm.script(made(**fields), log_folder=log_folder)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"command": ("models", "gc")}, "submit runs builds"),
        ({"name": "Bad Name"}, "--name is 'Bad Name'"),
        ({"nodes": 0}, "--nodes is 0; want 1 or more"),
        ({"gpus": 4, "processes": 2}, "one process drives one GPU"),
        ({"wall": "tomorrow"}, "--time is 'tomorrow'"),
        ({"container": "docker", "image": "x"}, "--container is 'docker'"),
        ({"container": "pyxis"}, "needs --image"),
        ({"image": "x.sif"}, "needs --image"),
        ({"env": ("TOKEN=abc",)}, "values are not written into job scripts"),
        ({"partition": "a b"}, "--partition is 'a b'"),
        ({"partition": "a;rm"}, "--partition is 'a;rm'"),
        ({"memory": "64G\n#SBATCH --uid=0"}, "--memory"),
        ({"extra": ("constraint=h100",)}, "--extra"),
        ({"extra": ("--comment=x\nrm -rf /",)}, "--extra"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_queued(fields, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        made(**fields)


def test_the_script_says_everything_that_was_asked_for_and_is_valid_bash(tmp_path):
    text = script(
        nodes=2, gpus=8, processes=8, cpus=4, memory="512G", wall="24:00:00", partition="h100", account="lab", qos="high",
        extra=("--constraint=nvlink",), env_file="/home/me/secrets.env", grace_s=300,
    )  # fmt: skip
    for line in ("--nodes=2", "--gpus-per-node=8", "--cpus-per-task=32", "--mem=512G", "--time=24:00:00", "--partition=h100",
                 "--account=lab", "--qos=high", "--constraint=nvlink", "--signal=USR1@300", "--requeue", "--open-mode=append"):  # fmt: skip
        assert f"#SBATCH {line}\n" in text, line
    assert "set -a; . /home/me/secrets.env; set +a" in text and "--set launch.processes=16" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


@pytest.mark.parametrize(
    ("told", "srun", "ends", "again"), [("75", 143, 75, True), ("0", 0, 0, False), ("4", 143, 4, False), ("", 137, 137, False)]
)
def test_the_first_node_says_how_the_build_ended(tmp_path, told, srun, ends, again):
    """srun gives the worst code of all nodes, and it ends the others when the first one leaves."""
    programs = tmp_path / "bin"
    programs.mkdir()
    write = f'echo {told} > "$FACTORY_EXIT_FILE"' if told else ":"
    for name, text in (("srun", f"{write}; exit {srun}"), ("scontrol", f'echo "$@" > {tmp_path}/asked'), ("sleep", ":")):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    env = {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    ended = subprocess.run(["bash"], input=script(log_folder=tmp_path), text=True, capture_output=True, env=env)
    assert ended.returncode == ends and f"factory ended with {ends} on" in ended.stdout, ended.stderr
    assert (tmp_path / "asked").exists() == again and not list(tmp_path.glob("exit-*"))


@pytest.mark.parametrize(
    ("fields", "program"),
    [
        ({}, "factory node --"),
        ({"container": "apptainer", "image": "/images/f.sif", "gpus": 1}, "apptainer exec --nv --bind /shared/home /images/f.sif factory node --"),
        ({"container": "pyxis", "image": "ghcr.io/lab/factory:1"}, "--container-image=ghcr.io/lab/factory:1 --container-mounts=/shared/home:/shared/home"),
        ({"container": "venv", "image": "/opt/factory"}, 'export PATH=/opt/factory/bin:"$PATH"'),
    ],
)  # fmt: skip
def test_every_container_style_has_its_command(fields, program):
    text = script(**fields)
    assert program in text and subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_words_reach_the_build_as_they_were_typed(tmp_path):
    words = ("build", "--domain", "music", "--set", 'pack.title=it\'s a $HOME `date` "x"', "--data", "my data/ä")
    text = script(command=words)
    line = next(line for line in text.splitlines() if "factory node" in line)
    assert tuple(shlex.split(line)) == ("factory", "node", "--", *words)


def test_one_seed_is_the_builds_seed_and_a_check_takes_no_settings_of_a_build():
    assert made(seeds=(5,), processes=2).words == (*BUILD, "--set", "launch.processes=2", "--seed", "5")
    assert made(command=("doctor", "--cluster"), nodes=2).job_command == ("node", "--", "doctor", "--cluster")
    assert "--array" not in script(seeds=(5,)) and "--seed 5" in script(seeds=(5,))


def test_an_array_has_a_seed_and_a_job_name_for_each_task():
    text = script(seeds=(3, 5, 8))
    assert "#SBATCH --array=0-2" in text and "seeds=(3 5 8)" in text and '--seed "${seeds[$SLURM_ARRAY_TASK_ID]}"' in text
    assert 'FACTORY_JOB="t-${SLURM_ARRAY_TASK_ID}"' in text and "%x-%A-%a.log" in text


def test_secrets_are_passed_on_by_name_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hush-hush-123")
    seen = []
    monkeypatch.setattr(slurm, "_run", lambda *words, env=None: seen.append(words) or "42\n")
    job = made(env=("MY_TOKEN",))
    check_env(job.env, os.environ)
    assert slurm.submit(slurm.script(job, log_folder=tmp_path), tmp_path / "build.sh", os.environ, job.env) == "42"
    assert "hush" not in (tmp_path / "build.sh").read_text() and "hush" not in str(seen) and "MY_TOKEN" in str(seen)
    with pytest.raises(ConfigError, match="NO_SUCH, which are not set here"):
        check_env(("NO_SUCH",), os.environ)


def test_records_are_listed_and_found_by_name_or_number(tmp_path):
    home = Home(tmp_path)
    for number, name in (("7", "first"), ("8", "second")):
        jobs.record(home, JobRecord(name, "slurm", number, BUILD, "x"))
    (tmp_path / "jobs" / "broken").mkdir()
    (tmp_path / "jobs" / "broken" / "job.json").write_text("{")
    assert {job.name for job in jobs.records(home)} == {"first", "second"}
    assert jobs.find(home, "8").name == "second" and jobs.find(home, "first").command == BUILD
    with pytest.raises(RegistryError, match="Did you mean 'second'"):
        jobs.find(home, "secnd")
    assert new_name(BUILD).startswith("factory-music-") and new_name(BUILD) != new_name(BUILD)


def factory(*words, home):
    return subprocess.run(
        [sys.executable, "-c", "from factory.cli.app import main; main()", *words], text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FACTORY_HOME": str(home)},
    )  # fmt: skip


def test_a_local_job_runs_in_the_background_is_listed_and_leaves_a_log(tmp_path):
    ended = factory("submit", "--name", "bad", "--json", "--", "build", "--domain", "nonexistent", home=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["name"] == "bad"
    for _ in range(200):
        [row] = json.loads(factory("jobs", "list", "--json", home=tmp_path).stdout)
        if row["state"] == "ended":
            break
        time.sleep(0.2)
    assert row["state"] == "ended" and "nonexistent" in factory("jobs", "logs", "bad", home=tmp_path).stdout
    again = factory("submit", "--name", "bad", "--", "build", "--domain", "music", home=tmp_path)
    assert again.returncode == 8 and "was submitted already" in again.stderr
    assert factory("jobs", "resume", "bad", home=tmp_path).returncode == 0
    assert factory("jobs", "cancel", "bad", home=tmp_path).returncode == 0


def test_a_process_number_that_was_given_to_another_is_not_taken_for_the_job():
    number = f"{os.getpid()}.{background._born(os.getpid())}"
    assert background.state(number) == "running" and background.state(f"{os.getpid()}.1") == "ended" == background.state("0.")


def test_dry_run_shows_the_script_and_queues_nothing(tmp_path):
    ended = factory("submit", "--cluster", "slurm", "--name", "t", "--nodes", "2", "--dry-run", "--", *BUILD, home=tmp_path)
    assert "#SBATCH --nodes=2" in ended.stdout and not (tmp_path / "jobs").exists()
    assert factory("submit", "--cluster", "slrm", "--dry-run", "--", *BUILD, home=tmp_path).returncode == 2
