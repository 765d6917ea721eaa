"""Reinforcement learning with verifiable rewards: GRPO, DAPO and their kin, as combinations of small pieces."""

from factory.stages.rl.stage import RlStage

STAGE = RlStage()
