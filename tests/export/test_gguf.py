"""GGUF: what is said without llama.cpp, how its programs are driven (stand-ins), and parity with the real ones where they are built."""

import json
import stat
import sys
from pathlib import Path

import pytest

from factory.errors import ConfigError, ModelError
from factory.interop import gguf

CONVERTER = """
import shutil, sys
model, out = sys.argv[1], sys.argv[sys.argv.index("--outfile") + 1]
open(out, "w").write(model)
"""
SERVER = """#!{python}
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(open(sys.argv[sys.argv.index("-m") + 1]).read(), dtype=torch.float32)
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *parts): pass
    def reply(self, row):
        self.send_response(200); self.end_headers(); self.wfile.write(json.dumps(row).encode())
    def do_GET(self): self.reply({{"status": "ok"}})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with torch.no_grad():
            row = model(torch.tensor([asked["prompt"]])).logits[0, -1].log_softmax(-1)
        values, ids = row.topk(asked["n_probs"])
        top = [{{"id": i, "logprob": v + {shift}}} for i, v in zip(ids.tolist(), values.tolist())]
        self.reply({{"completion_probabilities": [{{"top_logprobs": top}}]}})
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def stand_in(folder: Path, shift: float | None) -> Path:
    """A folder like a llama.cpp checkout; with `shift`, a server whose log-probabilities are off by so much."""
    folder.mkdir()
    (folder / gguf.CONVERTER).write_text(CONVERTER)
    if shift is not None:
        server = folder / "build" / "bin" / "llama-server"
        server.parent.mkdir(parents=True)
        server.write_text(SERVER.format(python=sys.executable, shift=shift))
        server.chmod(server.stat().st_mode | stat.S_IEXEC)
    return folder


def test_without_llama_cpp_it_says_what_to_do():
    with pytest.raises(ConfigError, match=r"FACTORY_LLAMA_CPP is not set\. Clone"):
        gguf.find_llama_cpp({})
    with pytest.raises(ConfigError, match=r"there is no convert_hf_to_gguf\.py"):
        gguf.find_llama_cpp({gguf.HOME: "/nowhere"})


def test_an_agreeing_file_is_kept_with_what_was_measured(text_base, tmp_path, monkeypatch):
    monkeypatch.setenv(gguf.HOME, str(stand_in(tmp_path / "llama", 0.01)))
    found = gguf.convert(text_base, tmp_path / "model.gguf")
    assert found["parity"]["n"] == gguf.TOP * len(gguf.PROMPTS) and found["parity"]["largest"] == pytest.approx(0.01, abs=1e-4)
    assert (tmp_path / "model.gguf").is_file() and "agrees with the weights" in found["told"]


@pytest.mark.slow
def test_a_disagreeing_file_is_deleted(text_base, tmp_path, monkeypatch):
    monkeypatch.setenv(gguf.HOME, str(stand_in(tmp_path / "llama", 0.5)))
    with pytest.raises(ModelError, match=r"differ by up to 0\.500 nats"):
        gguf.convert(text_base, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_without_a_server_it_says_that_nothing_was_compared(text_base, tmp_path, monkeypatch):
    monkeypatch.setenv(gguf.HOME, str(stand_in(tmp_path / "llama", None)))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = gguf.convert(text_base, tmp_path / "model.gguf")
    assert found["parity"] is None and "was not compared" in found["told"]


def test_a_failing_converter_is_told_and_vision_models_are_refused(text_base, vl_base, tmp_path, monkeypatch):
    monkeypatch.setenv(gguf.HOME, str(stand_in(tmp_path / "llama", None)))
    (tmp_path / "llama" / gguf.CONVERTER).write_text("raise SystemExit('BPE pre-tokenizer was not recognized')")
    with pytest.raises(ModelError, match="pre-tokenizer was not recognized"):
        gguf.convert(text_base, tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="vision-language model is not offered"):
        gguf.convert(vl_base, tmp_path / "model.gguf")


def test_the_real_converter_agrees(tmp_path):
    """Needs FACTORY_LLAMA_CPP (built) and FACTORY_TEST_GGUF_MODEL, a text model whose tokenizer llama.cpp knows."""
    import os

    model = os.environ.get("FACTORY_TEST_GGUF_MODEL")
    try:
        tools = gguf.find_llama_cpp()
    except ConfigError as err:
        pytest.skip(f"llama.cpp is not here: {err}")
    if tools.server is None or not model:
        pytest.skip("needs llama-server, and FACTORY_TEST_GGUF_MODEL naming a text model whose tokenizer llama.cpp knows")
    assert json.dumps(gguf.convert(Path(model), tmp_path / "model.gguf", outtype="f32")["parity"])
