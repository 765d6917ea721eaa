"""Ragged texts and lessons from a seed, and a small Qwen3 to train on them, for `benchmarks/sft.py`. Nothing is downloaded.

Lengths are log-normal as in real instruction data: a few texts are many times longer than the median.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from factory.contracts import DataRequest, Document, Lesson, Manifest, Message, RunContext, Sample

WORDS = tuple("".join(chr(97 + (number // 26**place) % 26) for place in range(3)) for number in range(0, 26**3, 97))


def text(rng: random.Random, median_words: float, longest: int) -> str:
    """Words from a Zipf-like distribution; their number is log-normal with sigma 0.8."""
    count = min(longest, max(2, round(median_words * rng.lognormvariate(0.0, 0.8))))
    return " ".join(WORDS[min(len(WORDS) - 1, int(len(WORDS) ** rng.random()) - 1)] for _ in range(count))


def documents(count: int, seed: int) -> list[Document]:
    """Texts of 120 words in the median, 900 at most (about as many tokens)."""
    rng = random.Random(f"documents-{seed}")
    return [Document(f"d{number}", text(rng, 120, 900)) for number in range(count)]


def lessons(count: int, seed: int) -> list[Lesson]:
    """Questions of 40 words and responses of 100 words in the median."""
    rng = random.Random(f"lessons-{seed}")
    found = []
    for number in range(count):
        sample = Sample(f"s{number}", "ask", (Message("user", text(rng, 40, 200)),), "x")
        found.append(Lesson(sample, text(rng, 100, 600)))
    return found


def make_base(folder: Path, *, vocabulary: int, hidden: int, layers: int, seed: int) -> Path:
    """A random Qwen3 with so many rows in its embedding; the tokenizer uses the first of them."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from factory.stages.models.chat import default_template
    from factory.stages.models.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(document.text for document in documents(200, seed))
    tokenizer.chat_template = default_template()
    torch.manual_seed(seed)
    ends = {
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers, head_dim=64,
            num_attention_heads=hidden // 64, num_key_value_heads=max(1, hidden // 128), max_position_embeddings=4096,
            tie_word_embeddings=True, **ends,
        )
    )  # fmt: skip
    tokenizer.save_pretrained(str(folder))
    model.save_pretrained(str(folder))
    return folder


def context(workdir: Path, base: Path, count: int, seed: int, log: Any = lambda **_: None) -> RunContext:
    """What the pipeline hands to a cpt or sft stage."""
    manifest = Manifest("toy_texts", "Toy texts", "1", "Apache-2.0", "benchmarks", "anything else")

    def corpus(split: str, seed: int, request: DataRequest) -> Iterator[Document]:
        return iter(documents(count, seed))

    def worked(split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
        return iter(lessons(count, seed))

    return RunContext(
        stage="train", workdir=workdir, model_dir=base, domain="toy_texts", seed=seed, request=DataRequest(), log=log,
        pack=SimpleNamespace(manifest=manifest, corpus=corpus, lessons=worked),
        build={"precision": "fp32", "launch": {"processes": 1, "zero_stage": -1, "threads": 1}},
    )  # fmt: skip
