"""YAML of packs and of ours read with libyaml's safe loader where PyYAML was built with it: a plan reads a few such files."""

from __future__ import annotations

from typing import Any

import yaml

SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Plain data only, no objects. The loader in Python costs ten times as much."""


def read_yaml(text: str) -> Any:
    """The plain data that a YAML text holds. Raises yaml.YAMLError, with the line, on anything else."""
    return yaml.load(text, Loader=SAFE_LOADER)
