"""`factory export`: a built model as a folder that plain transformers or peft loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, size
from factory.errors import ModelError


def model_folder(name: str) -> Path:
    """Folder of a model given as a path, a registered id or name, or a run (then its chosen model).

    Raises:
        RegistryError: no such model.
    """
    from factory.cli.models import open_registry

    if Path(name).expanduser().is_dir():
        return Path(name).expanduser().resolve()
    return open_registry().model_path(name)


def export(
    model: Annotated[str, typer.Argument(help="A model folder, or the id or name of a built model.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    merged: Annotated[
        bool, typer.Option("--merged/--adapter", help="Merge adapters into the weights, or keep the last adapter apart.")
    ] = True,
    as_json: options.Json = False,
) -> None:
    """Write a model for serving: --merged loads in transformers and vLLM, --adapter loads in peft."""
    source = model_folder(model)
    out = out.expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists already. Name a new folder; nothing is overwritten.")
    from factory.launch.devices import quiet_without_gpu

    quiet_without_gpu()
    from factory.stages.models.export import export as write

    # Complete or absent: a killed export leaves only the .partial folder.
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    written = write(source, partial, merged, final_dir=out.absolute())
    if out.exists():
        out.rmdir()
    Path(written).rename(out)
    num_bytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if as_json:
        emit_json({"model": str(source), "out": str(out), "merged": merged, "bytes": num_bytes})
        return
    if not merged and not (out / "adapter_config.json").is_file():
        say("the model has no adapter, so it was exported whole")
    say(f"wrote {out} ({size(num_bytes)})", f"load it with {_loader(out)}({str(out)!r})")


def _loader(out: Path) -> str:
    """The call that loads the folder: peft's for an adapter, else the class of the model's kind."""
    if (out / "adapter_config.json").is_file():
        return "peft.AutoPeftModel.from_pretrained"
    is_vl = "vision_config" in json.loads((out / "config.json").read_text(encoding="utf-8"))
    return f"transformers.{'AutoModelForImageTextToText' if is_vl else 'AutoModelForCausalLM'}.from_pretrained"
