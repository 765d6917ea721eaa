"""Which base a build means: embedded, a folder on disk, or a hub model (here, or to be downloaded). No network here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.contracts import DomainPack, ModelFacts
from factory.errors import ConfigError, near_miss
from factory.registry.base_models import BaseModel, base_models, find_base
from factory.stages.models.facts import model_facts

EMBEDDED = ("embedded-text", "embedded-vl", "embedded-dna")


@dataclass(frozen=True)
class BaseRef:
    """A base that is known to be usable."""

    ref: str
    """As the user wrote it."""
    how: str
    """`embedded`, `folder` or `hub` (to be downloaded by the base step)."""
    facts: ModelFacts
    folder: Path | None = None
    hub_id: str | None = None
    licence: str | None = None

    @property
    def is_in_place(self) -> bool:
        """True when the weights stay where the user keeps them."""
        return self.how != "embedded"


def modality_of(pack: DomainPack, options: Mapping[str, Any]) -> str:
    """`text` or `vl`: what a base must read for a build with these `pack.*` options.

    The manifest's, unless the pack has a method `modality(options)`: a pack with images may also ask in text alone.
    """
    ask = getattr(pack, "modality", None)
    return str(ask(options)) if callable(ask) else pack.manifest.modality


def find_base_ref(ref: str, revision: str | None, modality: str, *, online: bool) -> BaseRef:
    """Resolve `base`.

    Raises:
        ConfigError: no such base, or it would need the network and `online` is off.
        ModelError: the folder is no model that the factory can train.
    """
    if ref in EMBEDDED:
        return BaseRef(ref, "embedded", model_facts(ref, modality), licence=_licence(ref))
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return BaseRef(ref, "folder", model_facts(str(folder), modality), folder=folder.absolute())
    record = find_base(ref)
    hub_id = record.hub_id if record is not None and record.hub_id else ref
    if hub_id.count("/") != 1 or ref.startswith((".", "/", "~")):
        known = [*EMBEDDED, *base_models()]
        raise ConfigError(
            f"base '{ref}' is no folder and no known base.{near_miss(ref, known)} "
            f"Give a folder with config.json, a hub id with --online, or one of: {', '.join(known)}."
        )
    return _hub(ref, hub_id, revision, modality, record, online=online)


def _hub(ref: str, hub_id: str, revision: str | None, modality: str, record: BaseModel | None, *, online: bool) -> BaseRef:
    licence = record.licence if record is not None else None
    snapshot = cached_snapshot(hub_id, revision)
    if snapshot is not None:
        return BaseRef(ref, "hub", model_facts(str(snapshot), modality), folder=snapshot, hub_id=hub_id, licence=licence)
    if not online:
        raise ConfigError(
            f"base '{ref}' is a hub model that is not on this machine, and the network is off. Add --online, or download it once "
            f"(`hf download {hub_id}`), or give a folder."
        )
    if record is None:
        raise ConfigError(
            f"base '{ref}' is not on this machine and the registry has no record of its size, so nothing can be planned. "
            f"Download it once (`hf download {hub_id}`) and run this again."
        )
    if modality == "vl" and record.modality != "vl":
        raise ConfigError(f"base '{ref}' reads text only, but this domain has images. Choose a vision-language base.")
    return BaseRef(ref, "hub", record.facts(ref), hub_id=hub_id, licence=licence)


def cached_snapshot(hub_id: str, revision: str | None) -> Path | None:
    """Folder of a downloaded hub model in the hub's own cache, found without importing its library; None when absent."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    repository = Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / f"models--{hub_id.replace('/', '--')}"
    pointer = repository / "refs" / (revision or "main")
    commit = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else revision
    if not commit:
        return None
    folder = repository / "snapshots" / commit
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")) else None


def _licence(ref: str) -> str | None:
    record = find_base(ref)
    return record.licence if record is not None else None
