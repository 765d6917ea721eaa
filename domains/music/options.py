"""The pack's own options (`pack.*` of a build without data paths), checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from factory.packs.settings import check_shares, one_of, within

SSMR = ("interval", "note", "chord", "chord_root", "chord_completion", "chord_key_root", "scale", "scale_selection", "time_signature",
        "bar_lines")  # fmt: skip
"""The templates of SSMR-Bench (its nine classes; the root of a diatonic triad under a key is the tenth row of its generator)."""
REASONING = ("key", "function", "inversion", "motif")
"""Shaped like the reasoning half of MusicTheoryBench."""
COMPOSITION = ("transposition", "repair", "continuation", "harmonisation")
TASKS = (*SSMR, *REASONING, *COMPOSITION)
"""What the generator can ask."""
TILE_TASKS = ("interval", "note", "chord", "chord_root", "chord_completion", "key", "time_signature")
"""Questions about at most four notes, or a signature, which a 64 px tile can show."""


@dataclass(frozen=True)
class Options:
    """How the generator asks and what it draws."""

    mode: str = "text"
    """`text`: the score in ABC. `visual`: the score as an image."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Task -> share of the questions; any positive scale. Empty: all tasks that the mode can ask, evenly."""
    style: str = "terse"
    """`terse`: a few words, for the embedded model. `full`: sentences and whole ABC with its fields."""
    choice: float = 0.3
    """Share of the questions that get four lettered options, where the task has options; 1 for SSMR-Bench's form."""
    form: str = "think_answer"
    """`think_answer`: `<think>` and `<answer>`. `boxed`: free reasoning, the answer in `\\boxed{}` (SSMR-Bench)."""
    thinking: str = "short"
    """Lessons: `short` working, or `off`."""
    system: str = "none"
    """System turn: `none`, `musician` or `ssmr`."""
    span: str = "staff"
    """Notes asked about: `staff` (C4 to A5), or `octave` (C4 to B4: capital letters only in ABC)."""
    images: str = "tile"
    """Visual mode: `tile` (64 px, own renderer) or `sheet` (engraved by verovio; needs domain-factory[music])."""
    option_images: bool = False
    """Visual mode: options as images in the four templates in which SSMR-Bench draws them."""
    textbook: float = 0.3
    """Visual mode: share of the corpus that is exercises in text."""
    drills: float = 0.25
    """Share of the exercises in the corpus that are drills: rows of notes copied, sorted by letter, or walked along the staff."""
    voices: int = 2
    """Harmonisation: 2 (a bass) or 4."""
    bars: int = 1
    """Continuation: bars to write."""

    def __post_init__(self) -> None:
        one_of("pack.mode", self.mode, ("text", "visual"))
        one_of("pack.style", self.style, ("terse", "full"))
        one_of("pack.form", self.form, ("think_answer", "boxed"))
        one_of("pack.thinking", self.thinking, ("short", "off"))
        one_of("pack.system", self.system, ("none", "musician", "ssmr"))
        one_of("pack.span", self.span, ("staff", "octave"))
        one_of("pack.images", self.images, ("tile", "sheet"))
        one_of("pack.voices", self.voices, (2, 4))
        within("pack.choice", self.choice, 0.0, 1.0)
        within("pack.drills", self.drills, 0.0, 1.0)
        within("pack.textbook", self.textbook, 0.0, 1.0)
        within("pack.bars", self.bars, 1, 8)
        if self.shares:
            check_shares(self.shares, self.tasks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the mode can ask."""
        return TILE_TASKS if self.mode == "visual" and self.images == "tile" else TASKS

    @property
    def weights(self) -> dict[str, float]:
        """Task -> share, defaults filled in."""
        return dict(self.shares) or dict.fromkeys(self.tasks, 1.0)


NAMES = tuple(Options.__dataclass_fields__)
"""For the loader, which passes these over."""
