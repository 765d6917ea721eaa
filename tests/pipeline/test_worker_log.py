"""What the processes of one step write into their common log."""

import subprocess
import sys

import pytest

SAYS = """
import logging, sys
from factory.pipeline.worker import log_to_stderr
log_to_stderr(int(sys.argv[1]), int(sys.argv[2]))
logging.getLogger("stage").info("step 3 of 9")
logging.getLogger("stage").warning("a reward worker ended")
"""


@pytest.mark.parametrize(
    ("rank", "world_size", "lines"),
    [
        (0, 1, ["stage INFO step 3 of 9", "stage WARNING a reward worker ended"]),
        (0, 2, ["rank 0 stage INFO step 3 of 9", "rank 0 stage WARNING a reward worker ended"]),
        (1, 2, ["rank 1 stage WARNING a reward worker ended"]),
    ],
)
def test_each_line_stands_once_and_names_its_process(rank, world_size, lines):
    done = subprocess.run([sys.executable, "-c", SAYS, str(rank), str(world_size)], capture_output=True, text=True, check=True)
    said = [line.split(" ", 2)[2] for line in done.stderr.splitlines()]  # without date and time
    assert said == lines
