"""One sound sample and gold completion for each ready-made verifier; the tests of common laws go over all of them."""

from typing import Any, NamedTuple

from factory.contracts import Message, Sample
from factory.rewards.detections import BoxSet
from factory.rewards.instructions import FollowsInstructions
from factory.rewards.intervals import IntervalIoU
from factory.rewards.json_schema import JsonAnswer
from factory.rewards.languages import InLanguage
from factory.rewards.math_answers import MathAnswer
from factory.rewards.numeric import NumericAnswer
from factory.rewards.option_sets import OptionSet
from factory.rewards.overlaps import TextOverlap
from factory.rewards.puzzles import Integers, SceneChanges
from factory.rewards.rankings import Ranking
from factory.rewards.sets import LabelSet, TokenF1
from factory.rewards.verifiers import ClosedAnswer, ExactText, OptionLetter, RegionIoU, YesNo
from factory.rewards.wording import LengthWithin, NoRepetition

OPTIONS = ["normal gland", "adenocarcinoma", "lymphoid tissue", "necrosis"]
SENTENCE = "The answer is the one that we have found in the text"


class Case(NamedTuple):
    """One verifier with what earns everything."""

    verifier: Any
    reference: Any
    gold: str
    meta: dict[str, Any] = {}

    @property
    def sample(self) -> Sample:
        """The sample that the gold answers."""
        return Sample("s", "t", (Message("user", f"Which is it? {SENTENCE}"),), self.reference, meta=self.meta)


def tagged(answer: str) -> str:
    """An answer in the commonest shape."""
    return f"<think>a</think><answer>{answer}</answer>"


BOXES = [{"bbox_2d": [0, 0, 10, 10], "label": "cat"}, {"bbox_2d": [20, 20, 30, 30], "label": "dog"}]
CHANGES = [["1", "color", "red"], ["2", "size", "big"]]
CASES: dict[str, Case] = {
    "letter": Case(OptionLetter(), "B", tagged("B"), {"options": OPTIONS}),
    "letter lenient": Case(OptionLetter(mode="lenient"), "B", "B. adenocarcinoma", {"options": OPTIONS}),
    **{
        f"options {rule}": Case(OptionSet(rule=rule), ["A", "C"], tagged("A, C"), {"options": OPTIONS})
        for rule in ("exact", "soft", "f1", "jaccard")
    },
    "closed": Case(ClosedAnswer(), "gland", tagged("Gland.")),
    "exact": Case(ExactText(), "CC O", tagged("CC O")),
    "yes": Case(YesNo(), "yes", tagged("Yes.")),
    "number": Case(NumericAnswer(rel_tol=0.01), "24 mEq/L", tagged("24.1 meq/L".replace("meq", "mEq"))),
    "number decimals": Case(NumericAnswer(rule="decimals"), 1.234, tagged("1.23")),
    "number close": Case(NumericAnswer(rule="closeness"), -4, tagged("-4")),
    "math": Case(MathAnswer(), "\\frac{1}{2}", "so it is \\boxed{0.5}"),
    "boxed": Case(ClosedAnswer(shape="boxed"), "gland", "\\boxed{\\text{gland}}"),
    "json": Case(JsonAnswer(), {"count": 2}, 'thus {"count": 2}'),
    "json fields": Case(JsonAnswer(rule="fields"), {"a": [1, {"b": "x"}]}, '{"a": [1, {"b": "X"}]}'),
    "json valid": Case(JsonAnswer(rule="valid", schema={"type": "object", "required": ["a"]}), None, '{"a": 0}'),
    **{f"labels {rule}": Case(LabelSet(rule=rule), ["x", "y"], tagged("y, x")) for rule in ("exact", "f1", "jaccard", "precision")},
    "tokens": Case(TokenF1(), "a red fox", tagged("A red fox.")),
    "ndcg": Case(Ranking(), ["a", "b"], tagged("b, a, c")),
    "mm_r5": Case(Ranking(rule="mm_r5"), ["a", "b"], tagged("b, a, c")),
    "order": Case(Ranking(rule="exact"), ["a", "b", "c"], tagged("a, b, c")),
    "pairs": Case(Ranking(rule="pairs"), ["a", "b", "c"], tagged("a; b; c")),
    **{f"text {rule}": Case(TextOverlap(rule=rule), "Fig 12 b", tagged("Fig 12 b")) for rule in ("edit", "anls", "wer", "rouge")},
    "box": Case(RegionIoU(), [0, 0, 10, 10], tagged("[0, 0, 10, 10]")),
    **{
        f"boxes {rule}": Case(BoxSet(rule=rule), BOXES, tagged(str(BOXES).replace("'", '"')))
        for rule in ("f1", "recall_precision", "mean_iou", "griffon")
    },
    "interval": Case(IntervalIoU(), [3, 5.5], tagged('{"start": 3, "end": 5.5}'), {"duration": 10}),
    "interval temporal-r1": Case(IntervalIoU(format_share=0.5), [3, 5.5], tagged("3.0 to 5.5")),
    "counting": Case(Integers(rule="counting"), [3, 5], tagged("[3, 5]")),
    "clips": Case(Integers(), [2, 0, 1], tagged("2, 0, 1")),
    "patches": Case(Integers(rule="patches"), [2, 0, 1], tagged("2 0 1")),
    "adjacency": Case(Integers(rule="adjacency"), [2, 0, 1, 3], tagged("2 0 1 3"), {"grid": [2, 2]}),
    "changes": Case(SceneChanges(), CHANGES, tagged(str(CHANGES).replace("'", '"'))),
    "language": Case(InLanguage(), None, SENTENCE, {"language": "en"}),
    "instructions": Case(
        FollowsInstructions(), None, "<think>a, b</think>no commas here",
        {"constraints": [{"name": "punctuation:no_comma", "args": {}}]},
    ),
    "repetition": Case(NoRepetition(), None, SENTENCE),
    "length": Case(LengthWithin(fewest=3, most=50), None, SENTENCE),
}  # fmt: skip
NEEDS_NO_ANSWER = {"language", "instructions", "repetition", "length"}
"""Verifiers of wording: many completions are right."""
