"""Real tunes beside the repository, and the optional libraries of the music extra."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

TUNES = Path(__file__).resolve().parents[4] / "shared" / "data" / "music" / "abc.jsonl"
EXTRA = ("symusic", "partitura", "music21", "verovio", "resvg_py")


@pytest.fixture(scope="session")
def tunes_file() -> Path:
    """AutoMusicTheoryQA's abc.jsonl: 1,500 real tunes."""
    if not TUNES.is_file():
        pytest.skip(f"{TUNES} is not here; it is not part of the repository")
    return TUNES


@pytest.fixture(scope="session")
def tunes(tunes_file) -> list[str]:
    """The tunes as text, in the order of the file."""
    return [json.loads(line)["abc_music"] for line in tunes_file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def extra() -> None:
    """The libraries of domain-factory[music]."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'domain-factory[music]'")


@pytest.fixture(scope="session")
def second(extra):
    """The module second_reading.py beside this file."""
    spec = importlib.util.spec_from_file_location("music_second_reading", Path(__file__).parent / "second_reading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["music_second_reading"] = module
    spec.loader.exec_module(module)
    return module
