"""`in_process` of tests/pipeline, for builds without a process for each step."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "pipeline"))
