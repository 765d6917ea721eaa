"""A pack with a taste: the answer that begins with the sample's colour is preferred. Lengths differ from pair to pair."""

import io
from pathlib import Path

from factory.config.schema import AdapterConfig, OptimConfig
from factory.contracts import DataRequest, Manifest, Media, Message, Pair, RunContext, Sample

WORDS = ("red", "green", "blue")
SKIES = ("dawn", "noon", "dusk", "night", "winter", "summer")
LAUNCH = {"processes": 1, "zero_stage": -1, "threads": 1}
BUILD = {"precision": "fp32", "launch": LAUNCH}


def picture(index):
    """A 64 px tile of one colour."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (40 * index % 256, 90 * index % 256, 200 - 30 * index)).save(buffer, "PNG")
    return Media(data=buffer.getvalue())


def pairs(num=18, *, with_images=False):
    """`num` pairs of unequal lengths on the six skies; chosen always begins with `blue`, every second pair may have a picture."""
    found = []
    for index in range(num):
        sky, other = SKIES[index % 6], WORDS[(index // 6) % 2]
        media = (picture(index),) if with_images and index % 2 else ()
        ask = "<image>" * len(media) + f"the sky at {sky} is"
        sample = Sample(f"{sky}-{index}", "sky", (Message("user", ask),), "blue", media=media)
        chosen, rejected = "blue" + " and blue" * (index % 3), other + " and red" * (index // 2 % 3)
        found.append(Pair(sample, chosen, rejected, {"chosen_safe": True, "rejected_safe": index % 3 == 0}))
    return found


def texts():
    """What the tokenizer is trained on."""
    return [f"the sky at {sky} is {word} and {word}" for sky in SKIES for word in WORDS] * 10


class Pack:
    """A DomainPack in the parts that pair training touches."""

    def __init__(self, *, with_images=False, num=18):
        self.with_images, self.num = with_images, num
        self.manifest = Manifest(
            "taste", "Taste", "1", "MIT", "tests", "else", provides=("samples", "pairs"),
            modality="vl" if with_images else "text",
        )  # fmt: skip

    def pairs(self, split, seed, request):
        assert split == "train"
        return iter(pairs(self.num, with_images=self.with_images))


def make_base(folder: Path, modality="text") -> Path:
    """An embedded base whose tokenizer knows the words; random weights."""
    from factory.stages.models.embedded import make_embedded

    images = [picture(i) for i in range(4)] if modality == "vl" else []
    return make_embedded(f"embedded-{modality}", folder, seed=2, texts=texts(), images=images)


def context(workdir: Path, base: Path, *, pack=None, log=lambda **_: None, inputs=None, stage="taste") -> RunContext:
    """What the pipeline hands to a stage."""
    workdir.mkdir(parents=True, exist_ok=True)
    return RunContext(
        stage=stage, workdir=workdir, model_dir=base, pack=pack or Pack(), domain="taste", seed=5, request=DataRequest(),
        build=BUILD, inputs=inputs or {}, log=log,
    )  # fmt: skip


def config(kind, **settings):
    """Config of a stage; `optim` and `adapter` as mappings."""
    from factory.plugins import load_stage

    optim = OptimConfig(
        **{"lr": 1e-3, "warmup_steps": 0, "weight_decay": 0.0, "checkpoint_every": 0, **settings.pop("optim", {})}
    )
    adapter = AdapterConfig(**settings.pop("adapter", {}))
    return load_stage(kind).config_type(optim=optim, adapter=adapter, **settings)
