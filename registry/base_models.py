"""Records of base models: `base_models/*.yaml`. They tell licence, modality and sizes without a download."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path

from factory.contracts import ModelFacts
from factory.errors import RegistryError
from factory.quick_yaml import read_yaml


@dataclass(frozen=True)
class BaseModel:
    """One base model as its publisher describes it."""

    name: str
    title: str
    modality: str
    """`text` or `vl`."""
    licence: str
    """SPDX identifier."""
    source: str
    """Where the figures below can be checked."""
    hub_id: str | None = None
    num_params: int = 0
    hidden_size: int = 0
    num_layers: int = 0
    vocab_size: int = 0
    context: int = 0
    tokens_per_image: int = 0
    """Upper estimate for the plan; the real count depends on the image."""
    notes: str = ""

    def facts(self, ref: str) -> ModelFacts:
        """What `factory plan` needs, before the weights are here."""
        return ModelFacts(
            ref,
            self.modality,
            self.num_params,
            self.hidden_size,
            self.num_layers,
            self.vocab_size,
            self.context,
            self.tokens_per_image,
        )


def base_models() -> dict[str, BaseModel]:
    """All records by name. Raises RegistryError naming file and key when one is malformed."""
    found = {}
    for path in sorted(Path(str(files("factory.registry"))).glob("base_models/*.yaml")):
        raw = read_yaml(path.read_text(encoding="utf-8"))
        known = {part.name for part in fields(BaseModel)}
        if (
            not isinstance(raw, dict)
            or not set(raw) <= known
            or not {"name", "title", "modality", "licence", "source"} <= set(raw)
        ):
            raise RegistryError(f"{path}: wants the keys of BaseModel ({', '.join(sorted(known))}). Mend the record.")
        if raw["name"] != path.stem:
            raise RegistryError(f"{path}: is named '{raw['name']}' inside. Rename the file or the record.")
        found[path.stem] = BaseModel(**raw)
    return found


def find_base(ref: str) -> BaseModel | None:
    """The record whose name or hub id is `ref`, or None."""
    return next((record for record in base_models().values() if ref in (record.name, record.hub_id)), None)
