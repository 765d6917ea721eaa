"""A vision-language pack for RL tests: which colour is the left upper corner of the image. Answers come in tags.

`VERIFIERS` is importable as `module:attribute`, so the real worker pool can load it. `taught` makes a tiny policy that
thinks, sometimes zooms, and answers with a random colour.
"""

import io
from types import SimpleNamespace

from factory.contracts import IMAGE, Lesson, Manifest, Media, Message, Sample
from factory.rewards.verifiers import ClosedAnswer

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
VERIFIERS = {"exact": ClosedAnswer(name="exact")}
CALL = '<think>look</think><zoom>{"bbox": [0, 0, 32, 32]}</zoom>'
ANSWER = "<think>so</think><answer>{}</answer>"


def picture(colour, side=64):
    """A grey image with a coloured left upper quarter, as PNG."""
    from PIL import Image

    image = Image.new("RGB", (side, side), (128, 128, 128))
    image.paste(COLOURS[colour], (0, 0, side // 2, side // 2))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Media(data=buffer.getvalue())


def samples(split="train", seed=0, request=None):
    """One question for each colour, and one without an image."""
    turns = (Message("user", f"{IMAGE} which colour"),)
    seen = [Sample(name, "colour", turns, name, media=(picture(name),), split=split) for name in COLOURS]
    return [*seen, Sample("blind", "colour", (Message("user", "which colour"),), "blue", split=split)]


def lessons(split="train", seed=0, request=None):
    """Each question with each colour as the answer."""
    return [Lesson(sample, ANSWER.format(name)) for sample in samples(split) for name in COLOURS]


def texts():
    """What the tokenizer is trained on."""
    return [
        f"which colour {name} {CALL} {ANSWER.format(name)} look so The part that you asked for: call could not"
        for name in COLOURS
    ] * 20


def images():
    """What the pixel statistics are measured on."""
    return [picture(name) for name in COLOURS]


def taught(folder):
    """Write the model folder: 40 steps on plain answers, calls, and answers after a crop; about 15 s."""
    import torch

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load, save

    raw = make_embedded("embedded-vl", folder / "raw", seed=0, texts=texts(), images=images())
    loaded = load(raw, precision="fp32")
    codec, rows = loaded.codec, []
    for sample in samples():
        for colour in COLOURS:
            rows.append(codec.lesson(sample.messages, ANSWER.format(colour), sample.media))
            if sample.media:
                crop = (picture(colour, 32),)
                first = codec.lesson(sample.messages, CALL, sample.media)
                reply = codec.reply(Message("user", f"The part that you asked for: {IMAGE}"), crop)
                last = [*codec.chat.plain_ids(ANSWER.format(colour)), codec.chat.end_of_turn]
                rows.append(codec.lengthened(first, [*reply, *last], [0] * len(reply) + [1] * len(last), crop))
    batch = codec.collate(rows)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=4e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (-token_logprobs(loaded.model, batch)[0].sum() / batch["loss_mask"].sum()).backward()
        optimizer.step()
    save(loaded, folder / "taught")
    return folder / "taught"


def pack(verifier="exact"):
    """A DomainPack in the parts that RL touches."""
    manifest = Manifest(
        name="seeing", title="Seeing", version="1", license="MIT", intended_use="tests", not_for="else", modality="vl",
        tasks={"colour": {"verifiers": {verifier: 1.0}, "gate": None, "title": "Colour"}},
    )  # fmt: skip
    return SimpleNamespace(manifest=manifest, samples=samples, lessons=lessons, verifiers=lambda: VERIFIERS)
