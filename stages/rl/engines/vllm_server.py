"""A vLLM server of our own on this machine: its command, its environment, and a watcher that starts it again when it dies.

vLLM pins its own torch and transformers, so it lives in another environment; only its Python is named here. A restarted server
starts on the newest weights (`serve`), so that a death at any moment costs time and nothing else.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from factory.config.schema import VllmConfig
from factory.errors import ConfigError, TrainingError
from factory.registry.home import Home
from factory.stages.rl.engines.vllm_api import BASE_NAME, ServerGone, VllmApi

log = logging.getLogger(__name__)

PYTHON_ENV = "FACTORY_VLLM_PYTHON"
LOG_FILE = "server.log"
POLL_S = 0.5
_CHILD = Path(__file__).with_name("vllm_child.py")
_OF_THE_TRAINER = ("PYTHON", "TORCHELASTIC_", "DS_", "ACCELERATE_", "VIRTUAL_ENV", "PMI_", "NCCL_ASYNC")
_OF_A_RANK = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def vllm_python(settings: VllmConfig, env: Mapping[str, str] | None = None) -> Path:
    """Python of vLLM's environment: the setting, else $FACTORY_VLLM_PYTHON, else FACTORY_HOME/vllm/bin/python. It may not exist."""
    env = os.environ if env is None else env
    named = settings.python or env.get(PYTHON_ENV, "")
    return Path(named).expanduser().absolute() if named else Home.find(env).root / "vllm" / "bin" / "python"


@dataclass(frozen=True)
class Served:
    """What a server starts on."""

    model: Path
    """Folder of full weights."""
    dtype: str
    """`float32` or `bfloat16`."""
    max_len: int
    """Longest sequence, tokens."""
    logprobs_mode: str
    adapter: tuple[str, Path] | None = None
    """Name and folder of the LoRA adapter."""
    adapter_rank: int = 0
    """Highest rank an adapter will have; 0: none will come."""


def server_command(python: Path, served: Served, settings: VllmConfig, port: int, *, on_gpu: bool) -> list[str]:
    """The server's command line. Not `vllm serve`: with the CPU build's package name that command does not start (0.32.0)."""
    command = [
        str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(served.model), "--served-model-name", BASE_NAME,
        "--host", "127.0.0.1", "--port", str(port), "--dtype", served.dtype, "--max-model-len", str(served.max_len),
        "--logprobs-mode", served.logprobs_mode, "--generation-config", "vllm",
    ]  # fmt: skip
    if on_gpu:
        command += [
            "--gpu-memory-utilization",
            str(settings.gpu_memory_share),
            "--tensor-parallel-size",
            str(settings.tensor_parallel),
        ]
        command += ["--enable-sleep-mode"] if settings.sleep else []
    else:
        # 0.32.0 on CPU dies when a prompt with a seed is read in parts: it asks the generator for an offset that only a GPU's has.
        command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(8192, served.max_len)), "--enforce-eager"]
    if served.adapter_rank:
        # vLLM takes only these sizes.
        size = next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= served.adapter_rank), served.adapter_rank)
        command += ["--enable-lora", "--max-lora-rank", str(size), "--max-loras", "1", "--max-cpu-loras", "2"]
    if served.adapter is not None:
        command += ["--lora-modules", f"{served.adapter[0]}={served.adapter[1]}"]
    return [*command, *settings.arguments]


def server_environment(env: Mapping[str, str], *, threads: int) -> dict[str, str]:
    """The trainer's variables without what describes its own Python and ranks, and with vLLM's switches."""
    kept = {key: value for key, value in env.items() if not key.startswith(_OF_THE_TRAINER) and key not in _OF_A_RANK}
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", **kept,
        "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1", "VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }  # fmt: skip


class VllmServer:
    """Starts the server, and starts it again when it dies, at most `settings.restarts` times.

    Args:
        folder: for its log. threads: OpenMP threads of the server on CPU.
    """

    def __init__(self, settings: VllmConfig, folder: Path, *, threads: int, on_gpu: bool) -> None:
        self._settings, self._folder, self._threads, self._on_gpu = settings, folder, threads, on_gpu
        self._python = vllm_python(settings)
        if not self._python.is_file():
            raise ConfigError(
                f"engine=vllm: there is no {self._python}. `factory doctor` prints how to set vLLM's environment up; "
                f"then name its Python with launch.vllm.python or ${PYTHON_ENV}."
            )
        self._port = _free_port()
        self.api = VllmApi(f"http://127.0.0.1:{self._port}", settings.request_timeout_s)
        self.restarts = 0
        self.fatal = ""
        """Why there will be no server any more; empty while there is hope."""
        self._served: Served | None = None
        self._version: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = threading.Event()
        self._is_closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="vllm-watcher", daemon=True)

    @property
    def log_path(self) -> Path:
        """Everything the server printed, all its lives together."""
        return self._folder / LOG_FILE

    def serve(self, served: Served, version: int) -> None:
        """What a (re)started server has: the newest weights and their number. The first call starts it."""
        self._served, self._version = served, version
        if not self._watcher.is_alive():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._start()
            self._watcher.start()

    def wait_ready(self) -> None:
        """Return when the server answers with the newest weights.

        Raises:
            TrainingError: it died too often, or did not come up in `ready_timeout_s`.
        """
        deadline = time.monotonic() + self._settings.ready_timeout_s
        while not self._is_ready.wait(POLL_S):
            if self.fatal or time.monotonic() > deadline:
                reason = self.fatal or f"did not come up within launch.vllm.ready_timeout_s={self._settings.ready_timeout_s:g} s"
                raise TrainingError(f"rl: the vLLM server {reason}. Its last words:\n{self.last_words()}")

    def kill(self, life: int) -> None:
        """End a server that hangs; the watcher starts the next. Nothing when that was done since `restarts` was `life`."""
        if self.restarts != life:
            return
        self._is_ready.clear()
        self._end_process()

    def close(self) -> None:
        """End the server and everything it started."""
        self.fatal = self.fatal or "was closed"
        self._is_closing.set()
        self._is_ready.clear()
        self._end_process()
        if self._watcher.is_alive():
            self._watcher.join(timeout=30)
        self._end_process()

    def _start(self) -> None:
        assert self._served is not None, "serve() comes first"
        command = server_command(self._python, self._served, self._settings, self._port, on_gpu=self._on_gpu)
        environment = server_environment(os.environ, threads=self._threads)
        with self.log_path.open("ab") as output:
            output.write(f"\n--- start {self.restarts + 1}: {' '.join(command)}\n".encode())
            output.flush()
            self._process = subprocess.Popen(
                [sys.executable, str(_CHILD), str(os.getpid()), *command], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip

    def _watch(self) -> None:
        """Until closed: tell when the server is ready, and start it again when it is dead."""
        while not self._is_closing.wait(POLL_S):
            process = self._process
            if process is not None and process.poll() is None:
                if not self._is_ready.is_set() and self.api.is_up() and self._has_its_version():
                    self._is_ready.set()
                continue
            self._is_ready.clear()
            self._end_process()
            if self.restarts >= self._settings.restarts:
                times = self.restarts + 1
                self.fatal = f"died {times} time{'s' if times > 1 else ''} (launch.vllm.restarts={self._settings.restarts})"
                return
            self.restarts += 1
            log.warning(
                "the vLLM server died; start %d of %d follows. Log: %s", self.restarts, self._settings.restarts, self.log_path
            )
            self._start()

    def _has_its_version(self) -> bool:
        try:
            if self._version is not None:
                self.api.set_weight_version(self._version)
        except (ServerGone, TrainingError) as err:
            log.warning("the vLLM server answers, but does not take the number of its weights yet: %s", err)
            return False
        return True

    def _end_process(self) -> None:
        """Kill the whole session of the server; it may be dead already, its children not."""
        process = self._process
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            log.debug("the session of the vLLM server %d is gone", process.pid)
        process.wait()

    def last_words(self, lines: int = 12) -> str:
        """The end of the log, and where the whole of it is."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.is_file() else ""
        told = [line.rstrip() for line in text.splitlines() if line.strip()]
        return "\n".join([*told[-lines:], f"The whole log: {self.log_path}"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
