"""Reward and cost models: a scalar head on the backbone, trained on pairs of responses. They score; they are no policy."""

from factory.stages.reward_model.stage import RewardModelStage

STAGE = RewardModelStage()
