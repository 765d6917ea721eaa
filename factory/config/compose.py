"""Compose a build's config: learn each stage's kind, merge the layers under the schemas, check, and leave only dataclasses.

compose("pathology", recipe="embedded", overrides=["stages.rl.group_size=16"]).config   # a BuildConfig
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from factory.config.layers import Layer, command_layer, leading_folder, member_layers, pack_layer, read_yaml, recipe_layers
from factory.config.merge import lay, plain, record_defaults
from factory.config.provenance import Origin, Provenance
from factory.config.schema import BuildConfig, StageConfig
from factory.config.validate import validate
from factory.contracts import Manifest
from factory.errors import ConfigError, PluginError, near_miss
from factory.plugins import load_stage, manifest_of, member_names, stage_entries

RESERVED = ("base",)
"""Names the pipeline gives to its own steps."""
EMBEDDED = {"text": "embedded-text", "vl": "embedded-vl"}
"""Base of a build that names none, by the pack's modality."""


@dataclass(frozen=True)
class Composed:
    """A checked config with its history."""

    config: BuildConfig
    """`config.stages` maps each name to the dataclass of its kind, in the order the stages run."""
    provenance: Provenance
    plain: dict[str, Any]
    """The config as JSON-ready data; what resolved.yaml holds."""


def compose(
    domain: str | None, *, recipe: str | None = None, base: str | None = None, seed: int | None = None, data: Sequence[str] = (),
    overrides: Sequence[str] = (), online: bool | None = None, mix: str | None = None,
) -> Composed:  # fmt: skip
    """Compose from a pack, one of its recipes (or a recipe file) and the command line.

    Args:
        domain: the pack; may be None when `recipe` is a file that names its domain.
        recipe: a recipe name of the pack or a path to a YAML file; None means `embedded`.
        data: paths of the user's data; replaces what recipe and pack say.
        overrides: `a.b=c` texts of --set.
        mix: shares of the packs of a domain such as `a,b` in training, as `0.6,0.4`.

    Raises:
        ConfigError: any wrong key, type, value or combination, with its place and a remedy.
        PluginError: the pack or a stage kind is unknown or broken.
    """
    given = [("--domain", "domain", domain), ("--recipe", "recipe", recipe), ("--base", "base", base), ("--seed", "seed", seed)]
    flags = [(f"{flag} {value}", key, value) for flag, key, value in given if value is not None]
    flags += [("--data " + " --data ".join(data), "data.paths", list(data))] if data else []
    flags += [("--online", "online", online)] if online is not None else []
    flags += [(f"--mix {mix}", "pack.mix", _mix(domain, mix))] if mix is not None else []
    command = command_layer(flags, overrides)
    for key in ("domain", "recipe"):
        if command.places.get((key,), "").startswith("--set"):
            raise ConfigError(
                f"{command.where((key,))}: use --{key} {command.values[key]}; it decides which other layers are read."
            )
    if domain is None and recipe is None:
        raise ConfigError("no domain is given. Add --domain NAME (`factory domains list` shows them).")
    folder = leading_folder(domain) if domain is not None else None
    recipes = recipe_layers(recipe or "embedded", folder, f"--recipe {recipe}" if recipe else "default recipe")
    if domain is None:
        named = next((layer for layer in reversed(recipes) if isinstance(layer.values.get("domain"), str)), None)
        if named is None:
            raise ConfigError(f"{recipes[-1].source} names no domain. Add `domain: NAME` to it, or --domain NAME to the command.")
        domain = named.values["domain"]
        folder = leading_folder(domain)
    assert folder is not None
    for layer in recipes:
        said = layer.values.get("domain", domain)
        if domain is not None and said != domain:
            raise ConfigError(
                f"{layer.where(('domain',))}: the recipe is for domain {said!r}, the command says --domain {domain}. Use one."
            )
    several = len(member_names(domain)) > 1
    below = member_layers(domain, recipe or "embedded", recipes) if several else [pack_layer(folder), *recipes]
    return _finish([*below, command], manifest_of(domain))


def _mix(domain: str | None, text: str) -> dict[str, float]:
    """`--mix 0.6,0.4` as pack -> share."""
    names = member_names(domain) if domain is not None else ()
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError as err:
        raise ConfigError(f"--mix {text}: want a number for each pack, such as --mix 0.6,0.4.") from err
    if len(names) < 2 or len(names) != len(shares):
        raise ConfigError(
            f"--mix {text} has {len(shares)} shares, --domain {domain or '(none)'} has {len(names)} packs. "
            "Give one share for each, in the same order: --domain chemistry,biology --mix 0.6,0.4."
        )
    return dict(zip(names, shares, strict=True))


def from_resolved(path: FilePath | str, overrides: Sequence[str] = ()) -> Composed:
    """Compose from a run's resolved.yaml alone (plus --set); without overrides the config equals that run's.

    Raises:
        ConfigError: as `compose`, with lines of the resolved file.
        PluginError: the pack it names is not installed.
    """
    layer = read_yaml(FilePath(path), "resolved")
    name = layer.values.get("domain")
    if not isinstance(name, str):
        raise ConfigError(f"{layer.source}: has no domain, so it is not a resolved config. Give a run's resolved.yaml.")
    command = command_layer([], overrides)
    if command.values.get("domain", name) != name:
        raise ConfigError(
            f"{command.where(('domain',))}: a resolved config keeps its domain {name}. Compose a new build with --domain."
        )
    return _finish([layer, command], manifest_of(name))


def _finish(layers: Sequence[Layer], manifest: Manifest) -> Composed:
    chain = Provenance()
    tree = OmegaConf.structured(BuildConfig)
    record_defaults(tree, (), chain)
    stages = _Stages(chain)
    for layer in layers:
        rest = {key: value for key, value in layer.values.items() if key != "stages"}
        lay(tree, rest, (), layer, chain)
        stages.lay(layer)
    if not tree.base:
        _fill(tree, "base", EMBEDDED[manifest.modality], f"modality {manifest.modality} of the pack {manifest.name}", chain)
    tree.stages = {}
    for name in stages.order:
        tree.stages[name] = stages.nodes[name]
    _refuse_missing(tree, chain)
    config = OmegaConf.to_object(tree)
    as_plain = OmegaConf.to_container(tree, resolve=False, enum_to_str=True)
    assert isinstance(config, BuildConfig) and isinstance(as_plain, dict)
    validate(config, chain, manifest)
    return Composed(config, chain, {str(key): value for key, value in as_plain.items()})


def _fill(tree: DictConfig, key: str, value: Any, reason: str, chain: Provenance) -> None:
    tree[key] = value
    chain.record((key,), Origin("chosen", reason, value))


def _refuse_missing(tree: DictConfig, chain: Provenance) -> None:
    missing = sorted(OmegaConf.missing_keys(tree))
    if missing:
        places = [chain.where(tuple(key.split(".")[:-1])) for key in missing]
        told = "; ".join(
            f"{key}" + (f" (its section is set at {place})" if place else "") for key, place in zip(missing, places, strict=True)
        )
        raise ConfigError(f"missing required settings: {told}. Add them to the recipe, or --set {missing[0]}=VALUE.")


class _Stages:
    """The stages while layers are laid: which there are, of which kind, in which order."""

    def __init__(self, chain: Provenance) -> None:
        self.chain = chain
        self.order: list[str] = []
        self.nodes: dict[str, DictConfig] = {}

    def lay(self, layer: Layer) -> None:
        """Add, change, replace, move or remove stages as one layer says."""
        sections = layer.values.get("stages", {})
        if not isinstance(sections, Mapping):
            raise ConfigError(
                f"{layer.where(('stages',))}: stages is {sections!r}, wanted a mapping of stage names to settings. "
                "To remove one stage write `stages: {NAME: null}`."
            )
        for name, section in sections.items():
            if section is None:
                self._remove(name, layer)
            elif isinstance(section, Mapping):
                self._lay_one(name, dict(section), layer)
            else:
                raise ConfigError(
                    f"{layer.where(('stages', name))}: stages.{name} is {section!r}, wanted a mapping of settings or null."
                )

    def _lay_one(self, name: str, section: dict[str, Any], layer: Layer) -> None:
        is_replaced, after = section.pop("replace", False), section.pop("after", None)
        place = layer.where(("stages", name))
        if not isinstance(is_replaced, bool):
            raise ConfigError(
                f"{layer.where(('stages', name, 'replace'))}: stages.{name}.replace is {is_replaced!r}, wanted true or false."
            )
        if name in self.nodes and is_replaced:
            self.chain.forget(("stages", name))
            del self.nodes[name]
        if name not in self.nodes:
            self._create(name, section, layer, place)
        self._refuse_other_kind(name, section, layer)
        lay(self.nodes[name], section, ("stages", name), layer, self.chain)
        if after is not None:
            self._move(name, after, layer)

    def _create(self, name: str, section: Mapping[str, Any], layer: Layer, place: str) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,60}", name) or name in RESERVED or name.endswith("-eval"):
            raise ConfigError(
                f"{place}: '{name}' cannot name a stage. Use lower-case letters, digits, '-' and '_', beginning with a letter, "
                f"and none of: {', '.join(RESERVED)}."
            )
        kind = section.get("kind")
        kinds = sorted({entry.name for entry in stage_entries()})
        if kind is None:
            hint = near_miss(name, self.order)
            raise ConfigError(
                f"{place}: stages.{name} has no kind, and no earlier layer defines it.{hint} Stages so far: "
                f"{', '.join(self.order) or 'none'}. To add a stage give it a kind, one of {', '.join(kinds)}."
            )
        try:
            schema = load_stage(str(kind)).config_type
        except PluginError as err:
            raise ConfigError(f"{layer.where(('stages', name, 'kind'))}: stages.{name}.kind: {err}") from err
        if not issubclass(schema, StageConfig):
            raise PluginError(
                f"the stage kind '{kind}' has the config type {schema.__name__}, which is not a StageConfig. Mend the kind."
            )
        self.nodes[name] = OmegaConf.structured(schema)
        record_defaults(self.nodes[name], ("stages", name), self.chain)
        if name not in self.order:
            self.order.append(name)

    def _refuse_other_kind(self, name: str, section: Mapping[str, Any], layer: Layer) -> None:
        said = section.get("kind")
        setters = [origin for origin in self.chain.get(f"stages.{name}.kind", []) if origin.layer != "default"]
        if said is not None and setters and said != setters[-1].value:
            raise ConfigError(
                f"{layer.where(('stages', name, 'kind'))}: stages.{name} is of kind {setters[-1].value} "
                f"(set at {setters[-1].where}), this layer says {said}. "
                "Add `replace: true` to the stage to start it afresh, or choose another name."
            )

    def _move(self, name: str, after: Any, layer: Layer) -> None:
        place = layer.where(("stages", name, "after"))
        if after not in ("base", *self.order) or after == name:
            others = [stage for stage in self.order if stage != name]
            raise ConfigError(
                f"{place}: stages.{name}.after is {after!r}.{near_miss(str(after), others)} "
                f"Use base or one of: {', '.join(others)}."
            )
        self.order.remove(name)
        self.order.insert(0 if after == "base" else self.order.index(after) + 1, name)

    def _remove(self, name: str, layer: Layer) -> None:
        place = layer.where(("stages", name))
        if name not in self.nodes:
            raise ConfigError(
                f"{place}: stages.{name} is null, but no earlier layer has that stage."
                f"{near_miss(name, self.order)} Drop the line."
            )
        del self.nodes[name]
        self.order.remove(name)
        self.chain.forget(("stages", name))
        self.chain.record(("stages", name), Origin(layer.name, place, plain(None)))
