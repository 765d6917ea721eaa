"""Generated items: which there are, a stream of random numbers for each, and the system prompts of a pack."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from factory.contracts import SPLITS, DataRequest
from factory.errors import ConfigError


def indices(role: str, split: str, request: DataRequest, sizes: Mapping[str, int]) -> range:
    """Numbers of the items to generate: as many as the request's limit, else `sizes[role]`.

    Args:
        role: `corpus`, `lessons` or `samples`.
        sizes: items per split of each role when the request sets no limit.

    Raises:
        ConfigError: unknown split.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}; want one of {', '.join(SPLITS)}.")
    return range(sizes[role] if request.limit is None else request.limit)


def stream(pack: str, role: str, split: str, seed: int, index: int) -> tuple[random.Random, str]:
    """Random numbers of one item, and its id. Packs, roles, splits and seeds never share a stream."""
    key = f"{pack}-{role}-{split}-{seed}-{index}"
    return random.Random(key), key


@cache
def _template(folder: Path, name: str) -> Any:
    import jinja2
    import jinja2.sandbox

    # A pack's template is text of others: it may fill in values and nothing else.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    try:
        return environment.get_template(f"{name}.jinja")
    except jinja2.TemplateNotFound as err:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.jinja"))) or "none"
        raise ConfigError(f"there is no prompt '{name}' in {folder}. Prompts: {known}.") from err


def system_prompt(folder: Path, name: str, **values: Any) -> str:
    """`folder/<name>.jinja`, rendered strictly with `values`.

    Raises:
        ConfigError: no such file.
        jinja2.UndefinedError: the template asks for a value that is not given.
    """
    return _template(folder, name).render(**values).strip()
