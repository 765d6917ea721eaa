"""The settings that a run was built with, as its folder keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from factory.errors import RegistryError
from factory.quick_yaml import read_yaml


def read_run_settings(run: Path) -> dict[str, Any]:
    """The settings in a run folder's resolved.yaml. Raises RegistryError naming the file when it is missing or damaged."""
    path = run / "resolved.yaml"
    try:
        settings = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as err:
        told = " ".join(str(err).split())
        raise RegistryError(f"{path}: cannot be read: {told}. Restore it from a backup, or build the run again.") from err
    if not isinstance(settings, dict):
        raise RegistryError(f"{path}: holds no settings. Restore it from a backup, or build the run again.")
    return settings
