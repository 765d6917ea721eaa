"""The held-out measurement made on the base and after every stage."""

from factory.stages.eval.stage import EvalStage

STAGE = EvalStage()
