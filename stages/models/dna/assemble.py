"""Make a DNA language model: a small one from a seed, or one from the folders of a language model and an encoder.

    python -m factory.stages.models.dna.assemble --llm Qwen3-1.7B/ --encoder nucleotide-transformer-500m/ --out dna-qwen3/

The result is a folder for `--base`. Only transformers' own architectures are loaded; no remote code.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from factory.errors import ModelError
from factory.stages.models.dna.model import MODEL_TYPE, DnaQwen3Config, DnaQwen3ForCausalLM, register
from factory.stages.models.dna.words import DNA_SPECIAL, SMALL, DnaVocabulary, vocabulary_of, write_vocabulary
from factory.stages.models.facts import read_config
from factory.stages.models.store import copy_sidecars
from factory.stages.models.tokenizer import load_tokenizer

PROBES = ("ACGTACGTACGTA", "ACGTNACGTACGTTGCAAC", "AC", "GGGGGGTTTTTTCCCCCCA")
"""Sequences on which an encoder's tokenizer is held against ours."""


def small_model(settings: dict[str, Any], ends: dict[str, Any]) -> DnaQwen3ForCausalLM:
    """An untrained model with the embedded settings; the caller has set the random state."""
    return DnaQwen3ForCausalLM(DnaQwen3Config(**settings, **ends))


def write_small_vocabulary(folder: Path, vocab_size: int) -> None:
    """The embedded encoder's vocabulary: one letter, one token."""
    write_vocabulary(folder, SMALL, vocab_size)


def assemble(llm: Path, encoder: Path, out_dir: Path, *, seed: int = 0, dtype: str = "auto") -> Path:
    """Write a DNA language model with the weights of both and a fresh projection.

    Args:
        llm: folder of a Qwen3 language model.
        encoder: folder of a transformers encoder (ESM, BERT, ...; Nucleotide Transformer v1 is an ESM) with its tokenizer.
        out_dir: where to write; must not exist or be empty.
        seed: of the projection's initial weights.
        dtype: format of the weights; `auto` keeps the language model's.

    Raises:
        ModelError: another architecture, an encoder that needs remote code, or a tokenizer by another rule.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise ModelError(f"{out_dir}: is not empty. Name a new folder.")
    if read_config(llm).get("model_type") != "qwen3":
        raise ModelError(
            f"{llm}: model_type is {read_config(llm).get('model_type')!r}; a DNA language model is made from qwen3. Give such a model."
        )
    if "auto_map" in read_config(encoder):
        raise ModelError(
            f"{encoder}: brings code of its own, which is not run. Use an encoder of transformers' own architectures, such as "
            "nucleotide-transformer-500m-human-ref (ESM)."
        )
    plain = {"local_files_only": True, "trust_remote_code": False}
    try:
        words = AutoModelForCausalLM.from_pretrained(str(llm), dtype=dtype, use_safetensors=True, **plain)
        reader = AutoModel.from_pretrained(str(encoder), dtype=words.dtype, use_safetensors=True, **plain)
    except (OSError, ValueError) as err:
        raise ModelError(f"the weights cannot be loaded: {err}. Both folders need config.json and *.safetensors.") from err
    vocabulary = _encoder_vocabulary(encoder)
    tokenizer = load_tokenizer(llm)
    tokenizer.add_special_tokens({"extra_special_tokens": list(DNA_SPECIAL)}, replace_extra_special_tokens=False)
    if len(tokenizer) > words.config.vocab_size:
        words.resize_token_embeddings(len(tokenizer))
    register()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DnaQwen3ForCausalLM(_joined_config(words.config, reader.config, vocabulary)).to(words.dtype)
    model.model.load_state_dict(words.model.state_dict())
    model.lm_head.load_state_dict(words.lm_head.state_dict())
    lacking = model.dna_encoder.load_state_dict(reader.state_dict(), strict=False).missing_keys
    if lacking:
        raise ModelError(f"{encoder}: its weights lack {len(lacking)} tensors, first {lacking[0]}. Fetch the folder again.")
    out_dir.mkdir(parents=True, exist_ok=True)
    copy_sidecars(llm, out_dir)
    model.save_pretrained(str(out_dir))
    tokenizer.save_pretrained(str(out_dir))
    write_vocabulary(out_dir, vocabulary, model.config.vocab_size)
    return out_dir


def _encoder_vocabulary(encoder: Path) -> DnaVocabulary:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(encoder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as err:
        raise ModelError(f"{encoder}: its tokenizer cannot be loaded: {err}.") from err
    return vocabulary_of(tokenizer, PROBES)


def _joined_config(words: Any, reader: Any, vocabulary: DnaVocabulary) -> DnaQwen3Config:
    settings = {
        key: value for key, value in words.to_dict().items() if key not in ("model_type", "architectures", "transformers_version")
    }
    encoder = {"model_type": reader.model_type, **reader.to_diff_dict()}
    encoder.pop("transformers_version", None)
    return DnaQwen3Config(**settings, dna_encoder=encoder, dna_pad=vocabulary.pad)


def main() -> None:
    """Command line of `assemble`."""
    parser = argparse.ArgumentParser(description=f"Make a {MODEL_TYPE} model from a Qwen3 folder and an encoder's folder.")
    parser.add_argument("--llm", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        print(assemble(given.llm, given.encoder, given.out, seed=given.seed))
    except ModelError as err:
        parser.exit(err.exit_code, f"{err}\n")


if __name__ == "__main__":
    main()
