"""What every page of the report is made with: templates, number formats, style, script and its policy, and a whole write."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any


def page_parts() -> dict[str, str]:
    """Style and script of a page, and the hash by which its content policy allows that one script and no other."""
    folder = files("factory.templates").joinpath("report")
    script = folder.joinpath("browser.js.jinja").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {
        "style": folder.joinpath("style.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": f"sha256-{digest}",
    }


def template(name: str) -> Any:
    """A template of `factory.templates`, with the filters of the report. Pages are escaped, cards are not."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("factory.templates")
    environment = Environment(
        loader=FunctionLoader(lambda path: folder.joinpath(path).read_text(encoding="utf-8")),
        autoescape=lambda path: path is not None and path.endswith(".html.jinja"),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "share": _share,
        "interval": _interval,
        "signed": _signed,
        "plain": _plain,
        "span": _span,
        "count": _count,
    }
    return environment.get_template(name)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(pair: Sequence[float] | None) -> str:
    return "" if not pair else f"[{100 * pair[0]:.1f}, {100 * pair[1]:.1f}]"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    whole = round(seconds)
    return (
        f"{whole} s"
        if whole < 60
        else f"{whole // 60} min {whole % 60:02d} s"
        if whole < 3600
        else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def _count(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}".replace(",", "\u202f")
