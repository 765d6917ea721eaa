"""Real data of the driving tests, kept beside the repository."""

from pathlib import Path

import pytest

from factory.plugins import find_pack

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "driving"


@pytest.fixture(scope="session")
def segment_folder():
    folder = DATA / "comma2k19_segment"
    if not folder.is_dir():
        pytest.skip(f"no real driving data: {folder} is missing")
    return folder


@pytest.fixture(scope="session")
def pack():
    return find_pack("driving").load()
