"""Patterns in task tables, mixtures of thousands of tasks, and their statistics."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Status, Verdict
from factory.errors import ConfigError, DataError
from factory.rewards.mixture import Mixture
from factory.rewards.routing import Routes, row_of
from factory.rewards.task_stats import TaskCount, TaskTable, spread

OK = Verdict(1.0, Status.ok, "so")


@pytest.mark.parametrize("task, key", [
    ("arith/sum", "arith/sum"), ("arith/sub", "arith/s*"), ("arith/mul", "arith/*"), ("logic/x/y", "*"), ("arith", "*"),
    ("geo/a1", "geo/a?"), ("geo/a12", "*"),
])  # fmt: skip
def test_the_most_special_key_rules(task, key):
    table = dict.fromkeys(["*", "arith/*", "arith/s*", "arith/sum", "geo/a?"])
    assert Routes(table).key_of(task) == key


def test_unknown_tasks_have_no_key():
    routes = Routes(["arith/*", "one"])
    assert routes.key_of("two") is None and routes.key_of("arith") is None
    assert row_of({"arith/*": 7}, "arith/x") == 7 and row_of({"arith/*": 7}, "x") is None


@given(
    st.lists(st.sampled_from(["a/*", "a/b*", "*", "a/bc", "a/?c"]), unique=True, min_size=1),
    st.permutations(["a/bc", "a/bd", "x"]),
)
def test_the_order_of_look_ups_does_not_matter(keys, tasks):
    routes = Routes(keys)
    first = {task: routes.key_of(task) for task in tasks}
    assert {task: Routes(keys).key_of(task) for task in reversed(tasks)} == first == {task: routes.key_of(task) for task in tasks}


def test_a_mixture_routes_by_pattern_and_overrides_narrow_it():
    tasks = {"arith/*": {"verifiers": {"exact": 1.0, "format": 0.0}}, "open": {"verifiers": {"exact": 1.0}}}
    mixture = Mixture(tasks, {"arith/sum": {"format": 1.0}, "arith/d*": {"format": 3.0}})
    verdicts = {"exact": OK, "format": Verdict(0.0, Status.wrong, "so")}
    # 1/1, 1/2, 1/4
    assert [mixture.combine(f"arith/{one}", verdicts).value for one in ("mul", "sum", "div")] == [1.0, 0.5, 0.25]
    with pytest.raises(ConfigError, match=r"mixture\.arit/x"):
        Mixture(tasks, {"arit/x": {"format": 1.0}})
    with pytest.raises(ConfigError, match="does not know"):
        mixture.of("arit/x")


def test_an_override_by_pattern_reaches_tasks_that_are_written_out():
    tasks = {f"arith/{i}": {"verifiers": {"exact": 1.0, "format": 0.0}} for i in range(3)}
    mixture = Mixture(tasks, {"arith/*": {"format": 1.0}, "arith/2": {"format": 3.0}})
    assert [mixture.of(f"arith/{i}").weights["format"] for i in range(3)] == [1.0, 1.0, 3.0]


def test_1500_tasks_cost_little_to_build_and_nothing_to_look_up():
    tasks = {f"family{i % 30}/task{i}": {"verifiers": {f"v{i % 30}": 1.0, "format": 0.1}} for i in range(1500)}
    began = time.process_time()
    mixture = Mixture(tasks, {"family3/*": {"format": 0.0}})
    assert time.process_time() - began < 1.0
    names = list(tasks)
    began = time.process_time()
    for turn in range(30_000):
        task = names[turn % 1500]
        mixture.combine(task, {name: OK for name in mixture.verifiers_for(task)})
    # About 7 us each where measured; a look-up that walked the table would need 50 times as long.
    assert time.process_time() - began < 5.0
    patterns = {f"family{i}/*": {"verifiers": {"exact": 1.0}} for i in range(30)} | {"*": {"verifiers": {"exact": 1.0}}}
    routed = Mixture(patterns)
    first = [routed.of(name) for name in names]
    began = time.process_time()
    for _ in range(20):
        assert all(routed.of(name) is mix for name, mix in zip(names, first, strict=True))
    assert time.process_time() - began < 1.0


def test_a_message_about_thousands_of_tasks_stays_short():
    with pytest.raises(ConfigError) as err:
        Mixture({f"t{i}": {"verifiers": {"exact": 1.0}} for i in range(3000)}).of("nothing")
    assert "and 2980 more" in str(err.value) and len(str(err.value)) < 1000


# --- statistics ---------------------------------------------------------------------------------------------------------


def table(rows, path):
    import json

    path.write_text("".join(json.dumps({"step": step, "tasks": tasks}) + "\n" for step, tasks in rows))
    return TaskTable.read(path)


def test_totals_curves_and_gains_by_hand(tmp_path):
    found = table([
        (1, {"up": [4, 0, 1, 1.0, 1, 0], "down": [4, 2, 2, 2.0, 1, 1]}),
        (2, {"up": [4, 0, 3, 3.0, 1, 0]}),
        (3, {"down": [4, 0, 0, 0.4, 1, 1], "dark": [4, 4, 0, 0.0, 1, 1]}),
    ], tmp_path / "tasks.jsonl")  # fmt: skip
    totals = found.totals()
    # up: 4 of 8 reward; down: 2.4 over 6 live; dark: nothing live.
    assert (
        totals["up"].mean_reward == 0.5
        and totals["down"].mean_reward == pytest.approx(0.4)
        and totals["dark"].mean_reward is None
    )
    assert found.shares() == {"up": 0.4, "down": 0.4, "dark": 0.2}
    assert found.curve("up") == [(1.0, 0.25), (2.0, 0.75)] and found.curve("up", bins=1) == [(1.5, 0.5)]
    # up 0.75 - 0.25; down 0.4 / 4 - 2 / 2 = -0.9; dark has no live rollouts.
    assert found.gains(min_rollouts=6) == pytest.approx({"up": 0.5, "down": -0.9})
    top, bottom = found.top_and_bottom(most=1, min_rollouts=6)
    assert [name for name, _ in top] == ["up"] and [name for name, _ in bottom] == ["down"]
    assert found.totals(last=1).keys() == {"down", "dark"}


def test_a_task_is_never_both_top_and_bottom(tmp_path):
    found = table([(i, {name: [8, 0, i, float(i), 1, 0] for name in "abc"}) for i in (1, 2)], tmp_path / "t.jsonl")
    top, bottom = found.top_and_bottom(most=10)
    assert len(top) == 3 and bottom == []


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"step": 1, "tasks": {}}\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"t\.jsonl:2"):
        TaskTable.read(tmp_path / "t.jsonl")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(0, 9)), min_size=1))
def test_counts_add_up(rows):
    whole = TaskCount()
    for rollouts, right, reward in rows:
        whole.add(TaskCount(rollouts, 0, right, reward, 1, 0))
    assert (whole.rollouts, whole.groups) == (sum(row[0] for row in rows), len(rows))
    assert whole.reward == pytest.approx(sum(row[2] for row in rows))


def test_percentiles_by_nearest_rank():
    assert spread([]) is None and spread([0.5]) == (0.5, 0.5, 0.5)
    assert spread([i / 10 for i in range(11)]) == (0.1, 0.5, 0.9)
