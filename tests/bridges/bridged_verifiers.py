"""All bridges' verifiers for the real worker pool, importable by name."""

from factory.rewards.bridges.bootcamp import Bootcamps
from factory.rewards.bridges.lm_eval import LmEvalTasks
from factory.rewards.bridges.rubric import Rubrics
from factory.rewards.bridges.trl import TrlVerifier

VERIFIERS = {
    "bootcamp": Bootcamps({"parity": "bridged_libraries:Parity", "say": "bridged_libraries:OnlyThree"}).verifier(),
    "rubric": Rubrics({"sums": "bridged_libraries:load_environment"}).verifier(),
    "lm_eval": LmEvalTasks({"capitals": "bridged_libraries:Capitals"}, {"capitals": "exact_match"}).verifier(),
    "trl": TrlVerifier("bridged_libraries:accuracy"),
}
