"""`doctor --evals`: a row of each task is loaded, and what is broken is said."""

import json
from pathlib import Path

import pytest

from factory.contracts import DataRequest
from factory.errors import ConfigError
from factory.evaluation.harness import find_program
from factory.evaluation.loadable import harness_tasks, pack_tasks
from factory.plugins import load_pack


class Odd:
    """A pack with a fault."""

    def __init__(self, pack, **faulty):
        self._pack, self._faulty = pack, faulty

    def __getattr__(self, name):
        return self._faulty.get(name) or getattr(self._pack, name)


def raises(*values):
    raise OSError("the mirror is gone")


def test_each_task_of_a_pack_is_loaded_and_judged():
    pack = load_pack("biology")
    request = DataRequest(options=dict(pack.manifest.defaults.get("pack") or {}))
    rows = {row.task: row for row in pack_tasks("biology", pack, request, 20_000)}
    assert set(pack.manifest.tasks) <= set(rows) and {row.state for row in rows.values()} <= {"ok", "absent"}
    assert sum(row.state == "ok" for row in rows.values()) >= 3
    (row,) = pack_tasks("biology", Odd(pack, samples=raises), request, 0)
    assert (row.state, row.found) == ("broken", "OSError: the mirror is gone")
    judges = {name: raises for name in pack.verifiers()}
    broken = pack_tasks("biology", Odd(pack, verifiers=lambda: judges), request, 20_000)
    assert {row.state for row in broken} <= {"broken", "absent"} and any("mirror" in row.found for row in broken)


@pytest.mark.slow
def test_the_harness_tasks_are_loaded_in_its_own_environment(tmp_path):
    try:
        find_program()
    except ConfigError as err:
        pytest.skip(f"lm-eval-harness is not here: {err}")
    (tmp_path / "docs.jsonl").write_text(json.dumps({"q": "1+1?", "a": "2"}) + "\n")
    for name, where in (("good", tmp_path / "docs.jsonl"), ("gone", tmp_path / "none.jsonl")):
        (tmp_path / f"{name}.yaml").write_text(
            f"task: {name}\noutput_type: generate_until\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {where}}}}}\n"
            "test_split: test\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\nmetric_list: [{metric: exact_match}]\n"
        )
    rows = harness_tasks(["good", "gone", "no_such"], Path(tmp_path), online=False)
    assert [(row.task, row.state) for row in rows] == [("good", "ok"), ("gone", "broken"), ("no_such", "broken")]
    assert rows[0].found == "1+1?"
