"""Multi-turn zoom: the policy asks for a part of an image, gets it as a new image, and goes on.

A call is one `<zoom>{"image": 1, "bbox": [x1, y1, x2, y2]}</zoom>` outside the reasoning, at the end of a turn: `image` counts
the prompt's images from 1 (1 when left out), x to the right and y down. The answer to it is a turn of its own with the crop
(or with what was wrong with the call), role `tool`: never trained on. Calls are never answered beyond the turn limit and the
pixel budget, and nothing that the policy writes can make the step fail.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.contracts import IMAGE, Media, Sample
from factory.rewards.formats import AnswerForm, Shape, parse
from factory.rewards.regions import Box, check_box
from factory.stages.rl.context import Pairs, StepContext
from factory.stages.rl.pieces.formats import FORM, KEPT, Format, read_blocks
from factory.stages.rl.pieces.piece import piece
from factory.stages.rl.pieces.splice import extended, put, write_on
from factory.stages.rl.rollouts import Group, Rollout
from factory.stages.rl.transcript import turns

if TYPE_CHECKING:
    from PIL.Image import Image

UNITS = ("pixel", "thousandth")
MAX_ASPECT = 100.0
"""Longer than this to its width, a crop is refused; image processors refuse 200."""
_CALL = Shape("zoom", AnswerForm.tags, needs_thinking=False, answers=(("<zoom>", "</zoom>"),), is_whole=False)


class BadCall(ValueError):
    """What was wrong with a call, in words for the policy. Holds nothing that the policy wrote."""


def asked(turn: str) -> str | None:
    """The text of a turn's one call; "" for several or a broken one; None when the turn does not call, or answers."""
    spoken = turn.rpartition("</think>")[2].lower()
    if "<zoom>" not in spoken or "<answer>" in spoken:
        return None
    return parse(turn, _CALL).answer or ""


def read_call(call: str, sizes: Sequence[tuple[int, int]], *, unit: str, min_side_px: int) -> tuple[int, Box]:
    """(place of the image, box in its pixels, inside it). `sizes`: (width, height) of the prompt's images.

    Raises:
        BadCall: not the JSON form, no such image, no box, too small or too narrow.
    """
    try:
        row = json.loads(call)
        place = row.get("image", 1) if isinstance(row, dict) else None
        if not isinstance(row, dict) or isinstance(place, bool) or not isinstance(place, int):
            raise ValueError("not an object with a whole number")
    except (ValueError, RecursionError) as err:
        raise BadCall('write one call as {"image": 1, "bbox": [x1, y1, x2, y2]}') from err
    if not 1 <= place <= len(sizes):
        raise BadCall(f"images are numbered 1 to {len(sizes)}")
    try:
        x1, y1, x2, y2 = check_box(row.get("bbox"))
    except (ValueError, OverflowError) as err:
        raise BadCall("bbox must be four numbers, x1 below x2 and y1 below y2") from err
    width, height = sizes[place - 1]
    across, down = (width / 1000, height / 1000) if unit == "thousandth" else (1.0, 1.0)
    box = (max(x1 * across, 0.0), max(y1 * down, 0.0), min(x2 * across, width), min(y2 * down, height))
    sides = (box[2] - box[0], box[3] - box[1])
    if min(sides) < min_side_px:
        raise BadCall(f"the part inside the image must be at least {min_side_px} pixels wide and high")
    if max(sides) > MAX_ASPECT * min(sides):
        raise BadCall(f"one side of the part must not be over {MAX_ASPECT:g} times the other")
    return place - 1, box


def cropped(image: Image, box: Box, *, magnify: float, max_pixels: int) -> Image:
    """The part of the image, enlarged by `magnify`, then made smaller to at most `max_pixels`."""
    part = image.crop((int(box[0]), int(box[1]), max(int(box[0]) + 1, round(box[2])), max(int(box[1]) + 1, round(box[3]))))
    scale = min(magnify, (max_pixels / (part.width * part.height)) ** 0.5)
    size = (max(1, int(part.width * scale)), max(1, int(part.height * scale)))
    return part if size == part.size else part.resize(size, resample=3)


@piece(
    "hook", "zoom", formula="turn with <zoom>box</zoom> + tool turn with the crop (not trained) + the policy's next turn, ...",
    source="DeepEyes, arXiv 2505.14362; also Chain-of-Focus, MGPO (max_calls=1)", needs={"more_generation"},
    caveat="no source gives turn limit and pixel budget; the defaults are ours",
)  # fmt: skip
@dataclass(frozen=True)
class Zoom:
    """Answers the calls of `format.zoom`."""

    max_calls: int = 4
    """Calls answered in one rollout, good or bad (ours); one more is told that there are no more."""
    pixel_budget: int = 1_003_520
    """Pixels of all crops of a rollout, before the image processor: 1280 image tokens of 28 x 28 pixels (ours)."""
    min_side_px: int = 28
    """Of a crop, in pixels of the prompt's image."""
    magnify: float = 1.0
    """Crops are enlarged by this before the image processor sees them."""
    unit: str = "pixel"
    """Of the boxes; as in `format.zoom`."""
    turn_tokens: int = 0
    """Most tokens of each further turn; 0 means max_new_tokens."""
    role: str = "user"
    """Chat role of the answers to calls."""
    when = "before_reward"

    def __post_init__(self) -> None:
        if self.max_calls < 1 or self.pixel_budget < 1 or self.min_side_px < 1 or self.magnify <= 0 or self.turn_tokens < 0:
            raise ValueError("max_calls, pixel_budget and min_side_px must be 1 or more, magnify above 0, turn_tokens 0 or more.")
        if self.unit not in UNITS:
            raise ValueError(f"unit={self.unit!r} is not known. Choose {' or '.join(UNITS)}.")

    def extra_tokens(self, max_new_tokens: int) -> int:
        """Most tokens generated beyond a rollout's own, for the plan."""
        return self.max_calls * (self.turn_tokens or max_new_tokens)

    def apply(self, ctx: StepContext, groups: Sequence[Group]) -> None:
        """Answer calls and let the policy go on, in place, until no rollout of this process calls any more."""
        assert ctx.services is not None, "a run has services"
        open_pairs: Pairs = [(g.sample, one) for g in groups if g.sample.media for one in g.rollouts]
        limit, images = self.turn_tokens or ctx.max_new_tokens, _Images()
        for number in range(self.max_calls + 1):
            calling = [pair for pair in open_pairs if self._calls(ctx, pair[1])]
            open_pairs = [pair for pair in calling if self._answer(ctx, pair, images, limit, is_last=number == self.max_calls)]
            found = extended(ctx, f"zoom-{number}", open_pairs, max_new_tokens=limit, temperature=ctx.temperature)
            for (_, rollout), continuation in zip(open_pairs, found, strict=True):
                write_on(rollout, continuation)
                ctx.services.read(rollout)
        shown = sum(len(one.images) for group in groups for one in group.rollouts)
        ctx.counts["zooms"] += shown

    def _calls(self, ctx: StepContext, rollout: Rollout) -> bool:
        assert ctx.services is not None, "a run has services"
        return rollout.finished and bool(rollout.ids) and asked(turns(rollout.text)[-1]) is not None

    def _answer(self, ctx: StepContext, pair: tuple[Sample, Rollout], images: _Images, limit: int, *, is_last: bool) -> bool:
        """Append the tool's turn. False, and nothing appended, when the context has no room for it and a further turn."""
        sample, rollout = pair
        assert ctx.services is not None, "a run has services"
        crop: tuple[Media, ...] = ()
        if is_last:
            text = "No parts can be shown any more. Answer now."
        else:
            try:
                crop = (self._crop(sample, rollout, images),)
                text = f"The part that you asked for: {IMAGE}"
            except BadCall as err:
                text = f"This call could not be answered: {err}."
        ids = ctx.services.reply(text, crop, role=self.role)
        if ctx.services.room(sample, rollout) < len(ids) + limit:
            return False
        put(rollout, ids, "tool")
        rollout.images = [*rollout.images, *crop]
        return True

    def _crop(self, sample: Sample, rollout: Rollout, images: _Images) -> Media:
        sizes = [images.of(media).size for media in sample.media]
        call = asked(turns(rollout.text)[-1]) or ""
        place, box = read_call(call, sizes, unit=self.unit, min_side_px=self.min_side_px)
        left = self.pixel_budget - sum(images.of(media).width * images.of(media).height for media in rollout.images)
        if left < self.min_side_px**2:
            raise BadCall("no more pixels can be shown")
        part = cropped(images.of(sample.media[place]), box, magnify=self.magnify, max_pixels=left)
        buffer = io.BytesIO()
        part.save(buffer, "PNG")
        return Media(data=buffer.getvalue())


class _Images:
    """Decoded images of one call of the hook, by their encoded form."""

    def __init__(self) -> None:
        self._open: dict[Media, Image] = {}

    def of(self, media: Media) -> Image:
        from factory.stages.models.images import open_image

        if media not in self._open:
            self._open[media] = open_image(media)
        return self._open[media]


@piece("format", "zoom", formula="<think>..</think><zoom>{box}</zoom>, ..., <think>..</think><answer>..</answer>",
       source="DeepEyes, arXiv 2505.14362; two fixed rounds: MGPO, arXiv 2507.05920")  # fmt: skip
@dataclass(frozen=True)
class ZoomFormat(Format):
    """Turns that ask for a part of the image, then the turn that answers. Needs `hook.zoom` to have its calls answered.

    The completion is a transcript; verifiers read its last turn.
    """

    must_zoom: bool = False
    """The first turn has to be a call, because models do not zoom on their own (MGPO)."""
    unit: str = "pixel"
    """Of the boxes: `pixel` of the image as it was given, or `thousandth` of its width and height. As in `hook.zoom`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit not in UNITS:
            raise ValueError(f"unit={self.unit!r} is not known. Choose {' or '.join(UNITS)}.")

    def instruction(self) -> str:
        """The call, then the answer."""
        when = "Your first turn must look closer" if self.must_zoom else "In any turn you may look closer"
        box = "x to the right and y down, in " + ("pixels" if self.unit == "pixel" else "thousandths of width and height")
        return (
            f'{when} at a part of an image:\n<think>your reasoning</think>\n<zoom>{{"image": 1, "bbox": [x1, y1, x2, y2]}}</zoom>\n'
            f"with {box}; then the turn ends and the part is shown to you. In the last turn:\n"
            "<think>your reasoning, step by step</think>\n<answer>the final answer only</answer>\nand nothing else."
        )

    def read(self, text: str) -> Mapping[str, str]:
        """`think` and `answer` of the last turn, and `calls`, the number of turns before it."""
        *calls, last = turns(text)
        found = read_blocks(last, _PASS)
        faults = [one[FORM] for one in (read_blocks(call, ("think", "zoom")) for call in calls) if one[FORM] != KEPT]
        fault = found[FORM] if found[FORM] != KEPT else faults[0] if faults else ""
        if not fault and self.must_zoom and not calls:
            fault = "the first turn is no <zoom> call"
        return {FORM: fault} if fault else {**found, "calls": str(len(calls))}

    def reasoning(self, fields: Mapping[str, str]) -> str:
        """That of the last turn."""
        return fields["think"]

    def answering(self, text: str) -> str:
        """The last turn."""
        return turns(text)[-1]


_PASS = ("think", "answer")


@piece(
    "reward", "deepeyes", formula="accuracy * value + format * (0 kept, -1 broken) + tool * [right and a crop was looked at]; in place of the value",
    source="DeepEyes, arXiv 2505.14362 (released code)",
    caveat="value is the mixture's; for mathematics the source has accuracy=1.2, format=0.4 and tool=0",
)  # fmt: skip
@dataclass(frozen=True)
class DeepEyes:
    """A tool bonus that only right answers get, so that zooming for its own sake earns nothing."""

    accuracy: float = 0.8
    format: float = 0.2
    tool: float = 1.2

    def __post_init__(self) -> None:
        if min(self.accuracy, self.format, self.tool) < 0:
            raise ValueError("accuracy, format and tool must be 0 or more.")

    def score(self, ctx: StepContext, sample: Sample, rollout: Rollout) -> float:
        """Reward units: what makes the whole reward the formula; 0 for a masked rollout."""
        if rollout.is_masked:
            return 0.0
        form = 0.0 if rollout.fields.get(FORM) == KEPT else -1.0
        bonus = self.tool if rollout.right and rollout.images else 0.0
        return (self.accuracy - 1.0) * (rollout.value or 0.0) + self.format * form + bonus
