"""One more expert on a finished model: a low-rank update that answers a new domain and passes on the earlier ones."""

from factory.stages.expert.stage import ExpertStage

STAGE = ExpertStage()
