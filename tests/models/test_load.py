"""Load, train, save, merge, export: what is written is what plain transformers and peft read, with the same logits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from factory.config.schema import AdapterConfig, AdapterKind
from factory.contracts import IMAGE, Message
from factory.errors import ModelError
from factory.stages.models.export import export, merge
from factory.stages.models.facts import model_facts
from factory.stages.models.forward import model_inputs, token_logprobs
from factory.stages.models.load import LoadedModel, load, save

from .conftest import TEXT_MODELS, VL_MODELS, png

ADAPTERS = {kind: AdapterConfig(kind=AdapterKind(kind), rank=4, alpha=8) for kind in ("none", "lora", "dora")}


def batch_of(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    if loaded.modality == "vl":
        return loaded.codec.collate([loaded.codec.lesson([Message("user", f"{IMAGE} stain?")], "dense", (png(1, 80, 70),))])
    return loaded.codec.collate([loaded.codec.lesson([Message("user", "the stain of the gland?")], "dense")])


def train(loaded: LoadedModel, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW([p for p in loaded.model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch_of(loaded))[0].sum()).backward()
        optimizer.step()


def logits(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**model_inputs(batch)).logits.float()


def plain(folder: Path, loaded: LoadedModel, dtype=torch.float32):
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    family = AutoModelForImageTextToText if loaded.modality == "vl" else AutoModelForCausalLM
    return family.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize("folder", TEXT_MODELS + VL_MODELS)
@pytest.mark.parametrize("kind", ["none", "lora", "dora"])
def test_a_trained_model_survives_save_load_and_export(folder, kind, request, tmp_path):
    start = request.getfixturevalue(folder)
    loaded = load(start, precision="fp32", adapter=ADAPTERS[kind])
    before = logits(loaded.model, batch_of(loaded))
    train(loaded)
    batch = batch_of(loaded)
    wanted = logits(loaded.model, batch)
    assert (wanted - before).abs().max() > 0.05
    assert loaded.adapter == (kind != "none")
    if loaded.adapter:
        assert_close(_adapter_off(loaded, batch), before)
    saved = save(loaded, tmp_path / "saved")
    again = load(saved, precision="fp32")
    assert_close(logits(again.model, batch), wanted, atol=2e-4, rtol=2e-4)
    assert again.codec.chat.template == loaded.codec.chat.template
    # the bf16 checkpoint is merged in its own format, so its logits agree only to bf16
    tolerance = 0.06 if folder == "qwen3_dir" and loaded.adapter else 2e-4
    exported = export(saved, tmp_path / "exported", merged=True)
    assert_close(logits(plain(exported, loaded), batch), wanted, atol=tolerance, rtol=tolerance)
    assert not (exported / "adapter_config.json").exists()
    if loaded.adapter:
        from peft import PeftModel

        apart = export(saved, tmp_path / "apart", merged=False)
        base = json.loads((apart / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert Path(base) == start.resolve()
        assert_close(logits(PeftModel.from_pretrained(plain(Path(base), loaded), apart), batch), wanted, atol=2e-4, rtol=2e-4)


def _adapter_off(loaded, batch) -> torch.Tensor:
    with loaded.model.disable_adapter():
        return logits(loaded.model, batch)


@pytest.mark.parametrize("folder", ["text_dir", "vl_dir"])
def test_a_second_stage_merges_the_first_adapter_and_begins_its_own(folder, request, tmp_path):
    first = load(request.getfixturevalue(folder), precision="fp32", adapter=ADAPTERS["lora"])
    train(first)
    one = save(first, tmp_path / "stages" / "01" / "model")
    second = load(one, precision="fp32", adapter=ADAPTERS["dora"])
    batch = batch_of(second)
    assert_close(_adapter_off(second, batch), logits(first.model, batch), atol=1e-4, rtol=1e-4)
    train(second)
    wanted = logits(second.model, batch)
    two = save(second, tmp_path / "stages" / "02" / "model")
    chain = json.loads((two / "adapter_chain.json").read_text())
    assert chain["adapters"] == ["../../01/model"]
    assert_close(logits(load(two, precision="fp32").model, batch), wanted, atol=1e-4, rtol=1e-4)

    from peft import PeftModel

    apart = export(two, tmp_path / "apart", merged=False)
    base = Path(json.loads((apart / "adapter_config.json").read_text())["base_model_name_or_path"])
    assert base == apart / "base"
    assert_close(logits(PeftModel.from_pretrained(plain(base, second), apart), batch), wanted, atol=1e-4, rtol=1e-4)
    third = load(two, precision="fp32", adapter=ADAPTERS["none"])
    assert not third.adapter and all(weight.requires_grad for weight in third.model.parameters())


def test_an_export_that_will_be_renamed_names_its_final_base(text_dir, tmp_path):
    one = save(load(text_dir, precision="fp32", adapter=ADAPTERS["lora"]), tmp_path / "one")
    two = save(load(one, precision="fp32", adapter=ADAPTERS["lora"]), tmp_path / "two")
    out = export(two, tmp_path / "out.partial", merged=False, final_dir=tmp_path / "out")
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tmp_path / "out" / "base")


def test_a_chain_survives_a_move_of_the_whole_tree_and_of_the_folder_alone(text_dir, tmp_path):
    shutil.copytree(text_dir, tmp_path / "home" / "base")
    loaded = load(tmp_path / "home" / "base", precision="fp32", adapter=ADAPTERS["lora"])
    train(loaded)
    save(loaded, tmp_path / "home" / "run" / "model")
    wanted = logits(loaded.model, batch_of(loaded))
    shutil.copytree(tmp_path / "home" / "run" / "model", tmp_path / "elsewhere")
    assert_close(logits(load(tmp_path / "elsewhere", precision="fp32").model, batch_of(loaded)), wanted, atol=1e-4, rtol=1e-4)
    (tmp_path / "home").rename(tmp_path / "moved")
    assert_close(
        logits(load(tmp_path / "moved" / "run" / "model", precision="fp32").model, batch_of(loaded)), wanted, atol=1e-4, rtol=1e-4
    )
    with pytest.raises(ModelError, match="which is gone"):
        load(tmp_path / "elsewhere", precision="fp32")


def test_precision_and_seed_are_obeyed(text_dir):
    half = load(text_dir, precision="bf16", adapter=ADAPTERS["lora"], seed=3)
    kinds = {name.rpartition("lora_")[1]: weight.dtype for name, weight in half.model.named_parameters()}
    assert kinds == {"": torch.bfloat16, "lora_": torch.float32}
    first, same, other = (load(text_dir, precision="fp32", adapter=ADAPTERS["lora"], seed=seed) for seed in (3, 3, 4))
    name = next(n for n, _ in same.model.named_parameters() if "lora_A" in n)
    mine, theirs, third = (dict(one.model.named_parameters())[name] for one in (first, same, other))
    assert torch.equal(mine, theirs) and not torch.equal(theirs, third)


def test_only_adapter_weights_train(text_dir):
    loaded = load(text_dir, precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=2, targets="q_proj, v_proj"))
    trained = [name for name, weight in loaded.model.named_parameters() if weight.requires_grad]
    # 3 layers x (q, v) x (A, B)
    assert len(trained) == 12 and all("lora_" in name for name in trained)


def test_merge_keeps_the_number_format_of_the_base(qwen3_dir, tmp_path):
    saved = save(load(qwen3_dir, precision="fp32", adapter=ADAPTERS["lora"]), tmp_path / "adapter")
    merge(saved, tmp_path / "merged")
    assert next(load(tmp_path / "merged", precision="auto").model.parameters()).dtype is torch.bfloat16


def damaged(source: Path, target: Path, damage) -> Path:
    shutil.copytree(source, target)
    damage(target)
    return target


def lose_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path, {"format": "pt"})


DAMAGE = {
    "no config.json": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "broken config.json": (lambda f: (f / "config.json").write_text("{"), "config.json: cannot be read"),
    "another architecture": (
        lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
        "model_type is 'bert'; the factory trains",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "pickled weights": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "only pytorch_model.bin, which may run code",
    ),
    "cut weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:9000]),
        "weights cannot be loaded",
    ),
    "a lost tensor": (lambda f: lose_a_tensor(f / "model.safetensors"), "lack 1 tensors.*first model.norm.weight"),
    "a bare adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "peft adapter without its base"),
    "a broken chain": (lambda f: (f / "adapter_chain.json").write_text("[]"), "adapter_chain.json: cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_with_a_remedy(name, text_dir, tmp_path):
    damage, message = DAMAGE[name]
    with pytest.raises(ModelError, match=message):
        load(damaged(text_dir, tmp_path / "model", damage), precision="fp32")


def test_a_vision_model_without_image_settings_is_refused(vl_dir, tmp_path):
    folder = damaged(vl_dir, tmp_path / "model", lambda f: (f / "preprocessor_config.json").unlink())
    with pytest.raises(ModelError, match=r"without preprocessor_config\.json"):
        load(folder, precision="fp32")


@pytest.mark.parametrize("ask", [lambda ref: load(ref, precision="fp32"), model_facts])
def test_missing_folders_and_hub_ids_are_refused_offline(ask):
    with pytest.raises(ModelError, match=r"looks like a hub id, and the network is off.*--online"):
        ask("Qwen/Qwen3-0.6B")
    with pytest.raises(ModelError, match="no such folder"):
        ask("./nowhere/at/all")
