"""Layers, stages by name, and every refusal with its place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.config.compose import compose, from_resolved
from factory.config.render import echo, resolved_yaml
from factory.errors import ConfigError, PluginError


def recipe(tmp_path: Path, text: str, name: str = "mine.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_each_layer_wins_over_the_one_before():
    # group_size of main: schema 8 < embedded (silent) < longer 16 < command line 32; seed: schema 0 < pack 3
    config = compose("toy", recipe="longer", overrides=["stages.main.group_size=32"]).config
    assert config.stages["main"].group_size == 32
    assert compose("toy", recipe="longer").config.stages["main"].group_size == 16
    assert compose("toy").config.stages["main"].group_size == 8
    assert config.seed == 3 and compose("toy", seed=9).config.seed == 9
    assert config.eval.samples == 10 and config.eval.batch_size == 64


def test_sections_merge_and_lists_are_replaced():
    config = compose("toy", recipe="longer", overrides=["pack.digits.high=5"]).config
    assert config.pack == {"digits": {"low": 1, "high": 5}}
    assert config.stages["main"].rounds == [5]
    assert config.stages["warm"].optim.lr == 1e-3 and config.stages["warm"].optim.warmup_steps == 10


def test_stages_run_in_the_order_written_and_new_ones_are_appended():
    assert list(compose("toy", recipe="longer").config.stages) == ["warm", "main", "last"]


def test_after_moves_a_stage():
    added = compose("toy", overrides=["stages.probe={kind: drill, after: warm}"]).config
    assert list(added.stages) == ["warm", "probe", "main"]
    assert list(compose("toy", overrides=["stages.main.after=base"]).config.stages) == ["main", "warm"]


def test_null_removes_a_stage():
    assert list(compose("toy", overrides=["stages.warm=null"]).config.stages) == ["main"]


def test_replace_starts_a_stage_afresh(tmp_path):
    fresh = compose("toy", recipe=recipe(tmp_path, "extends: embedded\nstages:\n  warm: {kind: eval, replace: true}\n")).config
    assert fresh.stages["warm"].kind == "eval" and list(fresh.stages) == ["warm", "main"]
    same_kind = compose("toy", overrides=["stages.warm={kind: drill, replace: true}"]).config
    assert same_kind.stages["warm"].group_size == 8, "the recipe's 4 is forgotten"


def test_base_follows_the_modality_of_the_pack():
    composed = compose("toy")
    assert composed.config.base == "embedded-text"
    assert composed.provenance["base"][-1].where == "modality text of the pack toy"


def test_recipe_file_may_name_the_domain(tmp_path):
    config = compose(None, recipe=recipe(tmp_path, "domain: toy\nextends: longer\n")).config
    assert config.domain == "toy" and config.stages["main"].group_size == 16


def test_paths_are_taken_from_where_they_were_written(tmp_path, monkeypatch):
    (tmp_path / "rows.txt").write_text("1+1")
    written = recipe(tmp_path, "extends: embedded\ndata: {paths: [rows.txt, hub/id]}\n")
    assert compose("toy", recipe=written).config.data.paths == [str(tmp_path / "rows.txt"), "hub/id"]
    monkeypatch.chdir(tmp_path)
    assert compose("toy", data=["rows.txt"]).config.data.paths == [str(tmp_path / "rows.txt")]


def test_command_line_values_are_yaml_and_are_echoed():
    rows = {
        row["key"]: row
        for row in echo(compose("toy", overrides=["pack.a=012", "pack.b=yes", "pack.c=1e-4", "pack.d=2024-01-02", "pack.e="]))
    }
    assert (rows["pack.a"]["value"], rows["pack.a"]["type"]) == ("10", "int")
    assert (rows["pack.b"]["value"], rows["pack.b"]["type"]) == ("true", "bool")
    assert (rows["pack.c"]["value"], rows["pack.c"]["type"]) == ("0.0001", "float")
    assert (rows["pack.d"]["value"], rows["pack.d"]["type"]) == ("'2024-01-02'", "str")
    assert (rows["pack.e"]["value"], rows["pack.e"]["type"]) == ("''", "str")


@pytest.mark.parametrize(
    "overrides", [(), ("stages.main.weights.a=0.5", "mixture.add.exact=2", "precision=bf16", "pack.x={y: [1, {z: 2}]}")]
)
def test_resolved_config_builds_an_equal_one(tmp_path, overrides):
    first = compose("toy", recipe="longer", overrides=overrides)
    second = from_resolved(recipe(tmp_path, resolved_yaml(first), "resolved.yaml"))
    assert second.config == first.config
    assert second.plain == first.plain
    assert resolved_yaml(second) == resolved_yaml(first)


def test_resolved_config_takes_overrides(tmp_path):
    file = recipe(tmp_path, resolved_yaml(compose("toy")), "resolved.yaml")
    assert from_resolved(file, ["stages.main.group_size=32"]).config.stages["main"].group_size == 32
    with pytest.raises(ConfigError, match=r"keeps its domain toy"):
        from_resolved(file, ["domain=other"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stages.main.grup_size=3", r"^--set stages\.main\.grup_size=3: unknown key .* Did you mean 'group_size'\?"),
        ("sed=3", r"unknown key 'sed'\. Did you mean 'seed'\?"),
        ("stages.main.optim.lrr=3", r"Did you mean 'lr'\? Keys in stages\.main\.optim: "),
        ("stages.main.group_size=many", r"stages\.main\.group_size is 'many' \(text\), wanted a whole number"),
        ("stages.main.group_size=2.5", r"is 2\.5 \(float\), wanted a whole number"),
        ("seed=true", r"seed is True \(bool\), wanted a whole number"),
        ("stages.main.rounds=[a]", r"wanted a list, each item a whole number"),
        ("stages.main.weights.a=q", r"stages\.main\.weights\.a is 'q' \(text\), wanted a number"),
        ("stages.main.cap=q", r"wanted a number or null"),
        ("stages.main.optim=5", r"wanted a mapping with the keys lr,"),
        ("stages.main.adapter=null", r"is None \(null\), wanted a mapping with the keys kind,"),
        ("stages.main.mood=brisc", r"wanted one of calm, brisk\. Did you mean 'brisk'\?"),
        ("pack=3", r"pack is 3 \(int\), wanted a mapping"),
        ("mixture.add=3", r"wanted a mapping of names to values, each a number"),
        ("stages.mian.group_size=3", r"stages\.mian has no kind.* Did you mean 'main'\? Stages so far: warm, main\. To add"),
        ("stages.mian=null", r"stages\.mian is null, but no earlier layer has that stage\. Did you mean 'main'\?"),
        ("stages.main.kind=eval", r"is of kind drill \(set at .*embedded\.yaml:8\), this layer says eval\. Add `replace: true`"),
        ("stages.new.kind=dril", r"stages\.new\.kind: unknown stage kind 'dril'\. Did you mean 'drill'\?"),
        ("stages.New={kind: drill}", r"'New' cannot name a stage\. Use lower-case letters"),
        ("stages.base={kind: drill}", r"'base' cannot name a stage"),
        ("stages=null", r"To remove one stage write `stages: \{NAME: null\}`"),
        ("stages.main=3", r"stages\.main is 3, wanted a mapping of settings or null"),
        ("stages.main={replace: 3}", r"stages\.main\.replace is 3, wanted true or false"),
        ("stages.main.after=wram", r"stages\.main\.after is 'wram'\. Did you mean 'warm'\? Use base or one of: warm"),
        ("stages.warm.start=main", r"stages\.warm\.start is 'main', which is no stage before it.*move it with `after:`"),
        ("seed=???", r"settings cannot refer to others"),
        ("pack.x=['${seed}']", r"settings cannot refer to others with \$\{\.\.\.\} or \?\?\?\. Write the value out"),
        ("stages.main.optim.lr=.nan", r"stages\.main\.optim\.lr is nan; numbers are finite\. Write one"),
        ("pack.x=[1, {y: -.inf}]", r"pack\.x is -inf; numbers are finite"),
        ("domain=other", r"use --domain other; it decides which other layers are read"),
        ("group_size", r"must look like --set stages\.rl\.group_size=16"),
        ("a..b=1", r"a dotted key, '=', a value"),
        ("seed=[1", r"the value is not valid YAML"),
        ("mixture.sub.exact=1", r"the pack toy has no task 'sub'\. Tasks: add"),
        ("mixture.add.exact=-1", r"mixture\.add\.exact is -1\.0; weights are finite and 0 or more"),
        ("base=embedded-txt", r"Did you mean 'embedded-text'\? The embedded bases are"),
        ("stages.main.group_size=1", r"--set stages\.main\.group_size=1: stages\.main\.group_size is 1; a group needs 2 or more"),
        ("stages.main.adapter={kind: lora, targets: ''}", r"adapter would train nothing\. Set it to all-linear"),
    ],
)  # fmt: skip
def test_wrong_override_is_refused_with_place_and_remedy(override, told):
    with pytest.raises(ConfigError, match=told):
        compose("toy", overrides=[override])


@pytest.mark.parametrize(
    "override",
    [
        "stages.main.optim.lr=0", "stages.main.optim.beta2=1",
        "eval.samples=0",
        "stages.main.optim.min_lr_ratio=1.5", "stages.main.optim.clip_norm=-1", "stages.main.adapter.rank=0",
        "stages.main.adapter.dropout=1",
        "data.max_bad_fraction=2", "pool.workers=0", "pool.timeout_s=0", "pool.memory_mib=1", "pool.max_error_rate=-0.1",
        "launch.processes=0", "launch.zero_stage=4", "launch.threads=0", "seed=-1", "eval.bootstrap=0",
    ],
)  # fmt: skip
def test_value_out_of_range_is_refused_with_its_key_and_range(override):
    key = override.partition("=")[0].replace(".", r"\.")
    with pytest.raises(
        ConfigError, match=rf"^--set {key}=.*: {key} is .*; it must be .*\. Set {key} to a value in that range\.$"
    ):
        compose("toy", overrides=[override])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends: embedded\nstages:\n  main:\n    optim:\n      learnrate: 1\n", r"mine\.yaml:5: unknown key .*\.learnrate'"),
        ("stages:\n  a: {kind: drill}\n  a: {kind: drill}\n", r"mine\.yaml:3: the key 'stages\.a' was already written on line 2"),
        ("seed: [1\n", r"mine\.yaml:\d+: not valid YAML: .*Check indentation and quotes"),
        ("- a\n", r"mine\.yaml:1: must be a mapping of settings"),
        ("1: a\n", r"mine\.yaml:1: the key 1 is a int, keys are text\. Quote it: '1'"),
        ("pack: &a\n  b: *a\n", r"mine\.yaml:\d+: (a YAML alias contains itself|not valid YAML)"),
        ("extends: [a]\n", r"mine\.yaml:1: extends must be one recipe name or path"),
        ("extends: embeded\n", r"mine\.yaml:1: the pack toy has no recipe 'embeded'\. Did you mean 'embedded'\? It has: emb"),
        ("extends: ./gone.yaml\n", r"mine\.yaml:1: the recipe file .*gone\.yaml does not exist"),
        ("domain: other\n", r"mine\.yaml:1: the recipe is for domain 'other', the command says --domain toy"),
        ("stages: {x: {kind: drill, group_size: 1}}\n", r"mine\.yaml:1: stages\.x\.group_size is 1"),
    ],
)  # fmt: skip
def test_wrong_recipe_is_refused_with_file_and_line(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        compose("toy", recipe=recipe(tmp_path, text))


def test_recipes_that_extend_each_other_are_refused(tmp_path):
    recipe(tmp_path, "extends: ./b.yaml\n", "a.yaml")
    recipe(tmp_path, "extends: ./a.yaml\n", "b.yaml")
    with pytest.raises(
        ConfigError, match=r"b\.yaml:1: recipes extend each other in a circle: .*a\.yaml -> .*b\.yaml -> .*a\.yaml"
    ):
        compose("toy", recipe=str(tmp_path / "a.yaml"))


def test_recipe_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot be read: .*UTF-8"):
        compose("toy", recipe=str(tmp_path / "mine.yaml"))


def test_missing_domain_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no domain is given\. Add --domain NAME"):
        compose(None)
    with pytest.raises(ConfigError, match=r"the recipe 'embedded' is looked up in a domain pack"):
        compose(None, recipe="embedded")
    with pytest.raises(ConfigError, match=r"names no domain\. Add `domain: NAME`"):
        compose(None, recipe=recipe(tmp_path, "seed: 1\n"))
    with pytest.raises(ConfigError, match=r"has no domain, so it is not a resolved config"):
        from_resolved(recipe(tmp_path, "seed: 1\n"))
    with pytest.raises(PluginError, match=r"unknown domain pack 'tyo'\. Did you mean 'toy'\?"):
        compose("tyo")


def test_data_that_does_not_exist_is_refused_before_work(tmp_path):
    from factory.config.validate import require_data

    composed = compose("toy", data=[str(tmp_path / "gone")])
    with pytest.raises(
        ConfigError, match=r"^--data .*gone: data path '.*gone' does not exist\. Check the path; a hub data set needs --online"
    ):
        require_data(composed.config, composed.provenance)
    allowed = compose("toy", data=["hub/id"], online=True)
    require_data(allowed.config, allowed.provenance)


def test_merge_keys_of_yaml_work(tmp_path):
    text = "extends: embedded\nstages:\n  x: &x {kind: drill, group_size: 6}\n  y:\n    <<: *x\n    cap: 2\n"
    stages = compose("toy", recipe=recipe(tmp_path, text)).config.stages
    assert (stages["y"].group_size, stages["y"].cap) == (6, 2.0)
