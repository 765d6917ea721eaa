"""Supervised fine-tuning: imitate worked responses, with loss on what the assistant writes only."""

from factory.stages.sft.stage import SftStage

STAGE = SftStage()
