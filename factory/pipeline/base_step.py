"""The first step: put the base model into the run. Embedded bases are created, others are linked where they lie, never copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, DomainPack, Media, Outputs
from factory.errors import ModelError
from factory.pipeline.overlap import held_sorts

READ_ITEMS = 2000
"""Items of each sort of training data whose texts train an embedded base's tokenizer."""
READ_IMAGES = 512
"""Training images that set the pixel mean and standard deviation of an embedded base."""
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def materialise(job: Mapping[str, Any], pack: DomainPack, request: DataRequest, workdir: Path) -> Outputs:
    """Make `workdir/model`: a created folder, or a link to the user's folder or to a downloaded snapshot.

    Raises:
        ModelError: the folder lacks weights or holds pickled ones only, or the download failed.
    """
    base = job["base"]
    target = workdir / "model"
    if base["how"] == "embedded":
        from factory.stages.models.embedded import make_embedded

        items = _TrainingItems(pack, request, job["seed"])
        make_embedded(base["ref"], target, seed=job["seed"], texts=items.texts(), images=items.images())
        return Outputs(model="model", metrics={"how": "embedded"})
    folder = Path(base["folder"]) if base["folder"] else _download(base)
    check_folder(folder)
    target.unlink(missing_ok=True)
    target.symlink_to(folder.resolve(), target_is_directory=True)
    return Outputs(model="model", metrics={"how": base["how"], "path": str(folder)})


def check_folder(folder: Path) -> None:
    """A folder that the factory may load; one with an adapter or with experts is as whole as the model below. Raises ModelError: what
    is missing, and what to do."""
    if (folder / "adapter_chain.json").is_file():
        from factory.stages.models.facts import read_chain

        check_folder(read_chain(folder)[0])
        return
    for wanted in ("config.json", "tokenizer_config.json"):
        if not (folder / wanted).is_file():
            raise ModelError(
                f"{folder}: has no {wanted}, so it is no whole transformers model folder. Copy it again, with its tokenizer."
            )
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        hint = f" It holds {', '.join(pickled[:3])}, which is never read because it can run code: convert it." if pickled else ""
        raise ModelError(f"{folder}: has no *.safetensors weights.{hint} Point at a folder that save_pretrained wrote.")


def _download(base: Mapping[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(base["hub_id"], revision=base["revision"], allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as err:
        raise ModelError(
            f"{base['hub_id']}: the download failed: {err}. Check the name, the licence agreement and the network."
        ) from err


class _TrainingItems:
    """Texts and images of the training split, drawn anew by each method."""

    def __init__(self, pack: DomainPack, request: DataRequest, seed: int) -> None:
        self._pack, self._request, self._seed = pack, replace(request, limit=READ_ITEMS), seed

    def _draw(self, sort: str) -> Iterable[Any]:
        return (
            getattr(self._pack, sort)("train", self._seed, self._request) if sort in held_sorts(self._pack, self._request) else ()
        )

    def texts(self) -> Iterator[str]:
        """Documents, then questions with their worked responses, then bare questions."""
        for document in self._draw("corpus"):
            yield document.text
        for lesson in self._draw("lessons"):
            yield lesson.sample.text()
            yield lesson.response
        for sample in self._draw("samples"):
            yield sample.text()

    def images(self) -> Iterator[Media]:
        """The first READ_IMAGES images of documents, lessons and samples."""
        found = 0
        for sort in ("corpus", "lessons", "samples"):
            for item in self._draw(sort):
                for media in (item.sample if sort == "lessons" else item).media:
                    yield media
                    found += 1
                    if found >= READ_IMAGES:
                        return
