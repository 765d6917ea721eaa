"""One built model goes everywhere: plain transformers, peft, the official openai client, lm-eval's CLI, and the hub's card parser.

The model is the SFT stage (LoRA) of a small build of pathology, which sees images. lm-eval is `lm_eval` on PATH or FACTORY_LM_EVAL.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_process import in_process

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = [
    "stages.cpt=null", "stages.rl=null", "stages.sft.lessons=96", "stages.sft.batch_size=8", "stages.sft.epochs=3", "stages.sft.optim={lr: 0.02, warmup_steps: 1}",
    "stages.sft.adapter={kind: lora, rank: 4}",
    "eval={samples: 4, validation_samples: 2, max_new_tokens: 8, blind: false, probes: false, bootstrap: 50}",
]  # fmt: skip
QUESTION = "gland present ?"
LENGTH = 12
PLAIN = """
import json, sys
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
folder, kind, picture, question, length = sys.argv[1:]
if kind == "adapter":
    from peft import PeftConfig, PeftModel
    base = AutoModelForImageTextToText.from_pretrained(PeftConfig.from_pretrained(folder).base_model_name_or_path, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder).eval()
else:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer, eyes = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
answers = {}
for name, parts in {"text": [], "image": [{"type": "image"}]}.items():
    turns = [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    inputs = {}
    if parts:
        inputs = dict(eyes(images=[Image.open(picture)], return_tensors="pt"))
        num_tokens = int(inputs["image_grid_thw"].prod()) // eyes.merge_size**2
        pad = tokenizer.convert_ids_to_tokens(model.config.image_token_id)
        assert text.count(pad) == 1
        text = text.replace(pad, pad * num_tokens)
    inputs |= tokenizer(text, return_tensors="pt", add_special_tokens=False)
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).long()
    made = model.generate(**inputs, max_new_tokens=int(length), do_sample=False)
    answers[name] = tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
assert not any(name.split(".")[0] == "factory" for name in sys.modules)
print(json.dumps(answers))
"""
"""Its image processor and tokenizer, put together as transformers' processor does; that one also loads videos, which needs torchvision."""
TASK = """
task: tiny
output_type: generate_until
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
doc_to_text: "<image>{{{{q}}}}"
doc_to_image: !function tiny.pictures
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTORY_HOME", str(folder))
        yield folder


def command(*words: object) -> None:
    from factory.cli.app import run

    assert run([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def exported(home):
    """{merged, adapter} -> folder, of the built model."""
    sets = [word for setting in SMALL for word in ("--set", setting)]
    with in_process():
        command("build", "--domain", "pathology", "--run", "built", *sets)
    [stage] = (home / "runs" / "built" / "stages").glob("*-sft")
    assert (stage / "model" / "adapter_config.json").is_file()
    command("export", stage / "model", home / "merged")
    command("export", stage / "model", home / "adapter", "--adapter")
    return {"merged": home / "merged", "adapter": home / "adapter"}


@pytest.fixture(scope="module")
def picture(home):
    from PIL import Image

    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(home / "tile.png")
    return home / "tile.png"


@pytest.fixture(scope="module")
def plain(exported, picture):
    """How plain transformers and peft answer, in a process that never imports factory: {merged, adapter} -> {text, image} -> answer."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    said = {}
    for kind, folder in exported.items():
        words = [sys.executable, "-c", PLAIN, str(folder), kind, str(picture), QUESTION, str(LENGTH)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        said[kind] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_it_loads_in_plain_transformers_and_in_peft(plain):
    assert plain["merged"] == plain["adapter"] and any(plain["merged"].values())


@pytest.fixture(scope="module")
def address(exported, home):
    """`factory serve` of the merged folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    openai = pytest.importorskip("openai")
    words = [
        sys.executable,
        "-c",
        "from factory.cli.app import main; main()",
        "serve",
        str(exported["merged"]),
        "--port",
        str(port),
        "--name",
        "built",
    ]
    with (home / "server.txt").open("w") as log:
        process = subprocess.Popen(
            words, env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log
        )
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    for _ in range(240):
        assert process.poll() is None, (home / "server.txt").read_text()
        try:
            client.models.list()
            break
        except openai.APIConnectionError:
            time.sleep(0.5)
    yield f"http://127.0.0.1:{port}/v1"
    process.send_signal(signal.SIGINT)
    process.wait(30)


def test_it_answers_the_official_client_as_plain_transformers_does(address, plain, picture):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=address, api_key="none", max_retries=0)
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    image = [{"type": "image_url", "image_url": {"url": url}}]
    for name, parts in (("text", []), ("image", image)):
        turns = [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]
        reply = client.chat.completions.create(model="built", messages=turns, max_tokens=LENGTH, temperature=0)
        assert reply.choices[0].message.content == plain["merged"][name], name


def test_the_lm_eval_cli_measures_the_exported_folder(exported, picture, tmp_path):
    """Its own multimodal loader, on questions with an image. It needs torchvision beside lm-eval, for transformers' processor."""
    from factory.errors import ConfigError
    from factory.evaluation import harness

    try:
        program = harness.find_program()
    except ConfigError as err:
        pytest.skip(f"lm-eval-harness is not here: {err}")
    rows = [{"q": f"{word} present ?", "a": "yes", "picture": str(picture)} for word in ("gland", "nest", "mitosis")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tiny.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    (tmp_path / "tiny.py").write_text("from PIL import Image\n\n\ndef pictures(doc):\n    return [Image.open(doc['picture'])]\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    suite = harness.Suite(("tiny",), tmp_path, chat_template=True)
    words = harness.arguments(exported["merged"], suite, tmp_path / "out")
    assert words[words.index("--model") + 1] == "hf-multimodal", "the folder has eyes"
    done = subprocess.run([str(program), *words], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    if done.returncode and "Torchvision" in done.stderr:
        pytest.skip("lm-eval's environment has no torchvision, which transformers' processor of this model needs")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    [results] = (tmp_path / "out").rglob("results_*.json")
    assert 0.0 <= json.loads(results.read_text())["results"]["tiny"]["exact_match,none"] <= 1.0
    [answers] = (tmp_path / "out").rglob("samples_tiny_*.jsonl")
    assert all(json.loads(line)["resps"][0][0] for line in answers.read_text().splitlines()), (
        "it says something about each picture"
    )


def test_inspect_asks_the_server_as_the_docs_show(address, picture, tmp_path):
    """The task of docs/evaluate.md, run by the real `inspect` (on PATH, or FACTORY_TEST_INSPECT)."""
    program = os.environ.get("FACTORY_TEST_INSPECT") or shutil.which("inspect")
    if not program or not Path(program).is_file():
        pytest.skip("inspect_ai is not installed (pip install inspect_ai), and FACTORY_TEST_INSPECT names no program")
    page = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    (tmp_path / "my_task.py").write_text(page.split("```python\n# my_task.py", 1)[1].partition("\n")[2].split("```", 1)[0])
    rows = [{"question": QUESTION, "answer": "yes", "image": str(picture)}, {"question": QUESTION, "answer": "no"}]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"FACTORY_API_KEY": "none", "FACTORY_BASE_URL": address, "HOME": str(tmp_path)}
    words = ["eval", "my_task.py", "--model", "openai-api/factory/built", "--max-tokens", str(LENGTH), "--temperature", "0"]
    told = ["--log-dir", "logs", "--log-format", "json", "--display", "plain"]
    done = subprocess.run(
        [program, *words, *told], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [log] = (tmp_path / "logs").glob("*.json")
    found = json.loads(log.read_text())
    assert found["status"] == "success" and len(found["samples"]) == 2
    assert 0.0 <= found["results"]["scores"][0]["metrics"]["accuracy"]["value"] <= 1.0


def test_its_card_is_read_by_the_hubs_parser_and_tells_what_was_measured(exported, home):
    from huggingface_hub import ModelCard

    [measured] = (home / "runs" / "built" / "stages").glob("*-sft-eval")
    figures = json.loads((measured / "eval.json").read_text())
    for kind, library in (("merged", "transformers"), ("adapter", "peft")):
        card = ModelCard.load(exported[kind] / "README.md")
        [result] = card.data.eval_results
        assert card.data.library_name == library
        assert result.metric_value == pytest.approx(figures["splits"]["test"]["primary"]["value"], abs=5e-5)
