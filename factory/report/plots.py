"""Curves of a run and the figures of its stages as charts. What draws them is `factory.report.svg`; nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory.report.read import Measured, Trained
from factory.report.svg import Mark, dots, lines

PALETTE = ("#2f6690", "#b3452c", "#47734a", "#7d5a79", "#97690f", "#4a4e69")
"""At least 4.5 : 1 on the page's ground, readable side by side and when printed grey."""

RL_CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("share of rollouts or groups", ("zero_advantage_share", "masked_share", "clip_share", "truncated_share")),
    ("entropy (nats per token)", ("entropy",)),
    ("completion length (tokens)", ("length_mean", "length_right", "length_wrong")),
    ("KL to the reference", ("kl",)),
    ("cost (constrained RL)", ("cost",)),
    ("multiplier of the cost", ("lagrange_multiplier",)),
)


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Trailing mean over `window` points, so that the curve never shows what came later."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / len(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]


def trailing(values: Sequence[float]) -> list[float]:
    """`smoothed` over a twentieth of the points."""
    return smoothed(values, max(1, len(values) // 20))


def points_of(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have the metric."""
    return [(float(row["step"]), float(row[key])) for row in rows if isinstance(row.get(key), (int, float))]


def curve(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], title: str, *, is_noisy: bool = True) -> str | None:
    """One chart of several metrics over steps: points pale, trailing mean strong. None when no row has any of the keys."""
    series = {key: points_of(rows, key) for key in keys}
    return lines(series, title, xlabel="optimiser step", smooth=trailing if is_noisy else None) or None


def stage_chart(evals: Sequence[Measured]) -> str | None:
    """The primary figure with its interval, base and every stage, test split; the blind control beside it."""
    if not evals:
        return None
    marks = [
        Mark(
            index + 0.12 * blind,
            point[0],
            f"{measured.stage}{' (blind)' if blind else ''}",
            point[1],
            point[2],
            5 if blind else 0,
        )
        for blind in (False, True)
        for index, measured in enumerate(evals)
        if (point := _point(measured, blind=blind))
    ]
    groups = ["with all inputs", *([""] * 4), "blind control: images replaced by grey"] if any(m.group for m in marks) else []
    names = [measured.stage for measured in evals]
    title = f"Held-out {evals[0].primary['name']} after each stage, with 95 % intervals"
    return dots(marks, title, xlabel="model after", ylabel="", groups=groups, xnames=names, y=(-0.02, 1.02)) or None


def trade_off_chart(evals: Sequence[Measured], wanted: Mapping[str, Any]) -> str | None:
    """Two figures against each other, a point for the base and every stage. None when the pack asks for none, or no eval has both.

    Args:
        wanted: `trade_off` of the manifest: `x` and `y` as `probe: figure`, `title`, and `points` of known policies.
    """
    points = {measured.stage: _figures(measured, [str(wanted.get(axis, "")) for axis in ("x", "y")]) for measured in evals}
    points = {stage: pair for stage, pair in points.items() if None not in pair}
    if not points:
        return None
    marks = [Mark(x, y, name, is_cross=True) for name, (x, y) in wanted.get("points", {}).items()]
    marks += [
        Mark(x, y, stage, group=index) for index, (stage, (x, y)) in enumerate(points.items()) if x is not None and y is not None
    ]
    title = str(wanted.get("title", ""))
    return dots(marks, title, xlabel=str(wanted["x"]), ylabel=str(wanted["y"]), x=(-0.06, 1.06), y=(-0.06, 1.06))


def _figures(measured: Measured, keys: Sequence[str]) -> list[float | None]:
    """Probe figures by `probe: figure`; None for one that this eval lacks."""
    probes = measured.figures.get("probes", {})
    return [probes.get(probe, {}).get(figure) for probe, _, figure in (key.partition(": ") for key in keys)]


def _point(measured: Measured, *, blind: bool) -> tuple[float, float, float] | None:
    figures = measured.figures.get("blind", {}) if blind else measured.figures["splits"]["test"]
    primary = figures.get("primary", {})
    if primary.get("value") is None or not primary.get("ci"):
        return None
    return primary["value"], primary["ci"][0], primary["ci"][1]


def training_charts(trained: Trained) -> list[str]:
    """Loss always; for RL also the reward by part, zero-advantage groups, entropy, length by right and wrong, KL."""
    rows = trained.metrics
    charts = [
        curve(rows, ("loss",), f"{trained.name}: loss"),
        curve(rows, ("lr",), f"{trained.name}: learning rate", is_noisy=False),
    ]
    rewards = sorted(
        {key for row in rows for key in row if key == "reward" or (key.startswith("reward/") and key.count("/") == 1)}
    )
    if rewards:
        charts.insert(0, curve(rows, rewards, f"{trained.name}: reward by part"))
        charts += [curve(rows, keys, f"{trained.name}: {title}") for title, keys in RL_CHARTS]
    return [chart for chart in charts if chart]
