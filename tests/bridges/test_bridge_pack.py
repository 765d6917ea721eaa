"""A pack made of bridges: routing by pattern, all tasks in turn, and RL steps over more than 1,000 tasks."""

import json
import time
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
import thousand_tasks

from factory.contracts import DataRequest, Manifest
from factory.errors import ConfigError, DataError
from factory.rewards.bridges.bootcamp import Bootcamps
from factory.rewards.bridges.pack import BridgePack, interleaved, manifest_tasks
from factory.rewards.bridges.puzzles import CAMPS
from factory.rewards.mixture import Mixture
from factory.rewards.task_stats import TaskTable


def manifest(bridges):
    return Manifest(
        name="puzzles",
        title="Puzzles",
        version="1",
        license="MIT",
        intended_use="tests",
        not_for="else",
        tasks=manifest_tasks(bridges),
    )


def test_one_pattern_routes_all_tasks_of_a_library():
    bridges = (Bootcamps(CAMPS),)
    assert manifest_tasks(bridges) == {"bootcamp/*": {"verifiers": {"bootcamp": 1.0}, "gate": None, "title": "tasks of bootcamp"}}
    mixture = Mixture(manifest_tasks(bridges))
    assert all(mixture.verifiers_for(task) == ("bootcamp",) for task in bridges[0].tasks())


def test_two_bridges_may_not_share_a_prefix_or_a_name():
    with pytest.raises(ConfigError, match="prefix"):
        manifest_tasks((Bootcamps(CAMPS), Bootcamps(CAMPS, name="other")))
    with pytest.raises(ConfigError, match="verifier name"):
        manifest_tasks((Bootcamps(CAMPS), thousand_tasks.Counting(name="bootcamp")))


def test_all_tasks_come_in_turn_and_dry_ones_drop_out():
    bridge = thousand_tasks.Counting(num_tasks=3, sizes={"count/1": 1})
    first = [sample.task for sample in islice(interleaved((bridge,), "train", 0), 7)]
    turn = first[:3]
    # Every task once, in an order drawn with the seed; then the same turn without the one that has run dry.
    assert sorted(turn) == ["count/0", "count/1", "count/2"]
    assert first[3:] == 2 * [task for task in turn if task != "count/1"]
    orders = {tuple(s.task for s in islice(interleaved((bridge,), "train", seed), 3)) for seed in range(20)}
    assert len(orders) > 1


def test_a_pack_gives_lessons_that_its_verifier_pays():
    bridges = (thousand_tasks.Counting(num_tasks=5),)
    pack = BridgePack(manifest(bridges), bridges)
    mixture, verifiers = Mixture(pack.manifest.tasks), pack.verifiers()
    lessons = list(pack.lessons("train", 0, DataRequest(limit=10)))
    assert len(lessons) == 10 and len(list(pack.corpus("train", 0, DataRequest(limit=4)))) == 4
    for lesson in lessons:
        (name,) = mixture.verifiers_for(lesson.sample.task)
        assert verifiers[name](lesson.response, lesson.sample).score == 1.0 and pack.gold(lesson.sample) == lesson.response
    assert [s.id for s in pack.samples("train", 0, DataRequest(limit=5))] == [lesson.sample.id for lesson in lessons[:5]]
    assert next(iter(pack.evals().values())).primary


@pytest.mark.parametrize("num_tasks", [1500])
def test_rl_over_1500_tasks_keeps_counts_and_no_columns(num_tasks, tmp_path):
    """Real stage, real model, real pool: what a step logs does not grow with the number of tasks."""
    from factory.config.schema import OptimConfig
    from factory.contracts import RunContext
    from factory.stages.models.embedded import make_embedded
    from factory.stages.rl import STAGE
    from factory.stages.rl.config import RlConfig

    bridges = (thousand_tasks.Counting(num_tasks=num_tasks),)
    pack = BridgePack(manifest(bridges), bridges)
    base = make_embedded("embedded-text", tmp_path / "base", seed=0, texts=["count 1 2 3 is"] * 20)
    rows = []
    config = RlConfig(
        preset="grpo",
        num_steps=2,
        samples=num_tasks,
        prompts_per_step=32,
        group_size=2,
        max_new_tokens=4,
        optim=OptimConfig(checkpoint_every=0),
    )
    build = {
        "precision": "fp32",
        "mixture": {"count/7*": {"count": 2.0}},
        "launch": {},
        "pool": {"workers": 1, "max_error_rate": 1.0},
    }
    ctx = RunContext(
        stage="rl", workdir=tmp_path, model_dir=base, pack=pack, domain="thousand_tasks:VERIFIERS", seed=1, request=DataRequest(),
        build=build, log=lambda **row: rows.append(row),
    )  # fmt: skip
    began = time.process_time()
    STAGE.run(config, ctx)
    assert time.process_time() - began < 60
    assert rows[0]["tasks/drawn"] == 32 and not any(name.startswith("task/") for name in rows[0])
    assert len(rows[0]) < 60
    table = TaskTable.read(tmp_path / "tasks.jsonl")
    assert len(table.steps) == 2 and len(table.totals()) == 64
    assert sum(count.rollouts for count in table.totals().values()) == 2 * 32 * 2
    assert (tmp_path / "tasks.jsonl").stat().st_size < 64 * 80


def test_columns_come_for_few_tasks_only():
    from factory.stages.rl.rollouts import Group, Rollout
    from factory.stages.rl.task_figures import task_figures

    def group(task, values):
        mixture = Mixture({"*": {"verifiers": {"count": 1.0}}})
        found = []
        for index, value in enumerate(values):
            rollout = Rollout(0, index, [1], [0.0], finished=True, version=0)
            from factory.contracts import Status, Verdict

            status = Status.error if value is None else Status.ok if value == 1 else Status.wrong
            rollout.reward = mixture.combine(task, {"count": Verdict(value or 0.0, status, "so")})
            rollout.right = value == 1
            found.append(rollout)
        return Group(SimpleNamespace(task=task, id=task), found)

    groups = [group("a", [1, 0]), group("b", [1, None]), group("a", [1, 1])]
    assert task_figures(groups, 2) == pytest.approx({
        "task/a/reward": 0.75, "task/a/pass": 0.75, "task/a/share": 2 / 3, "task/b/reward": 1.0, "task/b/pass": 1.0, "task/b/share": 1 / 3,
    })  # fmt: skip
    assert task_figures(groups, 1) == {}
    assert task_figures(groups, 13) == {"tasks/drawn": 2.0, "tasks/pass_p10": 0.75, "tasks/pass_p50": 0.75, "tasks/pass_p90": 1.0}


def test_the_stream_over_a_thousand_tasks_is_fast():
    bridge = thousand_tasks.Counting(num_tasks=1500)
    began = time.process_time()
    tasks = Counter(sample.task for sample in islice(interleaved((bridge,), "train", 0), 3000))
    assert time.process_time() - began < 2 and set(tasks.values()) == {2} and json.dumps(tasks)


def test_a_pack_of_several_bridges_is_measured_over_all_tasks():
    """The eval by which stages are compared judges each sample by its own library."""
    bridges = (thousand_tasks.Counting(num_tasks=2), Bootcamps(CAMPS))
    pack = BridgePack(manifest(bridges), bridges)
    (primary,) = [one for one in pack.evals().values() if one.primary]
    routed = pack.verifiers()[primary.verifier]
    assert primary.tasks == () and routed.version == "bootcamp=2 count=1"
    samples = list(pack.samples("test", 0, DataRequest(limit=6)))
    assert {sample.task.partition("/")[0] for sample in samples} == {"count", "bootcamp"}
    for sample in samples:
        if sample.task.startswith("count/"):
            assert routed(pack.gold(sample), sample).score == 1.0
        assert routed("", sample).score == 0.0
    with pytest.raises(DataError, match="no bridge has tasks other/"):
        routed("", SimpleNamespace(id="x", task="other/one"))


def test_files_for_a_pack_that_reads_none_are_refused():
    pack = BridgePack(manifest((thousand_tasks.Counting(),)), (thousand_tasks.Counting(),))
    with pytest.raises(DataError, match="takes no files"):
        list(pack.samples("train", 0, DataRequest(paths=("rows.jsonl",), limit=1)))
