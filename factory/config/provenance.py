"""Where each value of a build's config came from: for every leaf, the chain of layers that set it, the winner last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from factory.errors import ConfigError, near_miss

Path = tuple[str, ...]
"""Keys from the root to a value, for example ("stages", "rl", "group_size")."""


def dotted(path: Path) -> str:
    """The key as a user types it: `stages.rl.group_size`."""
    return ".".join(path)


def flat(settings: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """`a.b.c` -> value of nested settings; an empty section is itself a value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{head}{key}.")
        else:
            found[f"{head}{key}"] = value
    return found


class Origin(NamedTuple):
    """One layer's word on one key."""

    layer: str
    """`default`, `pack`, `recipe`, `command line`, `resolved`, or `chosen` by the factory (the reason is in `where`)."""
    where: str
    """`file:line`, the flag as typed, or the dataclass that holds the default."""
    value: Any


@dataclass
class Provenance(Mapping[str, list[Origin]]):
    """Dotted key -> origins, oldest first. The last one won."""

    chains: dict[str, list[Origin]] = field(default_factory=dict)

    def __getitem__(self, key: str) -> list[Origin]:
        return self.chains[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.chains)

    def __len__(self) -> int:
        return len(self.chains)

    def record(self, path: Path, origin: Origin) -> None:
        """Add one layer's word on a leaf."""
        self.chains.setdefault(dotted(path), []).append(origin)

    def forget(self, path: Path) -> None:
        """Drop a value and everything under it: a stage was replaced or removed, or a mapping gave way to a scalar."""
        key = dotted(path)
        for known in [k for k in self.chains if k == key or k.startswith(key + ".")]:
            del self.chains[known]

    def where(self, path: Path) -> str:
        """Place that set a key or, for a mapping, the last place that set anything inside it; empty when unknown."""
        key = dotted(path)
        if key in self.chains:
            return self.chains[key][-1].where
        inside = [chain[-1].where for k, chain in self.chains.items() if k.startswith(key + ".") and chain[-1].layer != "default"]
        return inside[-1] if inside else ""

    def why(self, key: str) -> dict[str, list[Origin]]:
        """The chains of one key, or of every leaf under it. Raises ConfigError (with a near miss) for an unknown key."""
        found = {k: chain for k, chain in self.chains.items() if k == key or k.startswith(key + ".")}
        if not found:
            groups = {k.rsplit(".", n)[0] for k in self.chains for n in range(k.count(".") + 1)}
            raise ConfigError(
                f"no setting is called '{key}'.{near_miss(key, groups)} `factory config show` lists all settings of this build."
            )
        return found

    def to_plain(self) -> dict[str, list[dict[str, Any]]]:
        """Plain data for provenance.yaml: key -> [{layer, where, value}]."""
        return {key: [origin._asdict() for origin in chain] for key, chain in self.chains.items()}
