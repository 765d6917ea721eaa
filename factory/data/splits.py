"""Which split a group of rows belongs to, and proof that nothing held out was trained on.

A group is what must stay together: a patient, else a slide, else an image. Splitting by row or tile lets a model
see the patient it is tested on.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from factory.contracts import EXACT_TEXT, SPLITS, Document, Lesson, Media, Sample
from factory.errors import ConfigError, DataError, near_miss

DEFAULT_SHARES = {"validation": 0.1, "test": 0.1}
SPLIT_ALIASES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
                 "dev": "validation", "test": "test", "testing": "test", "test_tiny": "test", "test-tiny": "test"}  # fmt: skip
HASH_SPACE = 2**64
Item = Sample | Lesson | Document


@dataclass(frozen=True, slots=True)
class Overlap:
    """One held-out item that training also holds, and by what it was recognised."""

    train_id: str
    held_out_id: str
    by: str
    """`id`, `group`, `text` or `image`."""

    def __str__(self) -> str:
        return f"train {self.train_id!r} = held out {self.held_out_id!r} (same {self.by})"


def checked_shares(shares: Mapping[str, float] | None) -> dict[str, float]:
    """Shares of validation and test, defaults filled in. Raises ConfigError when they are no shares."""
    shares = {**DEFAULT_SHARES, **(shares or {})}
    for name, share in shares.items():
        if name not in DEFAULT_SHARES:
            hint = near_miss(name, DEFAULT_SHARES)
            raise ConfigError(f"pack.splits.{name}: no such share.{hint} Give validation and test; train gets the rest.")
        if not isinstance(share, (int, float)) or not 0.0 <= share < 1.0:
            raise ConfigError(f"pack.splits.{name} is {share!r}; it is a share of all groups, from 0 to below 1.")
    if sum(shares.values()) >= 1.0:
        raise ConfigError(f"pack.splits leave nothing for train: {shares}. Their sum must be below 1.")
    return shares


def split_of(group: str, shares: Mapping[str, float] | None = None) -> str:
    """The split of a group: a pure function of its key, so it survives new rows, other machines and other file orders.

    Args:
        group: patient, slide or image key.
        shares: `{"validation": 0.1, "test": 0.1}`; train gets the rest.

    Returns:
        `train`, `validation` or `test`.
    """
    shares = DEFAULT_SHARES if shares is None else shares
    digest = hashlib.blake2b(group.encode("utf-8", errors="surrogatepass"), digest_size=8, person=b"factory-split").digest()
    place = int.from_bytes(digest, "big") / HASH_SPACE
    # Test lies first, so changing the validation share never moves a group into or out of test.
    if place < shares["test"]:
        return "test"
    return "validation" if place < shares["test"] + shares["validation"] else "train"


def declared_split(text: str) -> str | None:
    """The split that a cell, key or file name declares (`val` -> validation), or None.

    A file name declares one by its first or last word: `test-00000-of-00003`, `quilt_vqa_test`.
    """
    text = text.strip().lower()
    if text in SPLIT_ALIASES:
        return SPLIT_ALIASES[text]
    words = [word for word in re.split(r"[^a-z]+", text) if word and word != "of"]
    return next((SPLIT_ALIASES[word] for word in (*words[:1], *words[-1:]) if word in SPLIT_ALIASES), None)


def check_split(split: str) -> str:
    """Return `split`, or raise DataError naming the known ones."""
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}.{near_miss(split, SPLITS)} Use {', '.join(SPLITS)}.")
    return split


def pixel_hash(media: Media) -> str:
    """Hash of size and RGB pixels: equal for one picture saved twice without loss, in any file format. Raises DataError when it is no image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(media.read())) as picture:
            rgb = picture.convert("RGB")
    except Exception as err:  # Pillow's formats each raise their own for damage
        raise DataError(f"{media.path or 'an image'}: is not a readable image: {err}. Mend or drop the row.") from err
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


def normalised(text: str) -> str:
    """Letters and digits only, lower case: equal texts in different typesetting become equal."""
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def _keys(item: Item, *, pixels: bool) -> Iterator[tuple[str, str]]:
    core = item.sample if isinstance(item, Lesson) else item
    yield "id", core.id
    if isinstance(core, Sample) and core.meta.get("group"):
        yield "group", str(core.meta["group"])
    for media in core.media:
        yield "image", pixel_hash(media) if pixels else media.sha256()
    if not core.media:
        # With an image the same question about another image is no overlap; without one the text is all there is.
        text = core.text() if isinstance(core, Sample) else core.text
        is_exact = isinstance(core, Sample) and core.meta.get(EXACT_TEXT)
        kept = text if is_exact else normalised(text)
        yield "text", hashlib.sha256(kept.encode("utf-8", "surrogatepass")).hexdigest()


def iter_overlaps(train: Iterable[Item], held_out: Iterable[Item], *, pixels: bool = False) -> Iterator[Overlap]:
    """Each training item that is also held out, once, by the first key that tells. Keeps only the keys of `held_out`."""
    known: dict[tuple[str, str], str] = {}
    for item in held_out:
        for key in _keys(item, pixels=pixels):
            known.setdefault(key, (item.sample if isinstance(item, Lesson) else item).id)
    for item in train:
        for key in _keys(item, pixels=pixels):
            if key in known:
                yield Overlap((item.sample if isinstance(item, Lesson) else item).id, known[key], key[0])
                break


def find_overlap(train: Iterable[Item], held_out: Iterable[Item], *, pixels: bool = False, shown: int = 5) -> None:
    """Refuse training data that holds anything held out: by id, group, image, or (without image) normalised text.

    Args:
        train: samples, lessons or documents, streamed.
        held_out: validation and test items; their keys are kept in memory.
        pixels: compare decoded pixels instead of encoded bytes; slower, finds re-saved copies.
        shown: overlaps listed in the message.

    Raises:
        DataError: there is an overlap; the message lists the first ones and their number.
    """
    first: list[Overlap] = []
    num_overlaps = 0
    for overlap in iter_overlaps(train, held_out, pixels=pixels):
        num_overlaps += 1
        if num_overlaps <= shown:
            first.append(overlap)
    if first:
        listed = "\n  ".join(map(str, first))
        raise DataError(
            f"{num_overlaps} training items are also held out, so the measured result would be worthless. First:\n  {listed}\n"
            "Remove them from one side, or give rows a patient_id or slide_id so that they are split together."
        )
