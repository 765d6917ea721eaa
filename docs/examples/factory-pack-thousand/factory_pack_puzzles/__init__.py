"""Over 1,000 puzzle tasks that need no other library; rows of InternBootcamp's eval files come in with `--data`."""

from pathlib import Path

from factory.plugins import read_manifest
from factory.rewards.bridges.bootcamp import Bootcamps
from factory.rewards.bridges.pack import BridgePack
from factory.rewards.bridges.puzzle_ladder import ladder
from factory.rewards.bridges.puzzles import CAMPS

BRIDGES = (Bootcamps(CAMPS | ladder()),)
PACK = BridgePack(read_manifest(Path(__file__).parent), BRIDGES, max_chars=1200)
