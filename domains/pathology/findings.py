"""What is in one synthetic field, as parameters, and the findings that follow from them.

Lengths are pixels of a 64 px tile at 1.5 microns per pixel. A finding is read off the parameters by a threshold;
`is_clear` refuses fields too near a threshold, so that each label can be seen in the picture.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from types import MappingProxyType

SIDE = 64
"""Tile side in pixels."""
MPP = 1.5
"""Microns per pixel: a tile spans 96 microns, a lymphocyte nucleus about 6."""

VALUES = MappingProxyType(
    {
        "stain": ("he", "ihc"),
        "size": ("small", "large"),
        "density": ("low", "high"),
        "gland": ("absent", "present"),
        "dab": ("negative", "focal", "patchy", "diffuse"),
        "shape": ("uniform", "pleomorphic"),
        "mitosis": ("absent", "present"),
        "necrosis": ("absent", "present"),
    }
)
"""Finding -> its values, in ascending order."""
CORE = ("stain", "size", "density", "gland", "dab")
"""Findings of every field. `dab` exists on IHC only."""
EXTRA = ("shape", "mitosis", "necrosis")
"""Findings drawn only when the pack option `extra_findings` names them."""

SIZE_EDGE = 3.0
"""Median nuclear radius, px (4.5 microns), from which nuclei are large."""
DENSITY_EDGE = 15
"""Nuclei per tile from which the density is high."""
SHAPE_EDGE = 0.2
"""Coefficient of variation of the nuclear radius from which nuclei are pleomorphic."""
DAB_EDGES = (0.01, 0.10, 0.50)
"""Brown share of the tissue area: negative < 1 % <= focal < 10 % <= patchy < 50 % <= diffuse."""


@dataclass(frozen=True, slots=True)
class Ellipse:
    """A nucleus, lumen or necrotic patch: centre, radius (geometric mean of the half axes), long/short axis ratio, angle in radians."""

    x: float
    y: float
    radius: float
    ratio: float = 1.0
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Field:
    """Everything the renderer draws. Same field, same pixels."""

    stain: str
    nuclei: tuple[Ellipse, ...]
    lumen: Ellipse | None = None
    dab_share: float = 0.0
    """Brown share of the tissue area, IHC only."""
    mitoses: tuple[Ellipse, ...] = ()
    necrosis: Ellipse | None = None
    nest: tuple[int, int, int, int] | None = None
    """Box (x1, y1, x2, y2) in px that the capsule of the one nest touches on all sides; region fields only."""
    strengths: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Stain batch: factors on haematoxylin, eosin and DAB."""
    texture: int = 0
    """Seed of fibres, chromatin and camera noise."""

    def findings(self, extra: tuple[str, ...] = ()) -> dict[str, str]:
        """Finding -> value: the core ones in the order of `CORE`, then the `extra` ones. Region fields have only a stain."""
        found = {"stain": self.stain}
        if self.nest is not None:
            return found
        found["size"] = VALUES["size"][self.median_radius() >= SIZE_EDGE]
        found["density"] = VALUES["density"][len(self.nuclei) >= DENSITY_EDGE]
        found["gland"] = VALUES["gland"][self.lumen is not None]
        if self.stain == "ihc":
            found["dab"] = VALUES["dab"][sum(self.dab_share >= edge for edge in DAB_EDGES)]
        others = {
            "shape": VALUES["shape"][self.radius_spread() >= SHAPE_EDGE],
            "mitosis": VALUES["mitosis"][bool(self.mitoses)],
            "necrosis": VALUES["necrosis"][self.necrosis is not None],
        }
        return found | {name: others[name] for name in extra}

    def median_radius(self) -> float:
        """Median nuclear radius in px."""
        return statistics.median(nucleus.radius for nucleus in self.nuclei)

    def radius_spread(self) -> float:
        """Coefficient of variation of the nuclear radius."""
        radii = [nucleus.radius for nucleus in self.nuclei]
        return statistics.pstdev(radii) / statistics.fmean(radii)

    def is_clear(self) -> bool:
        """True when no parameter lies near its threshold: radius 0.5 px, count 4, spread 0.06, DAB share a fifth of each edge."""
        if self.nest is not None:
            return True
        far_from_dab_edges = all(abs(self.dab_share - edge) >= 0.2 * edge for edge in DAB_EDGES)
        return (
            abs(self.median_radius() - SIZE_EDGE) >= 0.5
            and abs(len(self.nuclei) - DENSITY_EDGE + 0.5) >= 4
            and abs(self.radius_spread() - SHAPE_EDGE) >= 0.06
            and (self.stain == "he" or far_from_dab_edges)
        )
