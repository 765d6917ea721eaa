"""`factory serve`: a built model behind an OpenAI-compatible address, with vLLM when it is installed, else with transformers."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from factory.cli.export import model_folder
from factory.cli.output import say
from factory.errors import ConfigError
from factory.launch.devices import quiet_without_gpu

ENGINES = ("auto", "transformers", "vllm")


def serve(
    model: Annotated[str, typer.Argument(help="A model folder, or the id or name of a built model.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own needs --api-key-env.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[str, typer.Option(help="Name that clients ask for; without it the model's own.")] = "",
    engine: Annotated[str, typer.Option(help="auto, transformers or vllm. auto takes vLLM when it is installed.")] = "auto",
    api_key_env: Annotated[str, typer.Option(help="Environment variable that holds the key clients must send.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command for vLLM and do nothing.")] = False,
) -> None:
    """Answer chat requests on http://HOST:PORT/v1 (text, and images sent as data)."""
    if engine not in ENGINES:
        raise ConfigError(f"--engine is {engine!r}; want one of {', '.join(ENGINES)}.")
    key = _key(host, api_key_env)
    folder = model_folder(model)
    served = name or Path(model).name
    has_vllm = importlib.util.find_spec("vllm") is not None
    if dry_run or engine == "vllm" or (engine == "auto" and has_vllm):
        command = ["vllm", "serve", str(folder), "--served-model-name", served, "--host", host, "--port", str(port)]
        _with_vllm(command, folder, has_vllm, dry_run, key)
        return
    from factory.serving.app import INSTALL, make_app

    try:
        import uvicorn
    except ImportError as err:
        raise ConfigError(f"serving needs starlette and uvicorn. Install them: {INSTALL}") from err
    from factory.serving.answerer import Answerer

    quiet_without_gpu()
    app = make_app(Answerer(folder), served, api_key=key)
    say(f"serving {served} on http://{host}:{port}/v1 with transformers, one answer at a time; Ctrl-C stops it")
    sys.stdout.flush()
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False)


def _key(host: str, api_key_env: str) -> str:
    """The key, or empty. Raises ConfigError when the variable is empty, or other machines could connect without a key."""
    key = os.environ.get(api_key_env, "") if api_key_env else ""
    if api_key_env and not key:
        raise ConfigError(f"--api-key-env names {api_key_env}, which is not set. Export it first.")
    try:
        is_own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_own = False
    if not is_own and not key:
        raise ConfigError(f"--host {host} lets other machines in; name a variable with a key: --api-key-env MY_KEY.")
    return key


def _with_vllm(command: list[str], folder: Path, has_vllm: bool, dry_run: bool, key: str) -> None:
    """Replace this process by vLLM's server. An adapter is merged first, by `factory export`."""
    if (folder / "adapter_chain.json").is_file() or (folder / "adapter_config.json").is_file():
        raise ConfigError(f"{folder}: vLLM needs whole weights. Run `factory export MODEL FOLDER` first, then serve FOLDER.")
    if dry_run:
        say(" ".join(command))
        return
    if not has_vllm or shutil.which("vllm") is None:
        raise ConfigError("vLLM is not installed here. It wants an environment of its own; or serve with --engine transformers.")
    if key:
        os.environ["VLLM_API_KEY"] = key
    os.execvp(command[0], command)
