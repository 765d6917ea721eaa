"""The questions of tests/rl, by the module's own name: verifier workers import it, and test folders are no packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "rl"))
