"""The plot of TimeMaster (arXiv 2506.13705): 6 x 2.5 inch, a title, the axes "Timestamp" and "Value". For real base models.

A model depends on the pixels, so dpi, font and line are fixed here, and the name of the renderer, with the version of
matplotlib, stands in every sample's meta.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np

from factory.domains.timeseries.render import VIEWS, draw
from factory.domains.timeseries.series import Series

INCHES, DPI = (6.0, 2.5), 100
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9.0, "lines.linewidth": 1.0, "axes.grid": False, "figure.facecolor": "white",
    "savefig.dpi": DPI, "figure.dpi": DPI, "path.simplify": False, "text.hinting": "none", "text.hinting_factor": 8,
}  # fmt: skip


@cache
def renderer() -> str:
    """Name of this renderer with the version of matplotlib, for `meta["renderer"]`."""
    import matplotlib

    return f"figure-1/matplotlib-{matplotlib.__version__}"


def figure(series: Series, view: str, title: str) -> bytes:
    """PNG of 600 x 250 px."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert view in VIEWS
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        page = Figure(figsize=INCHES, dpi=DPI)
        FigureCanvasAgg(page)
        axes = page.add_subplot()
        if view == "line":
            for index, values in enumerate(series.values):
                name = series.channels[index] if index < len(series.channels) else None
                axes.plot(np.arange(series.length), values, label=name, color=name if name in ("red", "blue") else None)
            if series.channels:
                axes.legend(loc="upper right", fontsize=7)
            if series.low is not None and series.high is not None:
                axes.set_ylim(series.low, series.high)
            axes.set_xlabel("Timestamp")
            axes.set_ylabel("Value")
        else:
            axes.imshow(draw(series, view), aspect="auto", interpolation="nearest", extent=(0, series.length, 0, 1))
            axes.set_xlabel("Timestamp")
            axes.set_ylabel("Frequency (1 = half the rate)" if view == "spectrogram" else "Timestamp (share)")
        axes.set_title(title)
        page.tight_layout()
        out = io.BytesIO()
        page.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
