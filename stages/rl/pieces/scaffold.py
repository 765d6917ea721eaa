"""A caption in the prompt as a scaffold that a later stage takes away (Infi-MMR's second phase)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from factory.contracts import Sample
from factory.errors import DataError
from factory.stages.rl.pieces.piece import piece


@piece(
    "format", "caption_aided", formula="prompt = question + caption of the image", source="Infi-MMR, arXiv 2505.23091",
    caveat="wording and place of the caption are ours",
)  # fmt: skip
@dataclass(frozen=True)
class CaptionAided:
    """The prompt as the pack wrote it, with the sample's caption after the question."""

    field: str = "caption"
    """Key of `sample.meta` that holds the caption."""
    heading: str = "Caption of the image:"

    def render(self, sample: Sample) -> Sample:
        """The sample with its caption at the end of the last user message; the same when it is there already.

        Raises:
            DataError: a sample with images has no caption.
        """
        if not sample.media:
            return sample
        text = sample.meta.get(self.field)
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"sample {sample.id!r}: format=caption_aided wants a caption in meta.{self.field}, and there is none. "
                "Give the samples captions, name another field, or leave the stage out."
            )
        added = f"\n\n{self.heading} {text.strip()}"
        last = max(place for place, message in enumerate(sample.messages) if message.role == "user")
        if sample.messages[last].content.endswith(added):
            return sample
        message = replace(sample.messages[last], content=sample.messages[last].content + added)
        return replace(sample, messages=(*sample.messages[:last], message, *sample.messages[last + 1 :]))

    def read(self, text: str) -> Mapping[str, str]:
        """No fields."""
        return {}
