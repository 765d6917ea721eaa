"""Experts: low-rank updates on one model, each for a domain of its own (SEE, arXiv 2504.06664; guides/techniques.md B12.1).

An expert has learned to begin with ACCEPT where a question is its own and to say PASS, and nothing else, where it is another's.
When the model is asked, the experts decide in turn, the newest first, because only it has seen all domains: the first that finds
ACCEPT likelier than PASS after the prompt answers, with its update on. When all pass, the model that they stand on answers with
its own weights, so what it could do before is kept exactly wherever no expert accepts by mistake.

A folder of experts is an adapter folder (`adapter_chain.json` names the model below) with `experts.json` and one peft folder for
each expert instead of one update. It cannot be merged into one set of weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from factory.errors import ModelError
from factory.stages.models.codec import Codec, Encoded
from factory.stages.models.facts import read_chain
from factory.stages.models.forward import token_logprobs

FILE = "experts.json"
FOLDER = "experts"
ACCEPT, PASS = "[accept]", "[pass]"
"""Ordinary text, so that every tokenizer can write it; neither begins the other."""
ROWS = 64
"""Prompts that are decided on together."""
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(eq=False)
class Experts:
    """The experts of a loaded model. Outside of `on` the model is the one they stand on."""

    model: Any
    """A peft model with one adapter for each name."""
    names: tuple[str, ...]
    """Domains, the newest first."""

    @contextmanager
    def on(self, name: str | None) -> Iterator[None]:
        """The model with this expert's update; None: with none."""
        if name is None:
            yield
            return
        self.model.set_adapter(_key(self.names.index(name)))
        self.model.base_model.enable_adapter_layers()
        try:
            yield
        finally:
            self.model.base_model.disable_adapter_layers()

    @torch.no_grad()
    def route(self, codec: Codec, prompts: Sequence[Encoded]) -> list[str | None]:
        """Who answers each prompt; None: no expert."""
        found: list[str | None] = [None] * len(prompts)
        open_places = list(range(len(prompts)))
        for name in self.names:
            if not open_places:
                break
            with self.on(name):
                accepts = self._accepts(codec, [prompts[place] for place in open_places])
            for place, is_own in zip(open_places, accepts, strict=True):
                found[place] = name if is_own else None
            open_places = [place for place in open_places if found[place] is None]
        return found

    def parts(self, codec: Codec, prompts: Sequence[Encoded]) -> Iterator[tuple[list[int], list[Encoded]]]:
        """(places, prompts to go on from) of each expert and of the model below; the right update is on until the next is asked for."""
        routes = self.route(codec, prompts)
        for name in (None, *self.names):
            places = [place for place, route in enumerate(routes) if route == name]
            if places:
                with self.on(name):
                    yield places, [prompts[place] if name is None else accepted(codec, prompts[place]) for place in places]

    def _accepts(self, codec: Codec, prompts: Sequence[Encoded]) -> list[bool]:
        device, found = next(self.model.parameters()).device, []
        for start in range(0, len(prompts), ROWS):
            chunk = prompts[start : start + ROWS]
            sums = []
            for marker in (ACCEPT, PASS):
                batch = codec.collate([marked(codec, prompt, marker) for prompt in chunk], device=device)
                sums.append(token_logprobs(self.model, batch)[0].float().sum(dim=1))
            found += (sums[0] > sums[1]).tolist()
        return found


def marked(codec: Codec, prompt: Encoded, marker: str) -> Encoded:
    """The prompt with a marker after it, which alone is looked at."""
    ids = codec.chat.plain_ids(marker)
    return replace(prompt, ids=[*prompt.ids, *ids], loss_mask=[*prompt.loss_mask, *[1] * len(ids)])


def accepted(codec: Codec, prompt: Encoded) -> Encoded:
    """The prompt as an expert goes on from it: the marker is written for it, and is no part of the answer."""
    ids = codec.chat.plain_ids(ACCEPT)
    return replace(prompt, ids=[*prompt.ids, *ids], loss_mask=[*prompt.loss_mask, *[0] * len(ids)])


def read_experts(folder: Path) -> tuple[str, ...]:
    """Names of a folder's experts, the newest first; empty when it has none. Raises ModelError for a damaged file or a lost expert."""
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        names = tuple(str(name) for name in json.loads(path.read_text(encoding="utf-8"))["experts"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{path}: cannot be read: {err!r}. Copy the model folder again, or build the stage again.") from err
    for name in names:
        if not all((folder / FOLDER / name / file).is_file() for file in _ADAPTER):
            raise ModelError(f"{path}: names the expert '{name}', whose files are not in {FOLDER}/{name}. Copy the folder again.")
    return names


def start_of(folder: Path) -> Path:
    """The model that a further expert is trained on: below the experts of `folder`, or `folder` itself when it has none."""
    if not (folder / FILE).is_file():
        return folder
    base, earlier = read_chain(folder)
    return earlier[-1] if earlier else base


def add_expert(model_dir: Path, name: str, older: Path | None) -> None:
    """Turn an adapter folder, as `store.save` wrote it, into a folder of experts: this one, and before it those of the folder `older`."""
    own = model_dir / FOLDER / name
    own.mkdir(parents=True)
    for file in _ADAPTER:
        (model_dir / file).replace(own / file)
    # The base is in adapter_chain.json, relative; a path of this machine would be another content on every machine.
    settings = json.loads((own / _ADAPTER[0]).read_text(encoding="utf-8")) | {"base_model_name_or_path": None}
    (own / _ADAPTER[0]).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    names = [name]
    for one in read_experts(older) if older is not None else ():
        assert older is not None
        shutil.copytree(older / FOLDER / one, model_dir / FOLDER / one)
        names.append(one)
    part = model_dir / f"{FILE}.part"
    part.write_text(json.dumps({"experts": names}, indent=2) + "\n", encoding="utf-8")
    part.replace(model_dir / FILE)


def attach(model: Any, folder: Path, names: Sequence[str]) -> Experts:
    """Put the experts of `folder` on a model, switched off. Raises ModelError when one does not fit."""
    from peft import PeftModel

    first, *others = [(_key(place), str(folder / FOLDER / name)) for place, name in enumerate(names)]
    try:
        wrapped = PeftModel.from_pretrained(model, first[1], adapter_name=first[0])
        for key, path in others:
            wrapped.load_adapter(path, adapter_name=key)
    except (RuntimeError, ValueError, KeyError, OSError) as err:
        raise ModelError(f"{folder}: an expert does not fit the model below: {err}. Copy the folder and its base again.") from err
    wrapped.base_model.disable_adapter_layers()
    return Experts(wrapped, tuple(names))


def _key(place: int) -> str:
    return f"expert{place}"
