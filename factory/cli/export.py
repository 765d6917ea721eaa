"""`factory export`: a built model as a folder that plain transformers or peft loads, with its card; as GGUF; or a stage as a TRL script."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, size
from factory.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from factory.report.card import CardFacts


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
    model: Annotated[str, typer.Argument(help="A model folder, or the id or name of a built model; RUN:STAGE with --trl-script.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    merged: Annotated[
        bool, typer.Option("--merged/--adapter", help="Merge adapters into the weights, or keep the last adapter apart.")
    ] = True,
    gguf: Annotated[
        bool, typer.Option("--gguf", help="Also write model.gguf with llama.cpp's converter, whose checkout FACTORY_LLAMA_CPP names.")
    ] = False,
    trl_script: Annotated[
        bool, typer.Option("--trl-script", help="Write stage RUN:STAGE (sft or rl) as a folder with a TRL script that trains it again.")
    ] = False,
    push: Annotated[
        str | None, typer.Option("--push", metavar="REPO", help="Upload the folder to this hub repository; needs --online.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: make the new repository public; it is private otherwise.")] = False,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also enter the folder into MLflow's model registry: MLFLOW_TRACKING_URI, else FACTORY_HOME/tracking.")
    ] = False,
    online: options.Online = False, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Write a model for others, with its card: --merged loads in transformers and vLLM, --adapter loads in peft."""
    _check(merged, gguf, trl_script, push, public, online)
    if mlflow:
        _check_mlflow(model, trl_script)
    out = out.expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists already. Name a new folder; nothing is overwritten.")
    from factory.launch.devices import quiet_without_gpu

    quiet_without_gpu()
    told: dict[str, Any] = {}
    # Complete or absent: a killed export leaves only the .partial folder.
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if trl_script:
        told = _trl_script(model, partial)
    else:
        told = _model(model, out, partial, merged, gguf)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    num_bytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if push is not None:
        from factory.interop.push import push_folder

        told["pushed"] = push_folder(out, push, is_private=not public)
    if mlflow:
        told["mlflow"] = _enter_mlflow(model, out, online)
    if as_json:
        emit_json({**told, "out": str(out), "merged": merged, "bytes": num_bytes})
        return
    if "source" not in told and not merged and not (out / "adapter_config.json").is_file():
        say("the model has no adapter, so it was exported whole")
    say(f"wrote {out} ({size(num_bytes)})", *(f"note: {note}" for note in told.get("notes", ())))
    say(f"run it with: python {out / 'train.py'}" if trl_script else f"load it with {_loader(out)}({str(out)!r})")
    if push is not None:
        say(f"pushed to {told['pushed']}")
    if mlflow:
        say(f"in MLflow as {told['mlflow']}")


def _check(merged: bool, gguf: bool, trl_script: bool, push: str | None, public: bool, online: bool) -> None:
    """Refuse before anything is written. Raises ConfigError."""
    if push is not None and not online:
        raise ConfigError("--push sends the model over the network, which is off. Add --online to allow it for this command.")
    if public and push is None:
        raise ConfigError("--public has no effect without --push REPO. Leave it out, or name the repository.")
    if gguf and not merged:
        raise ConfigError("--gguf converts merged weights; it cannot go with --adapter. Leave --adapter out.")
    if trl_script and (gguf or not merged or push is not None):
        raise ConfigError(
            "--trl-script writes a script and its data, no model for others. Leave --gguf, --adapter and --push out."
        )
    if gguf:
        from factory.interop.gguf import find_llama_cpp

        find_llama_cpp()


def _check_mlflow(model: str, trl_script: bool) -> None:
    """Refuse before anything is written. Raises ConfigError."""
    if trl_script or Path(model).expanduser().is_dir():
        raise ConfigError(
            "--mlflow enters a registered model with its record. Name one that `factory models list` shows, or leave --mlflow out."
        )
    if find_spec("mlflow") is None:
        raise ConfigError("--mlflow: mlflow is not installed. Install it (pip install mlflow), or leave --mlflow out.")


def _trl_script(name: str, partial: Path) -> dict[str, Any]:
    from factory.interop.trl_script import write_script

    return write_script(name, partial)


def _enter_mlflow(name: str, out: Path, online: bool) -> str:
    from factory.cli.models import open_registry
    from factory.registry.home import Home
    from factory.tracking.mlflow_models import enter_mlflow

    return enter_mlflow(out, open_registry().show(name), Home.find().root, online=online)


def _model(name: str, out: Path, partial: Path, merged: bool, gguf: bool) -> dict[str, Any]:
    """The weights and what goes with them, in `partial`."""
    from factory.report.card import bare_card, card_text
    from factory.stages.models.export import export as write

    source = model_folder(name)
    facts = card_facts(name, source)
    write(source, partial, merged, final_dir=out.absolute())
    is_adapter = (partial / "adapter_config.json").is_file()
    told: dict[str, Any] = {"model": str(source), "notes": []}
    loader = f"{_loader(partial)}(FOLDER)"
    modality = _modality(partial)
    card = (
        bare_card(out.name, modality=modality, is_adapter=is_adapter, loader=loader)
        if facts is None
        else card_text(facts, modality=modality, is_adapter=is_adapter, loader=loader)
    )
    (partial / "README.md").write_text(card, encoding="utf-8")
    if facts is not None:
        told["licence"] = {"tag": facts.rolled.tag, "class": facts.rolled.kind}
        if facts.rolled.kind in ("unknown", "restricted", "non-commercial"):
            told["notes"].append(
                f"the licence roll-up is {facts.rolled.kind}; README.md lists what to clear before you pass it on"
            )
    else:
        told["notes"].append(
            "no record of this folder was found, so its card states no results; export a registered id to have them"
        )
    if gguf:
        from factory.interop.gguf import convert

        told["gguf"] = convert(partial, partial / "model.gguf")
        told["notes"].append(str(told["gguf"]["told"]))
    return told


def card_facts(name: str, folder: Path) -> CardFacts | None:
    """What is on record of a model: of a registered id or name, or of a stage's folder inside a run; else None."""
    from factory.cli.models import open_registry
    from factory.errors import PluginError
    from factory.plugins import manifest_of
    from factory.report.card import facts_of_record, facts_of_stage
    from factory.report.read import read_run

    if not Path(name).expanduser().is_dir():
        record = open_registry().show(name)
        try:
            title = manifest_of(record.domain).title
        except PluginError:  # a model outlives its pack
            title = record.domain
        return facts_of_record(record, title=title)
    run_dir = next((parent for parent in folder.parents if (parent / "resolved.yaml").is_file()), None)
    if run_dir is None or folder.parent.parent != run_dir / "stages":
        return None
    run = read_run(run_dir)
    return facts_of_stage(run, folder.parent.name.split("-", 1)[-1], manifest_of(run.config["domain"]))


def _modality(out: Path) -> str:
    config = out / "config.json"
    if not config.is_file():
        base = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        config = Path(base) / "config.json" if (Path(base) / "config.json").is_file() else out / "base" / "config.json"
    return "vl" if config.is_file() and "vision_config" in json.loads(config.read_text(encoding="utf-8")) else "text"


def _loader(out: Path) -> str:
    """The call that loads the folder: peft's for an adapter, else the class of the model's kind."""
    if (out / "adapter_config.json").is_file():
        return "peft.AutoPeftModel.from_pretrained"
    is_vl = "vision_config" in json.loads((out / "config.json").read_text(encoding="utf-8"))
    return f"transformers.{'AutoModelForImageTextToText' if is_vl else 'AutoModelForCausalLM'}.from_pretrained"
