"""An installed pack with everything that a shared recipe may ask for: text, images, captions, a corpus, lessons in tags."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from factory.contracts import IMAGE, DataRequest, Document, Eval, Lesson, Media, Message, Sample, Verifier
from factory.plugins import read_manifest
from factory.rewards.verifiers import ClosedAnswer

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}


@cache
def picture(colour: str, name: str) -> Media:
    """64 x 64 px: the left upper quarter in the colour, the rest in a grey of the image's own."""
    from PIL import Image

    rng = random.Random(name)
    image = Image.new("RGB", (64, 64), tuple(rng.randrange(90, 160) for _ in range(3)))
    image.paste(COLOURS[colour], (0, 0, 32, 32))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Media(data=buffer.getvalue())


def question(split: str, number: int) -> Sample:
    """Every second one has an image; the others say it in words."""
    name, colour = f"{split}-{number}", list(COLOURS)[number // 2 % 3]
    if number % 2:
        turns = (Message("user", f"{split} {number}: the corner is {colour}. which colour"),)
        return Sample(name, "told", turns, colour, split=split)
    turns = (Message("user", f"{IMAGE} which colour"),)
    meta = {"caption": f"the corner is {colour}", "boxes": [[0, 0, 32, 32]]}
    return Sample(name, "seen", turns, colour, media=(picture(colour, name),), split=split, meta=meta)


def written(colour: str) -> str:
    """An answer in tags, with a second thought: a checkpoint is chosen by how sure a model is at such words."""
    return f"<think>the corner. Wait, the corner</think><answer>{colour}</answer>"


class Colours:
    """Questions that name their own split and number, so that splits cannot overlap."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterator[Document]:
        for number in range(request.limit or 40):
            sample = question(split, number)
            text = (
                f"{IMAGE} the corner is {sample.reference}." if sample.media else f"{number}: the corner is {sample.reference}."
            )
            yield Document(f"document-{sample.id}", text, sample.media, split)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
        return (Lesson(sample, written(str(sample.reference))) for sample in self.samples(split, seed, request))

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
        return (question(split, number) for number in range(request.limit or 40))

    def verifiers(self) -> Mapping[str, Verifier]:
        return {"exact": ClosedAnswer(name="exact")}

    def evals(self) -> Mapping[str, Eval]:
        return {"accuracy": Eval("accuracy", verifier="exact", primary=True)}


PACK = Colours()


def guessing(folder: Path) -> Path:
    """A model folder that answers every question in tags, with a colour at random: groups of its answers are mixed. About 15 s."""
    import torch

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load, save

    samples = [question("train", number) for number in range(12)]
    texts = [f"{sample.text()} the corner is {written(str(sample.reference))} 0123456789 test validation" for sample in samples]
    raw = make_embedded("embedded-vl", folder / "raw", seed=0, texts=texts * 10, images=[s.media[0] for s in samples if s.media])
    loaded = load(raw, precision="fp32")
    rows = [loaded.codec.lesson(s.messages, written(colour), s.media) for s in samples for colour in COLOURS]
    batch = loaded.codec.collate(rows)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=4e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch)[0].sum() / batch["loss_mask"].sum()).backward()
        optimizer.step()
    return save(loaded, folder / "model")
