"""A merged model as GGUF through llama.cpp's own converter, and a check that llama.cpp then says the same as transformers.

llama.cpp is not installed by us: FACTORY_LLAMA_CPP names its checkout (with `convert_hf_to_gguf.py`; programs in `build/bin`).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, ModelError

log = logging.getLogger(__name__)
HOME = "FACTORY_LLAMA_CPP"
CONVERTER = "convert_hf_to_gguf.py"
TOLERANCE = 0.1
"""Largest accepted difference of a log-probability, in nats, over the likeliest tokens; half precision moves them by some 0.01."""
PROMPTS = ("The answer is", "1 2 3 4", "A patient was seen because of", "Question: why? Answer:")
"""What both are asked to go on from."""
TOP = 5
CONVERT_S, START_S = 3600, 120


@dataclass(frozen=True)
class LlamaCpp:
    """Where llama.cpp lies."""

    converter: Path
    server: Path | None
    """`llama-server`, for the parity check; None when it was not built."""


def find_llama_cpp(environment: Mapping[str, str] | None = None) -> LlamaCpp:
    """The converter and, when it was built, the server. Raises ConfigError with what to do when there is no converter."""
    env = os.environ if environment is None else environment
    folder = env.get(HOME)
    if not folder:
        raise ConfigError(
            f"GGUF is written by llama.cpp's converter, and {HOME} is not set. Clone llama.cpp, build it (cmake -B build && "
            f"cmake --build build), and set {HOME} to its folder."
        )
    root = Path(folder).expanduser()
    if not (root / CONVERTER).is_file():
        raise ConfigError(f"{HOME}={root}: there is no {CONVERTER}. Name the folder of a llama.cpp checkout.")
    built = root / "build" / "bin" / "llama-server"
    found = str(built) if built.is_file() else shutil.which("llama-server", path=env.get("PATH"))
    return LlamaCpp(root / CONVERTER, Path(found) if found else None)


def convert(model_dir: Path, out: Path, *, outtype: str = "auto") -> dict[str, Any]:
    """Write `out` from a merged folder and, when `llama-server` is there, compare log-probabilities.

    Returns:
        `file`, `parity` (see `parity`, or None) and `told`, one sentence for people.

    Raises:
        ConfigError: no converter.
        ModelError: a vision-language model, the converter fails, or the two disagree; then no file is left.
    """
    tools = find_llama_cpp()
    if "vision_config" in json.loads((model_dir / "config.json").read_text(encoding="utf-8")):
        raise ModelError(
            "GGUF of a vision-language model is not offered: conversions lost the effect of adapters on the vision tower or gave "
            "gibberish in other programs (ggml-org/llama.cpp#14867, ollama/ollama#14388). Serve it with factory serve or vLLM."
        )
    command = [sys.executable, str(tools.converter), str(model_dir), "--outfile", str(out), "--outtype", outtype]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERT_S, check=False)
    if done.returncode or not out.is_file():
        out.unlink(missing_ok=True)
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise ModelError(f"llama.cpp's converter failed (exit {done.returncode}): {last}\nRun it by hand: {' '.join(command)}")
    found = {"file": out.name, "parity": None}
    if tools.server is None:
        return {**found, "told": "model.gguf was not compared with the weights: llama-server was not found; build llama.cpp"}
    measured = parity(model_dir, out, tools.server)
    if measured["largest"] > TOLERANCE:
        out.unlink()
        raise ModelError(
            f"model.gguf does not say what the weights say: log-probabilities differ by up to {measured['largest']:.3f} nats "
            f"(accepted: {TOLERANCE}). It was deleted. Update llama.cpp, or serve the exported folder itself."
        )
    return {
        **found, "parity": measured,
        "told": f"model.gguf agrees with the weights within {measured['largest']:.4f} nats over {measured['n']} log-probabilities",
    }  # fmt: skip


def parity(model_dir: Path, gguf: Path, server: Path) -> dict[str, Any]:
    """Largest difference of the next token's log-probability, over the likeliest tokens after each of PROMPTS.

    Returns:
        `largest` (nats) and `n` (log-probabilities compared).
    """
    prompts, wanted = _reference(model_dir)
    found = _asked(gguf, server, prompts)
    pairs = [(row[token], value) for row, said in zip(wanted, found, strict=True) for token, value in said.items()]
    return {"largest": max(abs(a - b) for a, b in pairs), "n": len(pairs)}


def _reference(model_dir: Path) -> tuple[list[list[int]], list[Any]]:
    """Token ids of the prompts, and [V] log-probabilities after each, by plain transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROMPTS]
    with torch.no_grad():
        rows = [model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).tolist() for ids in prompts]
    return prompts, rows


def _asked(gguf: Path, server: Path, prompts: Sequence[Sequence[int]]) -> list[dict[int, float]]:
    """Token -> log-probability of the TOP likeliest, from `llama-server`'s /completion."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile() as told:
        command = [str(server), "-m", str(gguf), "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
        try:
            _wait(process, port)
            return [_completion(port, ids) for ids in prompts]
        finally:
            process.terminate()
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the server answers /health. Raises ModelError when it ends or does not come up."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ModelError(
                f"llama-server ended with {process.returncode} before it answered: it cannot load the converted file. Update llama.cpp."
            )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError) as err:
            log.debug("llama-server is not up yet: %s", err)
        time.sleep(0.25)
    raise ModelError(f"llama-server did not answer within {START_S} s.")


def _completion(port: int, ids: Sequence[int]) -> dict[int, float]:
    body = {"prompt": list(ids), "n_predict": 1, "n_probs": TOP, "temperature": 0.0, "cache_prompt": False}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        said = json.loads(answer.read())
    return {row["id"]: row["logprob"] for row in said["completion_probabilities"][0]["top_logprobs"]}
