"""From a series to what the model is shown: a picture or numbers, the messages, and what the sample's meta says about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory.contracts import IMAGE, Media, Message
from factory.domains.timeseries.options import Shown
from factory.domains.timeseries.render import RENDERER, SIDE, tile
from factory.domains.timeseries.series import Series
from factory.domains.timeseries.written import written
from factory.packs.generated import system_prompt

PROMPTS = Path(__file__).parent / "prompts"


def picture(series: Series, shown: Shown, *, view: str, title: str) -> Media:
    """The plot of a series."""
    view = view if shown.view == "auto" else shown.view
    if shown.plot == "tile":
        return Media(data=tile(series, view))
    from factory.domains.timeseries.figure import figure

    return Media(data=figure(series, view, title))


def user_text(series: Series, shown: Shown, question: str) -> str:
    """The user's turn: the picture's place or the numbers, then the question."""
    return f"{IMAGE if shown.mode == 'image' else written(series, shown.points)}\n{question}"


def messages(text: str, shown: Shown, task: str) -> tuple[Message, ...]:
    """The user's turn, with the system turn in front where one is asked for."""
    system = system_turn(shown, task)
    return (*((Message("system", system),) if system else ()), Message("user", text))


def system_turn(shown: Shown, task: str) -> str:
    """The system prompt, or an empty text."""
    if shown.system == "none":
        return ""
    form = form_of(shown, task)
    return system_prompt(PROMPTS, shown.system, form=form, thinking=shown.thinking, mode=shown.mode)


def form_of(shown: Shown, task: str) -> str:
    """TimeMaster's form is for classes alone; everything else answers in `<answer>`."""
    return "timemaster" if shown.form == "timemaster" and task == "classify" else "answer"


def about(series: Series, shown: Shown, *, task: str) -> dict[str, Any]:
    """What every sample's meta holds: form, length, the values for baselines, and how it was drawn."""
    meta: dict[str, Any] = {
        "form": form_of(shown, task), "thinking": shown.thinking, "mode": shown.mode, "length": series.length,
        "series": series.to_json(),
    }  # fmt: skip
    if shown.mode == "image":
        if shown.plot == "tile":
            meta |= {"renderer": RENDERER, "width": SIDE, "height": SIDE}
        else:
            from factory.domains.timeseries.figure import renderer

            meta["renderer"] = renderer()
    return meta
