"""A third-party pack and stage kind on the path, found by entry point as an installed package would be."""

from __future__ import annotations

from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy_dist"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the pack `toy`."""
    monkeypatch.syspath_prepend(str(TOY))
    return TOY / "factory_pack_toy"
