"""A composed config as text: resolved.yaml, provenance.yaml, `config show` and `config why`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from factory.config.compose import Composed

RESOLVED_HEAD = (
    "# The whole config of this build, every default written out.\n# Build it again: factory build --config THIS_FILE\n"
)
PROVENANCE_HEAD = "# For each setting the layers that set it, oldest first; the last one won.\n"


class _Dumper(yaml.SafeDumper):
    """Block style, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain data as block YAML in the given order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def resolved_yaml(composed: Composed) -> str:
    """Text of resolved.yaml; `from_resolved` reads it back to an equal config."""
    return RESOLVED_HEAD + to_yaml(composed.plain)


def provenance_yaml(composed: Composed) -> str:
    """Text of provenance.yaml."""
    return PROVENANCE_HEAD + to_yaml(composed.provenance.to_plain())


def why_text(composed: Composed, key: str) -> str:
    """The chain of a key (or of all keys under it), one line a layer, the winner marked. ConfigError for an unknown key."""
    lines: list[str] = []
    for name, chain in composed.provenance.why(key).items():
        lines.append(f"{name} = {spell(chain[-1].value)}")
        width = max(len(origin.layer) for origin in chain)
        for origin in chain:
            mark = "won " if origin is chain[-1] else "    "
            lines.append(f"  {mark}{origin.layer:<{width}}  {spell(origin.value)}  ({origin.where})")
    return "\n".join(lines)


def spell(value: Any) -> str:
    """A value as one line of YAML."""
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def echo(composed: Composed) -> list[dict[str, str]]:
    """What the command line set, as it was understood: key, value and type (`012` is 10, int)."""
    rows = []
    for key, chain in composed.provenance.items():
        if chain[-1].layer == "command line" and key not in ("domain", "recipe"):
            value = chain[-1].value
            rows.append(
                {
                    "key": key,
                    "value": spell(value),
                    "type": "null" if value is None else type(value).__name__,
                    "flag": chain[-1].where,
                }
            )
    return rows
