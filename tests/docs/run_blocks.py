"""Runs the code blocks of one page in order, in a folder that holds what the page's words speak of.

A command that cannot run here says so where readers see it: `# needs: gpu, network` at its end, or `<!-- needs: slurm -->` above the
block. Everything else is run: each shell line in its turn (a server in the background until the page ends), each Python block, and a
YAML, JSON or Python block that begins with `# NAME.yaml` is first written to that file for the lines after it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import code_blocks
from code_blocks import ROOT, Block

SHELL = ("bash", "sh", "shell", "console", "")
NEEDS: dict[str, Callable[[], bool] | None] = {
    "network": None, "gpu": None, "weights": None, "your files": None, "a long run": None, "a trained model": None, "a second machine": None,
    "slurm": None, "kubernetes": None, "docker": None, "apptainer": None, "skypilot": None, "llama.cpp": None, "vllm": None,
    "lm-eval": None, "inspect_ai": None, "a judge": None, "a key": None,
    "mlflow": lambda: find_spec("mlflow") is not None, "wandb": lambda: find_spec("wandb") is not None,
    "trackio": lambda: find_spec("trackio") is not None, "model-signing": lambda: find_spec("model_signing") is not None,
    "reasoning-gym": lambda: find_spec("reasoning_gym") is not None,
}  # fmt: skip
"""What a command may need that a plain checkout lacks -> whether it is here; None: it is never looked for, and other tests drive it."""
MARK = re.compile(r"#.*?\bneeds: (.+?)\s*$")
LONGEST_S = 1800.0
"""Seconds after which a command is said to hang."""
SMALL = ROOT / "tests" / "docs" / "small_factory.py"
ELSEWHERE = {"docs/write-a-pack.md": "tests/plugins/test_tutorial.py"}
"""Pages whose blocks another test runs, line by line."""


@dataclass(frozen=True)
class Line:
    """One command of a shell block."""

    block: Block
    text: str
    needs: tuple[str, ...]

    @property
    def is_runnable(self) -> bool:
        """True when nothing is missing here."""
        return all((look := NEEDS[need]) is not None and look() for need in self.needs)

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


def needs_of(text: str) -> tuple[str, ...]:
    """Words of a mark; () without one. Raises KeyError for a word that is not in `NEEDS`."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    unknown = [word for word in words if word not in NEEDS]
    if unknown:
        raise KeyError(f"`needs: {', '.join(unknown)}`: want some of {', '.join(NEEDS)}")
    return words


def lines(block: Block) -> Iterator[Line]:
    """The commands of a shell block; continued lines are one, comments alone none."""
    for line in re.sub(r"\\\n\s*", " ", block.text).split("\n"):
        line = line.strip().removeprefix("$ ")
        if line and not line.startswith("#"):
            marked = MARK.search(line)
            yield Line(block, line, needs_of(marked[1]) if marked else needs_of(block.mark))


def file_of(block: Block) -> str | None:
    """The file that a block says it is in its first line, such as `# chain.yaml`."""
    found = re.match(r"# ([\w./-]+\.(?:yaml|py|jsonl?))\b", block.text)
    return found[1] if found and block.language not in SHELL else None


@dataclass
class Scene:
    """A folder to stand in, the words that stand for names, and the servers that were started."""

    folder: Path
    environment: Mapping[str, str]
    words: Callable[[], Mapping[str, str]]
    """What a page writes for a name that it cannot know, such as `MODEL` -> the name here, by now."""
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    def run(self, path: str) -> int:
        """Run the page; how many commands and Python blocks ran. Raises AssertionError at the first that fails."""
        here, count = self.folder, 0
        try:
            for block in (one for one in code_blocks.blocks() if one.path == path):
                name = file_of(block)
                if name is not None:
                    (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (self.folder / name).write_text(block.text + "\n")
                if block.language == "python" and Line(block, "", needs_of(block.mark)).is_runnable:
                    self.shell(f"python - <<'BLOCK'\n{block.text}\nBLOCK", here, str(block))
                    count += 1
                for line in lines(block) if block.language in SHELL else ():
                    if line.is_runnable:
                        here, count = self._line(line, here), count + 1
        finally:
            self.close()
        return count

    def close(self) -> None:
        """Stop the servers."""
        for server in self.servers:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        self.servers.clear()

    def _line(self, line: Line, here: Path) -> Path:
        text = self._named(re.sub(r"\s+#.*$", "", line.text))
        if re.match(r"factory serve\b", text):
            self._serve(text, here)
            return here
        here = self.shell(text, here, str(line))
        if text.startswith("factory submit -- "):
            self.shell(
                "for job in $FACTORY_HOME/jobs/*/; do factory jobs cancel $(basename $job); done",
                here,
                "cancel what was submitted",
            )
        return here

    def _named(self, text: str) -> str:
        """The line with the page's placeholders as the names here."""
        for word, name in self.words().items():
            text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", lambda _, name=name: name, text)
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}").replace("--port 8000", f"--port {self._free_port()}")

    def _free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1] if not self.servers else self.port
        return self.port

    def _serve(self, text: str, here: Path) -> None:
        log = self.folder / "server.log"
        with log.open("wb") as out:
            self.servers.append(
                subprocess.Popen(["bash", "-c", f"exec {text}"], cwd=here, env=dict(self.environment), stdout=out, stderr=out)
            )
        for _ in range(int(LONGEST_S)):
            assert self.servers[-1].poll() is None, f"$ {text}\n{log.read_text()}"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        raise AssertionError(f"$ {text}\ndoes not answer\n{log.read_text()}")

    def shell(self, text: str, here: Path, told: str) -> Path:
        """Run it as a line of bash that reads "hello" and an end from stdin; the folder it left the shell in."""
        kept = self.folder / ".pwd"
        command = ["bash", "-c", f"set -e -o pipefail\n{text}\npwd > {kept}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, cwd=here, env=dict(self.environment), start_new_session=True, **pipes) as process:
            try:
                said = process.communicate(b"hello\n", timeout=LONGEST_S)[0].decode(errors="replace")[-6000:]
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert process.returncode == 0, f"{told}\n$ {text}\nended with {process.returncode}\n{said}"
        return Path(kept.read_text().strip())


def programs(folder: Path) -> Path:
    """A folder with `factory` (small), `python`, and `my-model`, which prints answers as a user's own program would."""
    folder.mkdir(parents=True)
    texts = {
        "factory": f'exec {sys.executable} {SMALL} {folder / "door"} "$@"',
        "python": f'exec {sys.executable} "$@"',
        "my-model": "cat answers.jsonl",
    }
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


@contextmanager
def running(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """The process behind `factory` of that folder, and all that it started, ended at the end."""
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(SMALL), str(folder / "door")],
            env=dict(environment),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        for _ in range(int(LONGEST_S)):
            assert process.poll() is None, log.read_text()
            if (folder / "door").exists():
                break
            time.sleep(1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(home: Path, bin_folder: Path) -> dict[str, str]:
    """A user's environment: our programs first, a home of its own, no network for the hub, one thread."""
    return {
        **os.environ, "HOME": str(home), "FACTORY_HOME": str(home / ".factory"), "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TERM": "dumb",
    }  # fmt: skip
