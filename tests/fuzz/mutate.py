"""Other bytes from good ones: flips, cuts, repeats, splices of two, nests, and pieces that readers stumble over."""

from __future__ import annotations

import random
from collections.abc import Sequence

PIECES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n\n", b"\t", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b":", b",",
    b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"true", b"{}", b"[]", b'{"":0}', b"[" * 3000, b'{"a":' * 1500, b"../../x",
    b"/etc/x", b"C:\\x", b"<think>", b"</think>", b"<answer>", b"</answer>", b"\\boxed{", b"```json", b"&a [*a]", b"!!python/object:os.x",
    b"%s%n", b"${oc.env:HOME}", b"${a}", b"<<: *x", b"PAR1", b"ustar", b"\x1f\x8b\x08", "İ\u202e\U0001f600".encode(), b"?: - |", b"a" * 5000,
)  # fmt: skip


def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One input: a seed that was changed one to six times."""
    content = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        content = rng.choice(_WAYS)(rng, content, seeds)
    return content


def _span(rng: random.Random, content: bytes) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + int(rng.expovariate(0.1)))


def _flip(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    if not content:
        return content
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def _insert(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + rng.choice(PIECES) + content[rng.choice((start, end)) :]


def _cut(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _drop(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + content[end:]


def _repeat(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, content)
    return content[:end] + content[start:end] * rng.choice((1, 2, 40)) + content[end:]


def _splice(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def _noise(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, content)
    return content[:start] + rng.randbytes(end - start) + content[end:]


_WAYS = (_flip, _insert, _insert, _cut, _drop, _repeat, _splice, _noise)
