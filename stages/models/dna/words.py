"""DNA in texts: spans `<dna>ACGT</dna>` and their tokens. No torch.

The language model's own tables end at `offset`; token i of the encoder is `offset + i`. So a row of tokens holds words and DNA
together, nothing has to be carried beside it, and DNA can be read but never written: no output row stands for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from factory.errors import ModelError

DNA_START, DNA_END = "<|dna_start|>", "<|dna_end|>"
DNA_SPECIAL = (DNA_START, DNA_END)
"""Special tokens around a sequence; they have rows in the language model's own table."""
SPAN = re.compile(r"<dna>([A-Za-z\s]*)</dna>")
"""A sequence in a text."""
FILE = "dna_tokenizer.json"
"""Beside the language model's tokenizer."""
_SMALL = ("<pad>", "<unk>", "A", "C", "G", "T", "N")


@dataclass(frozen=True)
class DnaVocabulary:
    """How an encoder's tokenizer reads a sequence: words of `k` bases where only A, C, G and T stand, single letters elsewhere.

    With k 6 this is the Nucleotide Transformer's rule, with k 1 a letter is a token.
    """

    tokens: tuple[str, ...]
    """Token of each number."""
    k: int = 1
    prefix: tuple[int, ...] = ()
    """Numbers before every sequence (`<cls>`)."""
    suffix: tuple[int, ...] = ()
    """Numbers after every sequence (`<eos>`)."""
    pad: int = 0
    unknown: int = 1

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each token."""
        return {token: number for number, token in enumerate(self.tokens)}

    def ids(self, sequence: str) -> list[int]:
        """Numbers of a sequence's tokens; U is read as T, white space is left out."""
        text = "".join(sequence.split()).upper().replace("U", "T")
        found, place = list(self.prefix), 0
        while place < len(text):
            word = text[place : place + self.k]
            if len(word) < self.k or word not in self.numbers:
                word = text[place]
            found.append(self.numbers.get(word, self.unknown))
            place += len(word)
        return [*found, *self.suffix]


SMALL = DnaVocabulary(_SMALL)
"""Of the embedded encoder: one letter, one token."""


@dataclass(frozen=True)
class DnaReader:
    """Tokens of the spans of one language model."""

    vocabulary: DnaVocabulary
    offset: int
    """Number of the encoder's token 0: the rows of the language model's table."""
    start: int
    end: int
    """Numbers of DNA_START and DNA_END."""

    pattern = r"<dna>[A-Za-z\s]*</dna>"

    def ids(self, span: str) -> list[int]:
        """Tokens of `<dna>...</dna>`, with its marks. Raises ValueError for another text."""
        hit = SPAN.fullmatch(span)
        if hit is None:
            raise ValueError(f"{span[:40]!r} is no <dna> span")
        return [self.start, *(self.offset + number for number in self.vocabulary.ids(hit[1])), self.end]

    def is_dna(self, token: int) -> bool:
        """Whether a token is one of the encoder's."""
        return token >= self.offset


def without_dna(text: str) -> str:
    """The text with every base of its sequences replaced by N: the same lengths, nothing to read."""
    return SPAN.sub(lambda hit: f"<dna>{'N' * len(hit[1])}</dna>", text)


def write_vocabulary(folder: Path, vocabulary: DnaVocabulary, offset: int) -> None:
    """Write `dna_tokenizer.json`."""
    row = {
        "tokens": vocabulary.tokens, "k": vocabulary.k, "prefix": vocabulary.prefix, "suffix": vocabulary.suffix,
        "pad": vocabulary.pad, "unknown": vocabulary.unknown, "offset": offset,
    }  # fmt: skip
    (folder / FILE).write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def read_reader(folder: Path, tokenizer: Any) -> DnaReader | None:
    """The reader of a model folder, None for a model that has none. Raises ModelError for a damaged file or lacking tokens."""
    path = folder / FILE
    if not path.is_file():
        return None
    known = tokenizer.get_vocab()
    if any(token not in known for token in DNA_SPECIAL):
        raise ModelError(f"{folder}: has {FILE}, but its tokenizer lacks {' or '.join(DNA_SPECIAL)}. Assemble the model again.")
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = DnaVocabulary(
            tuple(row["tokens"]), row["k"], tuple(row["prefix"]), tuple(row["suffix"]), row["pad"], row["unknown"]
        )
        return DnaReader(vocabulary, int(row["offset"]), known[DNA_START], known[DNA_END])
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(
            f"{path}: cannot be read: {err!r}. Copy it again from the folder that the model was assembled in."
        ) from err


def vocabulary_of(tokenizer: Any, probes: Sequence[str]) -> DnaVocabulary:
    """The vocabulary of an encoder's own tokenizer, checked against what that tokenizer says of `probes`.

    Raises ModelError when the tokenizer reads sequences by another rule.
    """
    vocab = tokenizer.get_vocab()
    tokens = tuple(token for token, _ in sorted(vocab.items(), key=lambda item: item[1]))
    words = [len(token) for token in tokens if token and set(token) <= set("ACGT")]
    edges = list(tokenizer("")["input_ids"])
    prefix = tuple(edges[:1]) if edges and edges[0] != tokenizer.eos_token_id else ()
    suffix = tuple(edges[len(prefix) :])
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    found = DnaVocabulary(tokens, max(words, default=1), prefix, suffix, int(tokenizer.pad_token_id or 0), int(unknown or 0))
    for probe in probes:
        theirs = list(tokenizer(probe)["input_ids"])
        if found.ids(probe) != theirs:
            raise ModelError(
                f"the encoder's tokenizer reads {probe[:30]!r} as {theirs[:8]}..., words of {found.k} bases would be {found.ids(probe)[:8]}... "
                "The factory knows encoders of single letters and of fixed words (Nucleotide Transformer)."
            )
    return found
