"""One model out of several: the average of their weights, or the one whose reasoning or validation score is best."""

from factory.stages.merge.stage import MergeStage

STAGE = MergeStage()
