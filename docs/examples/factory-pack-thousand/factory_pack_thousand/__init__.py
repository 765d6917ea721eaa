"""All of reasoning-gym's difficulty steps beside InternBootcamp's puzzles: some 2,000 tasks in one mixture."""

from pathlib import Path

from factory.plugins import read_manifest
from factory.rewards.bridges.bootcamp import Bootcamps
from factory.rewards.bridges.pack import BridgePack
from factory.rewards.bridges.puzzle_ladder import ladder
from factory.rewards.bridges.puzzles import CAMPS
from factory.rewards.bridges.reasoning_gym import FRAGILE, SLOW, ReasoningGym

BRIDGES = (Bootcamps(CAMPS | ladder()), ReasoningGym.ladder(leave_out=(*SLOW, *FRAGILE)))
PACK = BridgePack(read_manifest(Path(__file__).parent), BRIDGES, max_chars=1200)
