"""The Dockerfile and the Apptainer definition, read as text (no container program is needed), and the wheel that the image would get."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from factory.launch.kubernetes import HOME, USER

ROOT = Path(__file__).parents[2]
TARGETS = ("cpu", "cuda")


def stages():
    """name -> its instructions as (word, rest); lines that go on are joined, comments left out."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    found, current = {}, ""
    for line in filter(None, (line.strip() for line in text.replace("\\\n", " ").splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            current = rest.split(" AS ")[1]
            found[current] = []
        if current:
            found[current].append((word, " ".join(rest.split())))
    return found


def values(stage, word):
    return [rest for other, rest in stages()[stage] if other == word]


def test_the_images_that_are_promised_are_there():
    assert set(TARGETS) <= set(stages())
    for word in {word for rows in stages().values() for word, _ in rows}:
        assert word in {"FROM", "ARG", "RUN", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}, word


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_factory_as_an_ordinary_user(target):
    rows = stages()[target]
    assert values(target, "ENTRYPOINT") == ['["factory"]']
    assert values(target, "USER") == [f"{USER}:{USER}"], "a number, so that Kubernetes can see that it is not root"
    after = rows[[word for word, _ in rows].index("USER") + 1 :]
    assert {word for word, _ in after} == {"WORKDIR", "ENTRYPOINT", "CMD"}, (
        "nothing is installed by the user, so nothing can be changed by it"
    )
    assert f"useradd --uid {USER}" in " ".join(values(target, "RUN")) and f"-o factory -g factory {HOME}" in " ".join(
        values(target, "RUN")
    )
    assert f"FACTORY_HOME={HOME} " in values(target, "ENV")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_code_comes_after_its_dependencies_and_in_a_layer_of_its_own(target):
    copies = values(target, "COPY")
    assert copies[0].startswith("pyproject.toml constraints.txt ") and copies[1].startswith("--from=wheel ")
    runs = values(target, "RUN")
    pinned = [run for run in runs if "-r /opt/build/requirements.txt" in run]
    assert len(pinned) == 1 and "-c /opt/build/constraints.txt" in pinned[0]
    assert "--no-deps" in runs[-1] and runs.index(pinned[0]) < len(runs) - 1


@pytest.mark.parametrize("stage", [*TARGETS, "wheel"])
def test_layers_are_small_and_nothing_secret_or_unpinned_goes_in(stage):
    for run in values(stage, "RUN"):
        assert len(re.findall(r"pip (install|wheel) ", run)) == run.count("--no-cache-dir"), run
        assert "apt-get install" not in run or ("--no-install-recommends" in run and "rm -rf /var/lib/apt/lists" in run)
        assert not re.search(r"curl|wget|\| *(ba)?sh\b|chmod +-?R? *777|sudo", run), run
    everything = " ".join(f"{word} {rest}" for word, rest in stages()[stage])
    assert not re.search(r"(?i)(token|password|secret|api_key|credential)\w*\s*=", everything)
    assert not re.search(r"https?://", everything), "the index is whoever builds the image's choice"
    for source in values(stage, "FROM"):
        assert ":latest" not in source


def test_bases_are_named_with_a_version():
    arguments = dict(re.findall(r"^ARG (\w+_BASE)=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M))
    assert set(arguments) == {"CPU_BASE", "CUDA_BASE"} and all(re.search(r":\d", base) for base in arguments.values())


def test_vllm_has_its_own_environment_in_the_cuda_image_alone():
    assert (
        "/opt/vllm/bin/pip install" in " ".join(values("cuda", "RUN"))
        and "FACTORY_VLLM_PYTHON=/opt/vllm/bin/python" in values("cuda", "ENV")[0]
    )
    assert "vllm" not in str(stages()["cpu"]).lower()


def test_the_apptainer_file_is_of_the_same_image():
    text = (ROOT / "templates" / "containers" / "factory.def").read_text()
    heads = dict(re.findall(r"^(\w+): (.+)$", text, re.M))
    assert heads["From"].split(":")[1] in TARGETS and heads["Bootstrap"] == "docker-daemon"
    sections = re.split(r"^%(\w+)$", text, flags=re.M)[1:]
    scripts = dict(zip(sections[::2], sections[1::2], strict=True))
    for name in ("environment", "runscript", "test"):
        assert subprocess.run(["sh", "-n"], input=scripts[name], text=True).returncode == 0
    assert 'exec /opt/factory/bin/factory "$@"' in scripts["runscript"]
    assert "/opt/factory" in str(stages()["cuda"]) and "/opt/vllm/bin/python" in scripts["test"]


def asked(*extras):
    script = ROOT / "templates" / "containers" / "requirements.py"
    return subprocess.run(
        [sys.executable, str(script), str(ROOT / "pyproject.toml"), *extras], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_requirements_are_those_of_the_package_with_its_extras():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert asked() == sorted(set(project["dependencies"]))
    lines = asked("all")
    assert set(asked()) < set(lines) and not any("domain-factory" in line for line in lines)
    for extra in ("chemistry", "serve"):
        assert set(project["optional-dependencies"][extra]) <= set(lines)
    pinned = {
        re.split(r"[=<>\[;]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {re.split(r"[=<>\[; ]", line)[0].lower().replace("_", "-") for line in lines}
    assert names <= pinned, f"no exact version in constraints.txt: {sorted(names - pinned)}"


def sent():
    """Top-level entries that .dockerignore lets through: it shuts everything out and names what may come."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*" and "**/*.env" in lines and "**/*.key" in lines
    return [line[1:] for line in lines if line.startswith("!")]


def test_what_the_dockerfile_copies_is_sent_to_it():
    for stage in TARGETS:
        for words in values(stage, "COPY"):
            if not words.startswith("--from"):
                for source in words.split()[:-1]:
                    assert (ROOT / source).is_file() and source.split("/")[0] in sent(), source


@pytest.mark.slow
def test_the_wheel_of_what_is_sent_holds_the_packs_and_templates(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="builds the wheel without a network")
    context = tmp_path / "src"
    context.mkdir()
    for name in sent():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, context / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(tmp_path),
        str(context),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (
        "factory/cli/app.py",
        "factory/domains/music/pack.yaml",
        "factory/stages/rl/loop.py",
        "factory/templates/slurm/build.sh.jinja",
    ):
        assert path in names, path
    assert not any(name.startswith("tests/") for name in names)
