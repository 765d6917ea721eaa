"""The lm-eval library itself, where it is installed: a task of its own class, made from a config."""

import json

import pytest

pytest.importorskip("lm_eval")

import bridged_lm_eval

from factory.contracts import Sample, Status
from factory.rewards.pool import VerifierPool


def test_the_librarys_own_task_class_is_bridged_as_it_is():
    bridge = bridged_lm_eval.TASKS
    counts = {split: len(list(bridge.samples("lm_eval/sums", split, 0))) for split in ("train", "validation", "test")}
    assert counts == {"train": 20, "validation": 0, "test": 10}
    sample = next(bridge.samples("lm_eval/sums", "train", 0))
    sample = Sample.from_json(json.loads(json.dumps(sample.to_json())))
    assert sample.text() == "Q: What is 0 + 0?\nA:" and bridge.gold(sample) == "0"
    assert bridge.verifier()("0", sample).status is Status.ok and bridge.verifier()("1", sample).status is Status.wrong
    with VerifierPool("bridged_lm_eval:VERIFIERS", workers=1, timeout_s=60.0, max_error_rate=1.0) as pool:
        found = pool.score([(text, sample, ("lm_eval",)) for text in ("0", "1")])
    assert [row["lm_eval"].status for row in found] == [Status.ok, Status.wrong], found
