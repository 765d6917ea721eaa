"""A JSON mapping that carries the hash of its own content: a flipped bit in a figure is still JSON, and only this tells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"
"""Key of the hash, over the mapping without it, keys sorted."""


def sealed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with its hash."""
    return {**row, SEAL: _digest(row)}


def unsealed(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The mapping without its hash; None when it is not what was sealed, or never was."""
    content = {key: value for key, value in row.items() if key != SEAL}
    return content if row.get(SEAL) == _digest(content) else None


def _digest(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
