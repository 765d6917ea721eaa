"""Averages of real tiny model folders, against sums done here by hand."""

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from factory.errors import ModelError
from factory.stages.merge.average import weighted_mean
from factory.stages.models.load import load


def weights(folder):
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def changed_copy(source, folder, change):
    """A copy of a model folder whose tensors went through `change`."""
    shutil.copytree(source, folder)
    save_file(change(load_file(source / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_average_by_hand():
    # shares 1/4 and 3/4: 0.25 * 8 + 0.75 * 4 = 5; 0.25 * -4 + 0.75 * 0 = -1
    got = weighted_mean([torch.tensor([8.0, -4.0]), torch.tensor([4.0, 0.0])], [0.25, 0.75])
    assert got.dtype == torch.float64 and got.tolist() == [5.0, -1.0]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
)
def test_average_lies_between_its_sources_and_ignores_their_order(rows, random):
    tensors = [torch.tensor(row) for row in rows]
    shares = [1 / len(rows)] * len(rows)
    got = weighted_mean(tensors, shares)
    stacked = torch.stack(tensors).double()
    assert (got >= stacked.amin(0) - 1e-6).all() and (got <= stacked.amax(0) + 1e-6).all()
    random.shuffle(tensors)
    torch.testing.assert_close(weighted_mean(tensors, shares), got, rtol=1e-12, atol=1e-8)


def test_uniform_average_of_two_models(run_stage, base, sibling):
    workdir, outputs = run_stage({"long": base, "short": sibling})
    one, two, got = weights(base), weights(sibling), weights(workdir / "model")
    assert got.keys() == one.keys()
    for name, tensor in got.items():
        assert torch.equal(tensor, ((one[name].double() + two[name].double()) / 2).float()), name
    assert outputs.model == "model" and outputs.metrics["tensors"] == len(one)
    # Both lie equally far from their middle.
    distance = outputs.metrics["distance"]
    assert distance["long"] == pytest.approx(distance["short"], rel=1e-6) and distance["long"] > 0


def test_given_weights_are_shares_of_their_sum(run_stage, base, sibling):
    workdir, outputs = run_stage({"long": base, "short": sibling}, weights=[1.0, 3.0])
    one, two, got = weights(base), weights(sibling), weights(workdir / "model")
    assert all(torch.equal(got[n], (0.25 * one[n].double() + 0.75 * two[n].double()).float()) for n in got)
    assert outputs.metrics["shares"] == {"long": 0.25, "short": 0.75}


@pytest.mark.parametrize("count", [2, 3, 7])
def test_average_with_itself_is_itself_bit_for_bit(run_stage, sibling, count):
    # A third in float64 is off by 1 part in 2^53, far below half a step of float32, so rounding gives the weight back.
    workdir, outputs = run_stage({f"stage{i}": sibling for i in range(count)})
    assert same(weights(workdir / "model"), weights(sibling))
    assert all(distance < 1e-15 for distance in outputs.metrics["distance"].values())


def test_averaged_folder_loads_with_tied_embeddings(run_stage, base, sibling):
    workdir, _ = run_stage({"long": base, "short": sibling})
    model = load(workdir / "model", precision="fp32").model
    assert "lm_head.weight" not in weights(workdir / "model")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    middle = (weights(base)["model.embed_tokens.weight"].double() + weights(sibling)["model.embed_tokens.weight"].double()) / 2
    assert torch.equal(model.lm_head.weight, middle.float())


def test_tied_weights_stored_twice_are_the_same_model(run_stage, base, sibling, tmp_path):
    twice = changed_copy(
        sibling, tmp_path / "twice" / "model", lambda w: w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()}
    )
    workdir, _ = run_stage({"long": base, "short": twice})
    one, two = weights(base), weights(sibling)
    assert same(weights(workdir / "model"), {n: ((one[n].double() + two[n].double()) / 2).float() for n in one})
    assert not (workdir / "scratch").exists()


def test_adapter_is_merged_before_it_is_averaged(run_stage, base, adapter, tmp_path):
    from factory.stages.models.export import merge

    workdir, _ = run_stage({"base": base, "rl": adapter})
    one, two = weights(base), weights(merge(adapter, tmp_path / "merged"))
    assert not same(one, two), "the adapter changes the weights"
    assert same(weights(workdir / "model"), {n: ((one[n].double() + two[n].double()) / 2).float() for n in one})
    assert not (workdir / "model" / "adapter_chain.json").exists() and not (workdir / "scratch").exists()


def test_shards_keep_their_layout(run_stage, base, sibling, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "shards" / "model"
    shutil.copytree(base, folder)
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    workdir, _ = run_stage({"sharded": folder, "whole": sibling})
    one, two = weights(base), weights(sibling)
    assert same(weights(workdir / "model"), {n: ((one[n].double() + two[n].double()) / 2).float() for n in one})
    index = json.loads((workdir / "model" / "model.safetensors.index.json").read_text())["weight_map"]
    assert index.keys() == one.keys()
    load(workdir / "model", precision="fp32")


def test_widest_number_format_wins(run_stage, base, sibling, tmp_path):
    half = changed_copy(base, tmp_path / "half" / "model", lambda w: {n: t.bfloat16() for n, t in w.items()})
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    workdir, _ = run_stage({"half": half, "full": sibling})
    one, two = weights(half), weights(sibling)
    assert same(weights(workdir / "model"), {n: ((one[n].double() + two[n].double()) / 2).float() for n in two})
    assert json.loads((workdir / "model" / "config.json").read_text())["dtype"] == "float32"


def test_averaging_twice_gives_the_same_bytes(run_stage, base, sibling, tmp_path):
    workdir, _ = run_stage({"long": base, "short": sibling})
    first = (workdir / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(workdir)
    workdir, _ = run_stage({"long": base, "short": sibling})
    assert (workdir / "model" / "model.safetensors").read_bytes() == first


def test_other_shapes_are_refused(run_stage, base, tmp_path):
    def grown(w):
        return w | {"model.norm.weight": torch.cat([w["model.norm.weight"]] * 2)}

    other = changed_copy(base, tmp_path / "other" / "model", grown)
    with pytest.raises(ModelError, match=r"model.norm.weight is \[128\] in long and \[256\] in other"):
        run_stage({"long": base, "other": other})


def test_other_settings_are_refused(run_stage, base, tmp_path):
    other = tmp_path / "other" / "model"
    shutil.copytree(base, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    with pytest.raises(ModelError, match=r"config.json: rms_norm_eps is 1e-06 in long and 0.5 in other"):
        run_stage({"long": base, "other": other})


def test_other_tokenizer_is_refused(run_stage, base, tmp_path):
    other = tmp_path / "other" / "model"
    shutil.copytree(base, other)
    tokens = json.loads((other / "tokenizer.json").read_text())
    tokens["added_tokens"][-1]["content"] = "<other>"
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(ModelError, match=r"long and other differ in tokenizer.json"):
        run_stage({"long": base, "other": other})


def test_weights_that_are_not_finite_are_refused(run_stage, base, tmp_path):
    other = changed_copy(
        base, tmp_path / "nan" / "model", lambda w: w | {"model.norm.weight": w["model.norm.weight"] * float("nan")}
    )
    with pytest.raises(ModelError, match=r"burst: tensor model.norm.weight holds values that are not finite"):
        run_stage({"long": base, "burst": other})


def test_stage_that_was_not_handed_over_is_refused(run_stage, base):
    with pytest.raises(ModelError, match=r"names 'shorter', but its folder is not here. Did you mean 'short'\?"):
        run_stage({"short": base}, reads=["short", "shorter"])


def test_only_the_first_process_writes(run_stage, base, sibling, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    workdir, outputs = run_stage({"long": base, "short": sibling})
    assert outputs.model == "model" and not list(workdir.iterdir())
