"""A model that gives a response one number: a backbone with a scalar head on the last token. Made by `reward_model` stages.

    scorer = load_scorer(folder, precision="fp32")
    scorer.score([(sample, "the first answer"), (sample, "another")])

Shape letters: B = rows, T = tokens, H = hidden size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from factory.contracts import IMAGE, Message, Sample
from factory.errors import DataError, ModelError
from factory.rewards.formats import parse
from factory.stages.models.forward import model_inputs
from factory.stages.models.load import load
from factory.stages.models.value_head import ValueHead, load_head, save_head
from factory.stages.packing import cut

if TYPE_CHECKING:
    from factory.stages.models.codec import Batch, Codec, Encoded
    from factory.stages.models.loaded import LoadedModel

SETTINGS_FILE = "scorer.json"
FORMAT = 1


@dataclass(frozen=True)
class ScorerSettings:
    """What must be the same in training and in use."""

    objective: str
    """`bradley_terry`: a higher score is better. `cost`: a higher score is worse, above 0 is unsafe."""
    show_reference: bool
    """The scorer also reads the sample's reference answer and caption."""
    max_length: int
    """Tokens of prompt and response together."""
    shape: str = ""
    """Output shape (`factory.rewards.formats`) whose answer alone is read, never the reasoning; empty: the whole response."""


class ScorerModel(nn.Module):
    """A backbone and its head as one module; what the Learner trains and saves."""

    def __init__(self, backbone: Any, head: ValueHead, settings: ScorerSettings) -> None:
        """`backbone`: a transformers model with a language head, or a peft model around one."""
        super().__init__()
        self.backbone, self.value_head, self.settings = backbone, head, settings
        words_out, words_in = backbone.get_output_embeddings(), backbone.get_input_embeddings()
        if words_out is not None and words_out.weight is not words_in.weight:
            # The language head is never run here, so it must not wait for a gradient.
            words_out.weight.requires_grad_(False)

    @property
    def config(self) -> Any:
        """The backbone's."""
        return self.backbone.config

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """The backbone's."""
        self.backbone.gradient_checkpointing_enable(**kwargs)

    def forward(self, **inputs: Tensor) -> Tensor:
        """[B] float32: the score of each row, read off its last real token. `inputs` as from `Codec.collate`."""
        inner = self.backbone.get_base_model() if hasattr(self.backbone, "peft_config") else self.backbone
        if hasattr(inner, "embed_words_and_dna"):
            inputs["inputs_embeds"] = inner.embed_words_and_dna(inputs.pop("input_ids"))
        hidden_BTH = inner.base_model(**inputs, use_cache=False).last_hidden_state
        last_B = inputs["attention_mask"].sum(dim=1) - 1
        return self.value_head(hidden_BTH[torch.arange(len(last_B), device=last_B.device), last_B])

    def save_pretrained(self, folder: str, **kwargs: Any) -> None:
        """Backbone (or its adapter) as always; beside it the head and `scorer.json`."""
        self.backbone.save_pretrained(folder, **kwargs)
        save_head(self.value_head, Path(folder))
        text = json.dumps({"format": FORMAT, **asdict(self.settings)}, indent=2)
        (Path(folder) / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")


def with_head(loaded: LoadedModel, settings: ScorerSettings, *, seed: int) -> LoadedModel:
    """The loaded model with a new head on it, to be trained as a scorer."""
    hidden_size = loaded.model.config.get_text_config().hidden_size
    head = ValueHead(hidden_size, seed).to(loaded.device)
    return replace(loaded, model=ScorerModel(loaded.model, head, settings))


def encode_for_scoring(sample: Sample, response: str, codec: Codec, *, show_reference: bool) -> Encoded:
    """Prompt, response and end of turn, exactly as in training; with `show_reference` also what the sample knows to be true.

    Raises:
        DataError: `show_reference`, and the sample has neither a reference nor a caption; or its images cannot be used.
    """
    messages = reveal(sample) if show_reference else sample.messages
    return codec.lesson(messages, response, sample.media)


def reveal(sample: Sample) -> tuple[Message, ...]:
    """The sample's messages with `meta["caption"]` and the reference written at the end of the last user turn.

    Source: Fact-RLHF (LLaVA-RLHF, arXiv 2309.14525): the scorer sees captions and true answers, so it can catch invented
    details. The policy never reads them.
    """
    reference = sample.reference
    known = {
        "Caption": sample.meta.get("caption"),
        "Reference": reference if reference is None or isinstance(reference, str) else json.dumps(reference, sort_keys=True),
    }
    # A literal placeholder in a reference would ask for an image that is not there.
    lines = [f"{name}: {str(text).replace(IMAGE, '(image)')}" for name, text in known.items() if text not in (None, "")]
    place = max((i for i, message in enumerate(sample.messages) if message.role == "user"), default=None)
    if not lines or place is None:
        lack = "neither a reference nor meta.caption" if not lines else "no user turn to write its reference into"
        raise DataError(f"sample {sample.id}: has {lack}, but the scorer was asked to show it. Set show_reference=false.")
    told = Message("user", "\n".join([sample.messages[place].content, "", *lines]))
    return (*sample.messages[:place], told, *sample.messages[place + 1 :])


class Scorer:
    """A trained scorer, in eval mode.

    Args:
        loaded: its `model` is a `ScorerModel`.
        batch_size: rows per forward.
    """

    def __init__(self, loaded: LoadedModel, *, batch_size: int = 16) -> None:
        self.loaded, self.batch_size = loaded, batch_size
        self.settings: ScorerSettings = loaded.model.settings
        loaded.model.eval().requires_grad_(False)

    def score(self, items: Sequence[tuple[Sample, str]]) -> list[float]:
        """One number per (sample, response), in order. Higher is better, or worse when `settings.objective` is `cost`.

        Responses too long for `settings.max_length` are read up to there, as in training. With `settings.shape` only a response's
        answer is read; one without an answer is read whole.

        Raises:
            DataError: an image cannot be used or would be cut, or a reference is missing that the scorer needs.
        """
        codec, settings = self.loaded.codec, self.settings
        texts = [parse(text, settings.shape).answer or text if settings.shape else text for _, text in items]
        rows = [
            encode_for_scoring(sample, text, codec, show_reference=settings.show_reference)
            for (sample, _), text in zip(items, texts, strict=True)
        ]
        rows = [cut(row, settings.max_length) for row in rows]
        # Images apart from text, equal lengths together: less padding. The answer is in the order of `items`.
        order = sorted(range(len(rows)), key=lambda i: (rows[i].pixels is not None, len(rows[i].ids), i))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            values = self._forward(codec.collate([rows[i] for i in part], device=self.loaded.device))
            for i, value in zip(part, values.tolist(), strict=True):
                scores[i] = value
        return scores

    def _forward(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self.loaded.model(**model_inputs(batch))


def load_scorer(
    folder: Path | str, *, precision: str = "fp32", device: torch.device | str | None = None, batch_size: int = 16
) -> Scorer:
    """Load the `scorer` folder of a `reward_model` stage (full weights, or an adapter on its base).

    Args:
        precision: format of the backbone, `fp32` or `bf16`; the head is always float32.
        device: default the GPU of LOCAL_RANK, or the CPU.

    Raises:
        ModelError: no scorer.json or head, another format, or a backbone that `load` refuses.
    """
    source = Path(folder)
    settings = _read_settings(source / SETTINGS_FILE)
    loaded = load(source, precision=precision, device=device)
    head = load_head(source, loaded.model.config.get_text_config().hidden_size).to(loaded.device)
    return Scorer(replace(loaded, model=ScorerModel(loaded.model, head, settings)), batch_size=batch_size)


def _read_settings(path: Path) -> ScorerSettings:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.pop("format") != FORMAT:
            raise ModelError(f"{path}: is of another format than {FORMAT}. Use the version of the factory that wrote it.")
        return ScorerSettings(**row)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ModelError(f"{path}: cannot be read ({err!r}). Give the `scorer` folder of a reward_model stage.") from err
