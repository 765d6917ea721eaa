"""Load a model folder: full weights, or a chain of adapters on a base. Safetensors only, never remote code."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from factory.config.schema import AdapterConfig, AdapterKind
from factory.errors import ModelError, is_out_of_memory
from factory.stages.models.codec import load_codec
from factory.stages.models.experts import attach, read_experts
from factory.stages.models.facts import read_chain, read_config
from factory.stages.models.frozen_images import keep_frozen_images
from factory.stages.models.loaded import LoadedModel
from factory.stages.models.patch_projection import project_by_product
from factory.stages.models.repeated import share_repeated_images
from factory.stages.models.rms_norm import hasten_norms
from factory.stages.models.shapes import modality_of
from factory.stages.models.store import save
from factory.stages.models.tower_attention import attend_by_size

__all__ = ["LoadedModel", "default_device", "load", "save"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load(
    model_dir: Path | str,
    *,
    precision: str,
    adapter: AdapterConfig | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Load a folder that save_pretrained or `save` wrote.

    Args:
        precision: `fp32`, `bf16` (format of all weights except new adapters, which are fp32), or `auto` (as stored).
        adapter: train a new adapter; adapters of the folder are merged into the weights first, so that "adapter off"
            is the model at the start of the stage. None or kind `none`: full weights.
        device: default the GPU of LOCAL_RANK, or the CPU.
        seed: of a new adapter's initial weights.

    Raises:
        ModelError: no such folder, no config.json, unsupported architecture, no tokenizer, no safetensors, damaged weights
            or chain, or a folder of experts that is to be trained.
    """
    source = Path(model_dir)
    experts = read_experts(source)
    if experts and adapter is not None:
        raise ModelError(
            f"{source}: is a model with experts ({', '.join(experts)}), which cannot be trained on as one. Train a further expert "
            "(a stage of kind `expert`), or start from the model below them, which adapter_chain.json names."
        )
    if source.is_dir() and not (source / "adapter_chain.json").is_file() and (source / "adapter_config.json").is_file():
        raise ModelError(
            f"{source}: is a peft adapter without its base. "
            "Merge it first (peft merge_and_unload), or start from the base folder."
        )
    base, earlier = source, ()
    if (source / "adapter_chain.json").is_file():
        base, before = read_chain(source)
        earlier = before if experts else (*before, source)
    config = read_config(base)
    modality = modality_of(config, str(base))
    if modality == "dna":
        from factory.stages.models.dna.model import register

        register()
    codec = load_codec(source, is_vl=modality == "vl", eos_ids=_end_ids(base))
    model = _merged(_full_weights(base, modality, precision), earlier)
    hasten_norms(model)
    if modality == "vl":
        project_by_product(model.model.visual)
        attend_by_size(model.model.visual)
        share_repeated_images(model.model.visual)
        keep_frozen_images(model.model.visual)
    is_adapter = adapter is not None and adapter.kind != AdapterKind.none
    if is_adapter:
        model = _with_new_adapter(model, adapter, seed)
    wrapped = attach(model, source, experts) if experts else None
    model = (wrapped.model if wrapped else model).to(device or default_device())
    return LoadedModel(model, codec, modality, is_adapter, source, base, earlier, wrapped)


def default_device() -> torch.device:
    """The GPU that the launcher gave this process, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")


def _full_weights(folder: Path, modality: str, precision: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    # The factory draws its own progress; bars of a library would tear it.
    transformers_logging.disable_progress_bar()
    if not any(folder.glob("*.safetensors")):
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        found = f"only {', '.join(others[:3])}, which may run code when read" if others else "no weights"
        raise ModelError(
            f"{folder}: holds {found}; the factory reads *.safetensors only. "
            "Convert it once where you trust it: load with transformers and save_pretrained again."
        )
    family = AutoModelForImageTextToText if modality == "vl" else AutoModelForCausalLM
    precision = str(getattr(precision, "value", precision))
    try:
        model, report = family.from_pretrained(
            str(folder), dtype=_DTYPES.get(precision, precision), use_safetensors=True, local_files_only=True,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as err:
        if is_out_of_memory(err):
            raise  # nothing is wrong with the files
        raise ModelError(
            f"{folder}: the weights cannot be loaded: {err}. Copy the folder again and compare its file sizes."
        ) from err
    if report["missing_keys"]:
        # transformers would fill them with random numbers.
        names = sorted(report["missing_keys"])
        raise ModelError(
            f"{folder}: the weights lack {len(names)} tensors that config.json asks for, first {names[0]}. Copy the folder again."
        )
    return model


def _merged(model: Any, adapters: Sequence[Path]) -> Any:
    """Merge adapters into the weights, in order."""
    if not adapters:
        return model
    from peft import PeftModel

    for folder in adapters:
        if not (folder / "adapter_model.safetensors").is_file():
            raise ModelError(f"{folder}: has no adapter_model.safetensors. Build the stage that wrote it again.")
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def _with_new_adapter(model: Any, adapter: AdapterConfig, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = adapter.targets if adapter.targets == "all-linear" else [name.strip() for name in adapter.targets.split(",")]
    settings = LoraConfig(
        r=adapter.rank, lora_alpha=adapter.alpha, lora_dropout=adapter.dropout, target_modules=targets,
        use_dora=adapter.kind == AdapterKind.dora, task_type="CAUSAL_LM", bias="none", **_beside_dna(model),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, settings)
        except ValueError as err:
            raise ModelError(
                f"adapter.targets={adapter.targets!r} does not fit this model: {err}. Use all-linear, or its module names."
            ) from err


def _beside_dna(model: Any) -> dict[str, Any]:
    """An adapter changes the language model only; the projection of a DNA encoder, which starts untrained, learns as a whole."""
    if not hasattr(model, "dna_projector"):
        return {}
    return {"exclude_modules": r".*dna_(encoder|projector).*", "modules_to_save": ["dna_projector"]}


def _end_ids(folder: Path) -> list[int]:
    """Further end tokens that the folder's generation_config.json names."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return []
    try:
        ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except ValueError as err:
        raise ModelError(f"{path}: is not valid JSON: {err}. Copy the model folder again, or delete this file.") from err
    return [ends] if isinstance(ends, int) else list(ends or [])
