"""The paired test of `factory models compare`: two models on the same held-out samples, from the files that their runs keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factory.errors import FactoryError

if TYPE_CHECKING:
    from factory.registry.models import Registry
    from factory.registry.records import ModelRecord

RESAMPLES = 10_000
"""Of the bootstrap, for a record that does not hold `eval.bootstrap`."""


def paired(registry: Registry, first: ModelRecord, second: ModelRecord) -> dict[str, Any]:
    """`diff` (second minus first, mean score per sample), `diff_ci` (95 %, bootstrap), `n`, `left_out`; or `why` there is none.

    A sample counts when both models were asked the same prompt under the same id, wanting the same answer.
    """
    from factory.pipeline.compare import paired_difference, read_scores
    from factory.registry.measured import questions, samples_file

    none = {"diff": None, "diff_ci": None, "n": 0, "left_out": 0}
    try:
        files = [samples_file(registry.root, record) for record in (first, second)]
        scores = [read_scores(path) for path in files]
        asked = [questions(path) for path in files]
    except FactoryError as err:
        return {**none, "why": str(err)}
    metrics = [record.primary.get("name") for record in (first, second)]
    if metrics[0] != metrics[1]:
        return {**none, "why": f"{first.id} was measured by {metrics[0]} and {second.id} by {metrics[1]}"}
    same = {key for key in asked[0].keys() & asked[1].keys() if asked[0][key] == asked[1][key]}
    before, after = ({key: value for key, value in side.items() if key in same} for side in scores)
    settings = second.config.get("eval")
    given = settings if isinstance(settings, dict) else {}
    found = paired_difference(before, after, resamples=given.get("bootstrap", RESAMPLES), seed=given.get("seed", 0))
    if found is None:
        return {
            **none,
            "why": "no test sample was put to both; measure one with the other's pack and `eval` settings: factory eval",
        }
    left_out = len(asked[0].keys() | asked[1].keys()) - found.n
    return {"diff": found.value, "diff_ci": [found.low, found.high], "n": found.n, "left_out": left_out, "why": None}
