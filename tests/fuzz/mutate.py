"""Other bytes from good ones: flips, cuts, repeats, splices of two, nests, odd words, odd JSON values, pieces that readers stumble over."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

PIECES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n\n", b"\t", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b":", b",",
    b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"true", b"{}", b"[]", b'{"":0}', b"[" * 3000, b'{"a":' * 1500, b"../../x",
    b"/etc/x", b"C:\\x", b"<think>", b"</think>", b"<answer>", b"</answer>", b"\\boxed{", b"```json", b"&a [*a]", b"!!python/object:os.x",
    b"9" * 5000, b"%s%n", b"${oc.env:HOME}", b"${a}", b"<<: *x", b"PAR1", b"ustar", b"\x1f\x8b\x08", "İ\u202e\U0001f600".encode(), b"?: - |", b"a" * 5000,
)  # fmt: skip

WORDS = (
    b"", b"-1", b"0", b"-0.0", b"1e308", b"1e400", b"-1e-400", b"nan", b"inf", b"0x10", b"1_0", b"999999999999999999999", b"1/0", b"4/0", b"0/1",
    b"-", b"+", b".", b"*", b"?", b"true", b"None", b"\xc2\xb2", b"\xd9\xa3", b"a" * 300, b"9" * 320, b"1" * 5000, b"2000-02-30", b"..", b"a b",
)  # fmt: skip
"""What may stand where a word or a number stood."""
WINDOW = 8192
"""Bytes among which a word is sought."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 1.5, 1e308, float("nan"), float("inf"), 10**30, 10**400, "", " ", "x", "1", "yes", "A", "\ud800", "\0", "a" * 3000,
    "[1]", "{}", [], [[]], [None], [1, "a"], [{}], {}, {"": ""}, {"a": None}, {"bytes": "x"},
)  # fmt: skip
"""What may stand where a JSON value stood."""


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


def _word(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    """One word or number replaced; sought in a window, for long binary content is full of words."""
    begin = rng.randrange(max(1, len(content) - WINDOW + 1))
    found = list(re.finditer(rb"[\w.+*-]+", content[begin : begin + WINDOW]))
    if not found:
        return content
    hit = rng.choice(found)
    return content[: begin + hit.start()] + rng.choice(WORDS) + content[begin + hit.end() :]


def _value(rng: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    """One value inside a JSON text, or inside one of its lines, replaced; other content stays as it is."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    for start, end in ((0, len(lines)), (1, len(lines)), (place, place + 1)):
        try:
            document = json.loads(b"\n".join(lines[start:end]))
            changed = json.dumps(_changed(rng, document)).encode()
        except (ValueError, RecursionError):
            continue
        return b"\n".join([*lines[:start], changed, *lines[end:]])
    return content


def _changed(rng: random.Random, node: Any) -> Any:
    """The document with one of its values replaced or left out; deeper ones as likely as those above."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    if not keys or rng.random() < 0.05:
        return rng.choice(VALUES)
    key = rng.choice(keys)
    if rng.random() < 0.1:
        del node[key]
    else:
        node[key] = _changed(rng, node[key])
    return node


_WAYS = (_flip, _insert, _insert, _cut, _drop, _repeat, _splice, _noise, _word, _word, _value, _value)
