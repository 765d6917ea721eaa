"""The pack's own options (`pack.*` in a build's config), checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from factory.domains.timeseries.families import FAMILIES
from factory.domains.timeseries.puzzles import PUZZLES
from factory.domains.timeseries.render import VIEWS
from factory.domains.timeseries.signals import SNR
from factory.errors import ConfigError
from factory.packs.settings import check_shares, one_of, within

GENERATED_TASKS = ("classify", "feature", *PUZZLES)
SHARES = {"classify": 0.3, "feature": 0.2, "anomaly": 0.1, "change": 0.1, "forecast": 0.1, "compare": 0.1, "count": 0.1}
MODES, PLOTS, STYLES = ("image", "text"), ("tile", "figure"), ("terse", "full")
FORMS, SYSTEMS, THINKING = ("answer", "timemaster"), ("none", "expert"), ("long", "short", "off")


@dataclass(frozen=True)
class Shown:
    """How a series reaches the model; the same for generated and real ones."""

    mode: str = "image"
    """`image` draws the series, `text` writes its numbers into the question; the sample is the same in both."""
    view: str = "auto"
    """`line`, `spectrogram` or `recurrence`; `auto` takes what suits the signal (sound: spectrogram, else line)."""
    plot: str = "tile"
    """`tile`: 64 px, no axes, for the embedded model. `figure`: the 600 x 250 px plot of TimeMaster, with axes and title."""
    points: int = 64
    """Numbers of each channel in text mode."""
    style: str = "terse"
    """`terse`: a few words, for the embedded model. `full`: sentences, for a real one."""
    form: str = "answer"
    """Form of a class: `answer` tags, or TimeMaster's `<class>` and `<extension>`."""
    system: str = "none"
    """System turn: `none` or `expert`."""
    thinking: str = "long"
    """Reasoning in lessons: `long`, `short` (conclusion only), or `off` (no reasoning block)."""

    def __post_init__(self) -> None:
        allowed = {"mode": MODES, "view": ("auto", *VIEWS), "plot": PLOTS, "style": STYLES, "form": FORMS, "system": SYSTEMS,
                   "thinking": THINKING}  # fmt: skip
        for name, words in allowed.items():
            one_of(f"pack.{name}", getattr(self, name), words)
        within("pack.points", self.points, 2, 4096)
        if self.form == "timemaster" and self.thinking == "off":
            raise ConfigError(
                "pack.form=timemaster needs reasoning: its <think> block is required. Set pack.thinking=short or long."
            )


@dataclass(frozen=True)
class Options(Shown):
    """What the generator draws, and how it asks."""

    families: tuple[str, ...] = tuple(FAMILIES)
    """Families of signals: any of emg, ecg, har, ctu, tee, rcw."""
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Task -> share of the questions; any positive scale. A task that is not named gets none."""
    difficulties: Mapping[str, float] = field(default_factory=lambda: {"easy": 0.4, "medium": 0.4, "hard": 0.2})
    """Difficulty -> share: 22 to 28, 15 to 20 and 8 to 12 dB of signal over noise."""

    def __post_init__(self) -> None:
        Shown.__post_init__(self)
        check_shares(self.shares, GENERATED_TASKS)
        for name in self.families:
            one_of("an item of pack.families", name, tuple(FAMILIES))
        if not self.families:
            raise ConfigError("pack.families is empty. Name at least one of " + ", ".join(FAMILIES) + ".")
        for name, share in self.difficulties.items():
            one_of("a key of pack.difficulties", name, tuple(SNR))
            within(f"pack.difficulties.{name}", share, 0.0, float("inf"))
        if not sum(self.difficulties.values()) > 0:
            raise ConfigError("pack.difficulties gives nothing a share above 0. Set one, for example pack.difficulties.easy=1.")
