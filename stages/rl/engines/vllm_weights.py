"""A folder of full weights as a running vLLM server can read it again and again."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from factory.errors import TrainingError

HEAD, HEAD_FILE = "lm_head.weight", "lm_head.safetensors"
EMBEDDINGS = ("model.embed_tokens.weight", "model.language_model.embed_tokens.weight")
_INDEX = "model.safetensors.index.json"


def untie(folder: Path) -> None:
    """Write the output layer of a model with tied embeddings as a tensor of its own, and say so in config.json.

    vLLM's `reload_weights` (0.32.0) puts new embeddings in and leaves a tied output layer on the old ones: the canary saw 0.16 nats.
    Raises TrainingError when the folder's weights have no embeddings under a known name.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if not config.get("tie_word_embeddings", False):
        return
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt", device="cpu") as weights:
            name = next((name for name in EMBEDDINGS if name in weights.keys()), None)  # noqa: SIM118 - the file is no mapping
            if name is not None:
                head = weights.get_tensor(name)
                break
    else:
        raise TrainingError(
            f"{folder}: none of {', '.join(EMBEDDINGS)} is there, so vLLM cannot be given its weights. Set engine=transformers."
        )
    save_file({HEAD: head}, folder / HEAD_FILE, metadata={"format": "pt"})
    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        index["weight_map"][HEAD] = HEAD_FILE
        (folder / _INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    path.write_text(json.dumps(config | {"tie_word_embeddings": False}, indent=2), encoding="utf-8")
