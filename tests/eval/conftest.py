"""`scripted.py` for the tests and for the pool's worker processes; test folders are no packages."""

import os
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.fixture(scope="session")
def taught(tmp_path_factory) -> Path:
    """The embedded text model, taught for 60 steps to think one word and to answer red, green or blue at random."""
    import torch
    from scripted import sample

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load, save

    colours = ("red", "green", "blue")
    responses = [f"<think>maybe {a}</think><answer>{b}</answer>" for a in colours for b in colours]
    root = tmp_path_factory.mktemp("taught")
    texts = [f"which colour? {text}" for text in responses] * 30
    loaded = load(make_embedded("embedded-text", root / "raw", seed=0, texts=texts), precision="fp32")
    batch = loaded.codec.collate([loaded.codec.lesson(sample().messages, text) for text in responses])
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch)[0].sum() / batch["loss_mask"].sum()).backward()
        optimizer.step()
    return save(loaded, root / "model")
