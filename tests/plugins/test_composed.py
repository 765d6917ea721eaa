"""Several packs as one: shares, names, rewards, evals, config, and a build that mixes, then one that adds a domain to a model."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.config.compose import compose, from_resolved
from factory.contracts import DataRequest, Eval
from factory.errors import ConfigError, DataError, UnknownPlugin
from factory.packs.composed import as_own, counted, interleaved, order_of, read_mix, under
from factory.pipeline.fingerprint import pack_source
from factory.plugins import load_pack, manifest_of
from factory.rewards.mixture import Mixture
from factory.rewards.watch import fixtures_of


@pytest.fixture
def two(site):
    """Two packs of sums; the second has no corpus, and options of its own."""
    for name in ("sums", "plus"):
        site.add_arith(name)
    yaml = site.folder / "plus" / "pack.yaml"
    yaml.write_text(
        yaml.read_text().replace("modality: text", "modality: text\nprovides: [lessons, samples]\ndefaults: {pack: {deep: 1}}")
    )
    recipe = site.folder / "plus" / "recipes" / "embedded.yaml"
    recipe.write_text("pack: {shallow: 2}\n" + recipe.read_text())
    return site


def drawn(role, split, limit=20, **options):
    return list(getattr(load_pack("sums,plus"), role)(split, 0, DataRequest(limit=limit, options=options)))


def test_training_items_come_in_the_shares_of_the_mix_and_held_out_ones_equally(two):
    mix = {"sums": 0.75, "plus": 0.25}
    lessons = [one.sample.id for one in drawn("lessons", "train", mix=mix)]
    assert Counter(name.split("/")[0] for name in lessons) == {"sums": 15, "plus": 5}
    assert [name.split("/")[0] for name in lessons[:4]] == ["sums", "sums", "plus", "sums"], (
        "evenly mixed: place 1 s, 2 s .5/.5, 3 p, 4 s"
    )
    assert [one.sample.id for one in drawn("lessons", "train", 5, mix=mix)] == lessons[:5]
    tests = drawn("samples", "test", mix=mix)
    assert Counter(one.task for one in tests) == {"sums/sum": 10, "plus/sum": 10}
    assert {one.id.split("/")[0] for one in drawn("corpus", "train", mix=mix)} == {"sums"}, "plus has none"
    assert len(list(load_pack("sums,plus").samples("test", 0, DataRequest()))) == 200, "without a limit: all that each has"


def test_a_member_alone_gives_the_same_items(two):
    own = list(load_pack("plus").samples("train", 3, DataRequest(limit=4)))
    mixed = [one for one in load_pack("sums,plus").samples("train", 3, DataRequest(limit=8)) if one.task == "plus/sum"]
    assert [as_own("plus", one) for one in mixed] == own
    grouped = replace(own[0], meta={"group": "g"})
    assert under("plus", grouped).meta["group"] == "plus/g" and as_own("plus", under("plus", grouped)) == grouped


def test_each_sample_is_scored_as_in_its_own_pack(two):
    pack = load_pack("sums,plus")
    verifiers, mixture = pack.verifiers(), Mixture(pack.manifest.tasks)
    assert set(verifiers) == {"sums/exact", "sums/format", "plus/exact", "plus/format", "accuracy"}
    assert all(verifier.name == name and verifier.version for name, verifier in verifiers.items())
    sample = drawn("samples", "train")[0]
    right, wrong = (f"<think>a</think><answer>{text}</answer>" for text in (sample.reference, "0"))
    for text, value in ((right, 1.0), (wrong, 0.1 / 1.1)):
        verdicts = {name: verifiers[name](text, sample) for name in mixture.verifiers_for(sample.task)}
        assert mixture.combine(sample.task, verdicts).value == pytest.approx(value)
        assert verifiers["accuracy"](text, sample).score == float(text == right)
    with pytest.raises(ValueError, match=r"packs are sums, plus"):
        verifiers["accuracy"](right, replace(sample, task="else/sum"))
    assert {one.verifier.split("/")[0] for one in fixtures_of("sums,plus")} == {"sums", "plus"}


def test_the_manifest_says_what_each_says(two):
    manifest = manifest_of("sums,plus")
    assert manifest.name == "sums,plus" and manifest.version == "1.0.0+1.0.0" and manifest.license == "Apache-2.0"
    assert set(manifest.tasks) == {"sums/sum", "plus/sum"} and manifest.tasks["plus/sum"]["verifiers"] == {
        "plus/exact": 1.0,
        "plus/format": 0.1,
    }
    assert [row["id"] for row in manifest.data] == ["sums/arith", "plus/arith"] and manifest.provides == (
        "corpus",
        "lessons",
        "samples",
    )
    assert manifest_of("sums,pathology").modality == "vl"
    assert pack_source("sums,plus") != pack_source("plus,sums") != pack_source("plus")


def test_evals_and_probes_of_the_members_see_their_own(two, monkeypatch):
    pack = load_pack("sums,plus")
    seen = {}

    def probe(view, split, seed):
        seen.update(answers=view.answers, options=dict(view.request.options), width=view.width)
        return {"x": 1.0}

    own = {"accuracy": Eval("accuracy", verifier="exact", primary=True),
           "probe": Eval("probe", "probe", probe=probe), "form": Eval("form", verifier="format")}  # fmt: skip
    monkeypatch.setattr(type(pack.packs["plus"]), "evals", lambda self: own)
    evals = pack.evals()
    assert evals["accuracy"].primary and sum(one.primary for one in evals.values()) == 1
    assert evals["plus/form"].verifier == "plus/format" and evals["plus/form"].tasks == ("plus/sum",)

    view = SimpleNamespace(
        request=DataRequest(limit=6, options={"plus": {"deep": 3}}), answers={"plus/a": "A", "sums/a": "B"}, width=7
    )
    assert evals["plus/probe"].probe(view, "test", 0) == {"x": 1.0}
    assert seen == {"answers": {"a": "A"}, "options": {"deep": 3}, "width": 7}


def test_the_config_keeps_each_packs_options_apart(two):
    composed = compose("sums,plus", mix="3,1", overrides=["pack.sums.wide=true", "mixture.sums/sum.sums/format=0"])
    assert composed.plain["pack"] == {
        "plus": {"deep": 1, "shallow": 2},
        "mix": {"sums": 3.0, "plus": 1.0},
        "sums": {"wide": True},
    }
    assert list(composed.config.stages) == ["sft"], "the leading pack's recipe"
    assert composed.provenance.where(("pack", "plus", "shallow")).endswith("plus/recipes/embedded.yaml:1")
    assert read_mix(composed.plain["pack"], ("sums", "plus")) == {"sums": 0.75, "plus": 0.25}


def test_a_resolved_config_composes_again(two, tmp_path):
    from factory.config.render import resolved_yaml

    composed = compose("sums,plus", mix="0.6,0.4")
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(composed))
    assert from_resolved(tmp_path / "resolved.yaml").plain == composed.plain


@pytest.mark.parametrize(
    "domain, mix, told",
    [
        ("sums,plus", "0.6", "has 1 shares, --domain sums,plus has 2 packs"),
        ("sums", "1", "has 1 packs. Give one share for each"),
        ("sums,plus", "a,b", "want a number for each pack"),
    ],
)
def test_a_mix_that_does_not_fit_is_refused(two, domain, mix, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        compose(domain, mix=mix)


@pytest.mark.parametrize(
    "options, told",
    [
        ({"mix": {"sums": 1.0}}, "pack.mix.plus is None"),
        ({"mix": {"sums": 1.0, "pluz": 1.0}}, "Did you mean 'plus'"),
        ({"mix": {"sums": -1.0, "plus": 1.0}}, "pack.mix.sums is -1.0"),
        ({"mix": {"sums": 0.0, "plus": 0.0}}, "gives no pack a share above 0"),
        ({"mix": [1, 2]}, "want a share for each pack"),
        ({"deep": 3}, "options stand under their pack's name. Write, for example, pack.sums.deep"),
        ({"plus": 3}, "want a mapping of that pack's options"),
    ],
)
def test_wrong_options_name_the_key(two, options, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        drawn("samples", "train", **options)


def test_data_paths_need_an_owner_and_a_domain_its_names_once(two):
    with pytest.raises(ConfigError, match=re.escape("--set pack.sums.paths=[PATH]")):
        list(load_pack("sums,plus").samples("train", 0, DataRequest(paths=("x",))))
    with pytest.raises(DataError, match=r"unknown split 'dev'"):
        list(load_pack("sums,plus").samples("dev", 0, DataRequest()))
    for domain in ("sums,sums", "sums,"):
        with pytest.raises(UnknownPlugin, match=r"names a pack twice or leaves one empty"):
            load_pack(domain)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(0, 200))
def test_a_share_is_kept_at_every_length(weights, limit):
    named = {str(index): weight for index, weight in enumerate(weights)}
    counts = counted(named, limit)
    assert sum(counts.values()) == limit
    for name, weight in named.items():
        assert abs(counts[name] - limit * weight / sum(weights)) <= len(weights), (
            "never further from its share than the number of packs"
        )
    assert Counter(islice(order_of(named), limit)) == Counter({name: count for name, count in counts.items() if count})


def test_a_source_that_ends_leaves_its_places_to_none():
    found = list(interleaved({"a": iter([1, 2]), "b": iter("vwxyz")}, {"a": 1.0, "b": 1.0}))
    assert found == [("a", 1), ("b", "v"), ("a", 2), ("b", "w"), ("b", "x"), ("b", "y"), ("b", "z")]


SMALL = ("--set", "eval.samples=12", "--set", "eval.validation_samples=6", "--set", "eval.max_new_tokens=8", "--set", "eval.bootstrap=50",
         "--set", "pool.workers=1")  # fmt: skip


@pytest.mark.slow
def test_a_build_on_two_packs_reports_each_and_a_domain_is_added_to_its_model(two, factory, tmp_path):
    done = factory("build", "--domain", "sums,plus", "--mix", "0.75,0.25", "--run", "both", "--json", *SMALL)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout)
    assert {name: [row["n"] for row in rows] for name, rows in outcome["domains"].items()} == {"sums": [6, 6], "plus": [6, 6]}
    page = (tmp_path / "home" / "runs" / "both" / "report.html").read_text()
    assert "<h2>By domain</h2>" in page and "<td>plus</td>" in page
    lessons = json.loads((tmp_path / "home" / "runs" / "both" / "plan.json").read_text())
    assert lessons["pack"]["name"] == "sums,plus"
    # A third domain on top of the finished model, with a quarter of rehearsal; the earlier pack's rows tell what was forgotten.
    two.add_arith("third")
    export = factory("export", outcome["result"]["model"]["id"], tmp_path / "first")
    assert export.returncode == 0, export.stderr[-2000:]
    added = factory(
        "build", "--domain", "third,sums", "--mix", "0.75,0.25", "--base", tmp_path / "first", "--run", "added", "--json", *SMALL
    )
    assert added.returncode == 0, added.stderr[-3000:]
    rows = json.loads(added.stdout)["domains"]["sums"]
    assert [row["stage"] for row in rows] == ["base", "sft"] and all(row["n"] == 6 and row["value"] is not None for row in rows)
