"""Where the real files are: the repository's `../shared/data/safety`. Tests that read them are skipped where it is absent."""

import sys
from pathlib import Path

import pytest

from factory.contracts import Message, Sample

sys.path.insert(0, str(Path(__file__).parent))
DATA = Path(__file__).parents[4] / "shared" / "data" / "safety"


@pytest.fixture(scope="session")
def data():
    """The folder of real files."""
    if not DATA.is_dir():
        pytest.skip(f"the real files are not there: {DATA.parent.parent.name}/data/safety beside the repository")
    return DATA


@pytest.fixture
def make_sample():
    """Builds a sample of one user turn."""

    def make(reference, task="answer", text="rules harm , fraud\nstop lamp now ?", **meta):
        return Sample("s-1", task, (Message("user", text),), reference, (), meta)

    return make
