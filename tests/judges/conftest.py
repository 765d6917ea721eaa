"""The judge server as a fixture; helpers are importable by tests and by judges' processes."""

import sys
from pathlib import Path

# Test folders are no packages, and a judge's process imports its scripted model by name.
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from judge_server import Server


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()
