"""Our verifiers as reward functions of other trainers, by import path.

TRL: `reward_funcs: [factory.interop.reward_functions.pathology]` is the pack's mixture, `....pathology__accuracy` one verifier.
The data set needs the columns `prompt` and `sample` (a Sample as JSON); `rows` makes them.

verl: `custom_reward_function.path=pkg://factory.interop.reward_functions`, `custom_reward_function.name=compute_score`; rows as
`verl_rows` makes them, whose `data_source` is `factory/PACK` or `factory/PACK/VERIFIER`.

They run in the trainer's process, without the time and memory limits of our pool: to have these, train here.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import ConfigError, RewardError
from factory.plugins import load_pack
from factory.rewards.bridges.trl import rows
from factory.rewards.mixture import Mixture

__all__ = ["compute_score", "rows", "trl_reward", "verl_rows"]
log = logging.getLogger(__name__)
MAX_ERROR_RATE, MIN_CALLS = 0.05, 100
"""verl cannot leave a row out: failures of the verifier itself score 0 there, and stop the run above this rate."""
PREFIX = "factory/"
_counts: Counter[str] = Counter()


class Judge:
    """A pack's mixture, or one of its verifiers, as (completion, sample) -> score, None where the verifier itself failed."""

    def __init__(self, domain: str, verifier: str = "") -> None:
        pack = load_pack(domain)
        self._verifiers = dict(pack.verifiers())
        if verifier and verifier not in self._verifiers:
            raise ConfigError(f"pack '{domain}' has no verifier '{verifier}'; it has {', '.join(self._verifiers)}.")
        self._only = verifier
        self._mixture = Mixture(pack.manifest.tasks, known=self._verifiers)

    def __call__(self, completion: str, sample: Sample) -> float | None:
        if self._only:
            verdict = self._verdict(self._only, completion, sample)
            return None if verdict.status.is_masked else verdict.score
        verdicts = {name: self._verdict(name, completion, sample) for name in self._mixture.verifiers_for(sample.task)}
        reward = self._mixture.combine(sample.task, verdicts)
        return None if reward.masked else reward.value

    def _verdict(self, name: str, completion: str, sample: Sample) -> Verdict:
        try:
            return self._verifiers[name](completion, sample)
        except Exception as err:  # whatever a verifier raises is its failure, not the answer's
            log.warning("verifier %s raised %s: %s", name, type(err).__name__, err)
            return Verdict(0.0, Status.error, f"{type(err).__name__}: {err}")


@cache
def judge_of(name: str) -> Judge:
    """The judge of `PACK` or `PACK__VERIFIER` (or `PACK/VERIFIER`). Raises PluginError, ConfigError."""
    domain, _, verifier = name.replace("__", "/").partition("/")
    return Judge(domain, verifier)


def trl_reward(name: str) -> Callable[..., list[float | None]]:
    """A TRL reward function. `name`: PACK, or PACK__VERIFIER. None means that the verifier failed; TRL leaves it out."""
    judge = judge_of(name)

    def reward(completions: Sequence[Any], sample: Sequence[str], **columns: Any) -> list[float | None]:
        texts = [said if isinstance(said, str) else said[-1]["content"] for said in completions]
        return [judge(text, Sample.from_json(json.loads(row))) for text, row in zip(texts, sample, strict=True)]

    reward.__name__ = name.replace("/", "__")
    return reward


def __getattr__(name: str) -> Any:
    """`factory.interop.reward_functions.PACK`, for trainers that take an import path."""
    if name.startswith("_"):
        raise AttributeError(name)
    from factory.errors import PluginError

    try:
        return trl_reward(name)
    except (PluginError, ConfigError) as err:
        raise AttributeError(str(err)) from err


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
) -> dict[str, float]:
    """verl's reward: `score`, and `masked` = 1 where the verifier itself failed (then the score is 0, because verl needs one).

    Args:
        extra_info: with `sample`, a Sample as JSON. `ground_truth` is in the sample too and is not read.

    Raises:
        ConfigError: `data_source` is not ours, or the row has no sample.
        RewardError: more than MAX_ERROR_RATE of the calls failed; zeros that are no answers' fault would be learned from.
    """
    if not data_source.startswith(PREFIX):
        raise ConfigError(f"data_source is {data_source!r}, want {PREFIX}PACK. Make the rows with verl_rows.")
    told = (extra_info or {}).get("sample")
    if not isinstance(told, str):
        raise ConfigError("extra_info has no `sample`. Make the rows with factory.interop.reward_functions.verl_rows.")
    score = judge_of(data_source.removeprefix(PREFIX))(solution_str, Sample.from_json(json.loads(told)))
    _counts["calls"] += 1
    _counts["failed"] += score is None
    if _counts["calls"] >= MIN_CALLS and _counts["failed"] > MAX_ERROR_RATE * _counts["calls"]:
        raise RewardError(
            f"{_counts['failed']} of {_counts['calls']} verifications failed in themselves; the log names the verifiers. Mend them: "
            "their zeros would be learned from."
        )
    return {"score": 0.0 if score is None else score, "masked": float(score is None)}


def verl_rows(samples: Iterable[Sample], domain: str, verifier: str = "") -> list[dict[str, Any]]:
    """Rows of a verl data set (write them as parquet) whose reward is ours. Images must be paths."""
    source = f"{PREFIX}{domain}" + (f"/{verifier}" if verifier else "")
    found = []
    for number, one in enumerate(samples):
        row: dict[str, Any] = {
            "data_source": source, "prompt": [{"role": m.role, "content": m.content} for m in one.messages], "ability": one.task,
            "reward_model": {"style": "rule", "ground_truth": json.dumps(one.reference, ensure_ascii=False)},
            "extra_info": {"index": number, "split": one.split, "sample": json.dumps(one.to_json(), ensure_ascii=False)},
        }  # fmt: skip
        if one.media:
            row["images"] = [{"bytes": media.data} if media.data is not None else {"image": media.path} for media in one.media]
        found.append(row)
    return found
