"""Which layer set a value: the chain, its places, and how it is shown."""

from __future__ import annotations

import pytest
import yaml

from factory.config.compose import compose, from_resolved
from factory.config.render import provenance_yaml, resolved_yaml, why_text
from factory.errors import ConfigError


def test_chain_names_every_layer_and_its_line():
    chain = compose("toy", recipe="longer", overrides=["stages.main.group_size=0x20"]).provenance["stages.main.group_size"]
    assert [(origin.layer, origin.value) for origin in chain] == [("default", 8), ("recipe", 16), ("command line", 32)]
    assert chain[0].where == "factory_pack_toy.drill.DrillConfig"
    assert chain[1].where.endswith("factory_pack_toy/recipes/longer.yaml:4")
    assert chain[2].where == "--set stages.main.group_size=0x20"


def test_pack_defaults_have_their_line_in_pack_yaml():
    origin = compose("toy").provenance["seed"][-1]
    assert (origin.layer, origin.value) == ("pack", 3)
    assert origin.where.endswith("factory_pack_toy/pack.yaml:13")


def test_why_marks_the_layer_that_won():
    text = why_text(compose("toy", recipe="longer"), "stages.main.group_size")
    lines = text.splitlines()
    assert lines[0] == "stages.main.group_size = 16"
    assert lines[1].split() == ["default", "8", "(factory_pack_toy.drill.DrillConfig)"]
    assert lines[2].split()[:3] == ["won", "recipe", "16"]


def test_why_of_a_section_shows_each_leaf():
    text = why_text(compose("toy"), "stages.main.adapter")
    assert [line.split(" = ")[0] for line in text.splitlines() if not line.startswith(" ")] == [
        f"stages.main.adapter.{leaf}" for leaf in ("kind", "rank", "alpha", "dropout", "targets")
    ]


def test_why_of_an_unknown_key_gives_a_near_miss():
    with pytest.raises(
        ConfigError, match=r"no setting is called 'stages\.main\.grup_size'\. Did you mean 'stages\.main\.group_size'\?"
    ):
        why_text(compose("toy"), "stages.main.grup_size")


def test_every_leaf_of_the_config_has_a_chain_that_ends_in_its_value(tmp_path):
    composed = compose("toy", recipe="longer", overrides=["stages.last.weights={a: 1}", "pack.digits=4", "mixture.add.exact=1"])

    def leaves(value, path=()):
        if isinstance(value, dict) and value:
            for key, inside in value.items():
                yield from leaves(inside, (*path, key))
        elif not isinstance(value, dict):
            yield ".".join(path), value

    found = dict(leaves(composed.plain))
    assert {key: composed.provenance[key][-1].value for key in found} == found
    assert set(composed.provenance) == set(found)
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(composed))
    again = from_resolved(tmp_path / "resolved.yaml").provenance["stages.main.group_size"][-1]
    assert again.layer == "resolved" and "resolved.yaml:" in again.where


def test_removed_and_replaced_stages_leave_no_stale_chain():
    removed = compose("toy", overrides=["stages.warm=null"]).provenance
    assert [key for key in removed if key.startswith("stages.warm")] == ["stages.warm"]
    assert removed["stages.warm"][-1].value is None
    replaced = compose("toy", overrides=["stages.warm={kind: drill, replace: true}"]).provenance
    assert [origin.layer for origin in replaced["stages.warm.group_size"]] == ["default"]


def test_provenance_file_is_plain_yaml():
    rows = yaml.safe_load(provenance_yaml(compose("toy")))
    assert rows["eval.samples"][-1]["value"] == 10 and rows["eval.samples"][-1]["layer"] == "pack"
