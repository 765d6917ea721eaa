"""Curves of a run as inline SVG. Matplotlib draws them; nothing is loaded from anywhere."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from factory.report.read import Measured, Trained

PALETTE = ("#3b6ea5", "#c8553d", "#588157", "#8e6c8a", "#d9a441", "#4a4e69")
"""Readable side by side and when printed grey."""

RL_CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("share of rollouts or groups", ("zero_advantage_share", "masked_share", "clip_share", "truncated_share")),
    ("entropy (nats per token)", ("entropy",)),
    ("completion length (tokens)", ("length_mean", "length_right", "length_wrong")),
    ("KL to the reference", ("kl",)),
    ("cost (constrained RL)", ("cost",)),
    ("multiplier of the cost", ("lagrange_multiplier",)),
)


def _svg(draw: Any, *, width: float = 4.6, height: float = 2.6) -> str:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = {"svg.fonttype": "none", "svg.hashsalt": "factory", "font.size": 9, "font.family": "sans-serif",
                "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}  # fmt: skip
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
        try:
            draw(axes)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
        finally:
            pyplot.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Trailing mean over `window` points, so that the curve never shows what came later."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / len(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]


def curve(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], title: str) -> str | None:
    """One chart of several metrics over steps: points pale, trailing mean strong. None when no row has any of the keys."""
    series = {key: [(row["step"], row[key]) for row in rows if isinstance(row.get(key), (int, float))] for key in keys}
    series = {key: points for key, points in series.items() if points}
    if not series:
        return None

    def draw(axes: Any) -> None:
        for colour, (key, points) in zip(PALETTE, series.items(), strict=False):
            steps, values = [p[0] for p in points], [p[1] for p in points]
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(steps, smoothed(values, max(1, len(values) // 20)), color=colour, linewidth=1.6, label=key)
        axes.set_xlabel("optimiser step")
        axes.set_title(title, loc="left", fontsize=9)
        if len(series) > 1:
            axes.legend(fontsize=7, frameon=False)

    return _svg(draw)


def stage_chart(evals: Sequence[Measured]) -> str | None:
    """The primary figure with its interval, base and every stage, test split; the blind control beside it."""
    if not evals:
        return None

    def draw(axes: Any) -> None:
        names = [measured.stage for measured in evals]
        for offset, (label, colour) in enumerate((("images shown", PALETTE[0]), ("blind control", PALETTE[5]))):
            points = [_point(measured, blind=offset == 1) for measured in evals]
            kept = [(i + 0.12 * offset, *point) for i, point in enumerate(points) if point]
            if kept:
                xs, ys, lows, highs = zip(*kept, strict=True)
                below = [max(0.0, y - low) for y, low in zip(ys, lows, strict=True)]
                above = [max(0.0, high - y) for y, high in zip(ys, highs, strict=True)]
                axes.errorbar(xs, ys, yerr=[below, above], fmt="o", color=colour, capsize=3, label=label)
        axes.set_xticks(range(len(names)), names)
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel(evals[0].primary["name"])
        axes.legend(fontsize=7, frameon=False)

    return _svg(draw, width=6.4)


def trade_off_chart(evals: Sequence[Measured], wanted: Mapping[str, Any]) -> str | None:
    """Two figures against each other, a point for the base and every stage. None when the pack asks for none, or no eval has both.

    Args:
        wanted: `trade_off` of the manifest: `x` and `y` as `probe: figure`, `title`, and `points` of known policies.
    """
    points = {measured.stage: _figures(measured, [str(wanted.get(axis, "")) for axis in ("x", "y")]) for measured in evals}
    points = {stage: pair for stage, pair in points.items() if None not in pair}
    if not points:
        return None

    def draw(axes: Any) -> None:
        for name, (x, y) in wanted.get("points", {}).items():
            axes.plot([x], [y], "x", color=PALETTE[5])
            axes.annotate(
                name,
                (x, y),
                textcoords="offset points",
                xytext=(6, -10 if y > 0.5 else 5),
                fontsize=7,
                ha="right" if x > 0.5 else "left",
            )
        for index, (stage, (x, y)) in enumerate(points.items()):
            axes.plot([x], [y], "o", color=PALETTE[index % len(PALETTE)], label=stage)
        axes.set(xlabel=wanted["x"], ylabel=wanted["y"], xlim=(-0.04, 1.04), ylim=(-0.04, 1.06))
        axes.set_title(str(wanted.get("title", "")), loc="left", fontsize=9)
        axes.legend(fontsize=7, frameon=False)

    return _svg(draw, width=5.2, height=3.6)


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
    charts = [curve(rows, ("loss",), f"{trained.name}: loss"), curve(rows, ("lr",), f"{trained.name}: learning rate")]
    rewards = sorted(
        {key for row in rows for key in row if key == "reward" or (key.startswith("reward/") and key.count("/") == 1)}
    )
    if rewards:
        charts.insert(0, curve(rows, rewards, f"{trained.name}: reward by part"))
        charts += [curve(rows, keys, f"{trained.name}: {title}") for title, keys in RL_CHARTS]
    return [chart for chart in charts if chart]
