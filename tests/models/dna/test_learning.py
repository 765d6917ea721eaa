"""What only the DNA says is learned through the encoder, and is gone when every base is N."""

import random

import pytest
import torch

from factory.contracts import Message
from factory.stages.models.dna.words import without_dna
from factory.stages.models.embedded import make_embedded
from factory.stages.models.forward import token_logprobs
from factory.stages.models.generate import generate
from factory.stages.models.load import load


def questions(seed, count):
    """(question, answer): whether the second codon is GAA."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        is_gain = rng.random() < 0.5
        codon = "GAA" if is_gain else rng.choice(("TAA", "TAG", "TGA"))
        rest = "".join(rng.choices("ACGT", k=6))
        found.append((f"gene A <dna>ATG{codon}{rest}</dna> ?", "gain" if is_gain else "loss"))
    return found


def accuracy(loaded, rows):
    prompts = [loaded.codec.prompt([Message("user", text)]) for text, _ in rows]
    done = generate(loaded, prompts, max_new_tokens=2, temperature=0.0)
    return sum(loaded.codec.completion(found.ids).strip() == rows[found.prompt_index][1] for found in done) / len(rows)


@pytest.mark.slow
def test_the_encoder_learns_what_only_the_dna_says(tmp_path):
    texts = [f"{text} {answer}" for text, answer in questions(0, 60)]
    loaded = load(make_embedded("embedded-dna", tmp_path / "base", seed=0, texts=texts), precision="fp32")
    optimiser = torch.optim.AdamW(loaded.model.parameters(), lr=1e-3)
    rows = [loaded.codec.lesson([Message("user", text)], answer) for text, answer in questions(1, 1600)]
    for start in range(0, len(rows), 16):
        batch = loaded.codec.collate(rows[start : start + 16])
        logprobs, _ = token_logprobs(loaded.model.train(), batch)
        loss = -logprobs.sum() / batch["loss_mask"].sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), 1.0)
        optimiser.step()
    held_out = questions(2, 200)
    assert accuracy(loaded, held_out) > 0.95
    assert accuracy(loaded, [(without_dna(text), answer) for text, answer in held_out]) < 0.65
