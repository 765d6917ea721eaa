"""Where the shared data lie, and a short way to make samples."""

from pathlib import Path

import pytest

from factory.contracts import Message, Sample

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "chemistry"


@pytest.fixture(scope="session")
def chemistry_data() -> Path:
    """The folder of real chemistry files, or a skip that says what is missing."""
    if not DATA.is_dir():
        pytest.skip(f"the shared data are not at {DATA}")
    return DATA


@pytest.fixture
def sample():
    """(task, reference, **meta) -> Sample."""

    def make(task, reference, **meta):
        return Sample("s", task, (Message("user", "?"),), reference, (), meta)

    return make


@pytest.fixture
def tagged():
    """The answer in the pack's own form."""
    return lambda answer: f"<think>so</think><answer>{answer}</answer>"
