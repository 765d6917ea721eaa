"""Exported folders load in plain transformers and peft, in a process that never imports factory; and refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from factory.config.schema import AdapterConfig, AdapterKind
from factory.stages.models.forward import model_inputs
from factory.stages.models.load import load
from factory.stages.models.store import save

PLAIN = """
import json, sys
import torch
from transformers import AutoTokenizer, GenerationConfig
folder, kind, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if kind == "adapter":
    from peft import AutoPeftModelForCausalLM as Auto
elif kind == "vl":
    from transformers import AutoModelForImageTextToText as Auto
else:
    from transformers import AutoModelForCausalLM as Auto
model = Auto.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
text = tokenizer.apply_chat_template([{"role": "user", "content": "the cat sat"}], tokenize=False, add_generation_prompt=True)
with torch.no_grad():
    logits = model(input_ids=torch.tensor([ids])).logits[0, -1, :8].tolist()
settings = GenerationConfig.from_pretrained(folder)
assert not any(name.split(".")[0] == "factory" for name in sys.modules)
print(json.dumps({"logits": logits, "ids": tokenizer(text, add_special_tokens=False)["input_ids"], "eos": settings.eos_token_id}))
"""


def plainly(folder: Path, kind: str, ids: list[int]):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder), kind, json.dumps(ids)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def ours(folder: Path):
    from factory.contracts import Message

    loaded = load(folder, precision="fp32")
    row = loaded.codec.prompt((Message("user", "the cat sat"),))
    with torch.no_grad():
        logits = loaded.model.eval()(**model_inputs(loaded.codec.collate([row]))).logits[0, -1, :8]
    return row.ids, logits, loaded.codec.eos_ids


@pytest.mark.parametrize("kind", ["text", "vl"])
def test_a_registered_model_loads_in_plain_transformers(kind, request, registered, factory, tmp_path):
    name = registered(request.getfixturevalue(f"{kind}_base"))
    code, out, err = factory("export", name, tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["licence"] == {"tag": "apache-2.0", "class": "permissive"}
    ids, logits, ends = ours(tmp_path / "out")
    said = plainly(tmp_path / "out", kind, ids)
    assert said["ids"] == ids, "the tokenizer and its chat template travel with the weights"
    torch.testing.assert_close(torch.tensor(said["logits"]), logits, rtol=0, atol=1e-5)
    eos = said["eos"] if isinstance(said["eos"], list) else [said["eos"]]
    assert set(eos) <= set(ends) and None not in eos, "generation ends where it does here"
    assert ModelCard.load(tmp_path / "out" / "README.md").data.eval_results[0].metric_value == 0.75


@pytest.mark.slow
def test_a_registered_adapter_loads_in_plain_peft(text_base, registered, factory, tmp_path):
    loaded = load(text_base, precision="fp32", adapter=AdapterConfig(kind=AdapterKind.lora, rank=4), seed=1)
    with torch.no_grad():
        for key, value in loaded.model.named_parameters():
            if "lora_B" in key:
                value.normal_(std=0.2, generator=torch.Generator().manual_seed(5))
    name = registered(save(loaded, tmp_path / "made"))
    code, _, err = factory("export", name, tmp_path / "adapter", "--adapter")
    assert code == 0, err
    ids, logits, _ = ours(tmp_path / "made")
    torch.testing.assert_close(torch.tensor(plainly(tmp_path / "adapter", "adapter", ids)["logits"]), logits, rtol=0, atol=1e-5)
    parsed = ModelCard.load(tmp_path / "adapter" / "README.md")
    assert parsed.data.library_name == "peft" and parsed.data.to_dict()["base_model_relation"] == "adapter"
    code, _, err = factory("export", name, tmp_path / "merged")
    assert code == 0, err
    torch.testing.assert_close(torch.tensor(plainly(tmp_path / "merged", "text", ids)["logits"]), logits, rtol=0, atol=1e-4)


def test_a_folder_without_a_record_gets_a_card_that_claims_nothing(text_base, factory, tmp_path):
    code, out, err = factory("export", text_base, tmp_path / "out")
    assert code == 0, err
    assert "no record of this folder was found" in out
    assert ModelCard.load(tmp_path / "out" / "README.md").data.license == "unknown"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--push", "me/x"], "Add --online"), (["--public"], "--public has no effect"), (["--gguf", "--adapter"], "converts merged weights"),
        (["--gguf"], "FACTORY_LLAMA_CPP is not set"), (["--trl-script", "--gguf"], "no model for others"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(words, what, text_base, factory, tmp_path, monkeypatch):
    monkeypatch.delenv("FACTORY_LLAMA_CPP", raising=False)
    code, _, err = factory("export", text_base, tmp_path / "out", *words)
    assert code == 2 and what in err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_push_sends_the_whole_folder_to_a_private_repository(tmp_path):
    from factory.errors import ConfigError
    from factory.interop.push import push_folder

    calls = []

    class Hub:
        def create_repo(self, repo, **options):
            calls.append((repo, options))

        def upload_folder(self, **options):
            calls.append(options)
            return "commit"

    assert push_folder(tmp_path, "me/x", api=Hub()) == "commit"
    assert calls[0] == ("me/x", {"private": True, "exist_ok": True}) and calls[1]["folder_path"] == str(tmp_path)
    with pytest.raises(ConfigError, match="want owner/name"):
        push_folder(tmp_path, "x", api=Hub())


def test_nothing_is_pushed_while_the_hub_is_switched_off(tmp_path, monkeypatch):
    from factory.errors import ConfigError
    from factory.interop.push import push_folder

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        push_folder(tmp_path, "me/x")
