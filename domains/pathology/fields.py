"""Draw random fields: one value per finding by lot, then parameters well inside that value's range."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from factory.domains.pathology.findings import CORE, SIDE, VALUES, Ellipse, Field

RADII = {"small": (1.8, 2.3), "large": (3.8, 4.5)}
"""Median nuclear radius, px."""
COUNTS = {"low": (6, 10), "high": (20, 26)}
"""Nuclei per tile, those of the gland included."""
SPREADS = {"uniform": 0.06, "pleomorphic": 0.36}
"""Standard deviation of the nuclear radius over its mean, before the draw."""
DAB_SHARES = {"negative": (0.0, 0.0), "focal": (0.03, 0.07), "patchy": (0.2, 0.38), "diffuse": (0.64, 0.88)}
"""Brown share of the tissue."""
NEST_GRID = 8
"""Corners of a nest's box are multiples of this, px."""
MAX_DRAWS = 100


def draw_field(rng: random.Random, extra: tuple[str, ...] = (), stain: str | None = None) -> Field:
    """One field with uniform finding values, drawn again until every nucleus found a place and every label is clear.

    Args:
        rng: the only source of randomness.
        extra: findings beyond the core that may be present; the others stay at their first value.
        stain: `he` or `ihc` fixes the stain; None draws it as well.
    """
    wanted = {name: rng.choice(VALUES[name]) for name in (*CORE, *extra)}
    wanted["stain"] = stain or wanted["stain"]
    for _ in range(MAX_DRAWS):
        field = _draw(rng, wanted)
        if field is not None and field.is_clear():
            return field
    raise AssertionError(f"no clear field in {MAX_DRAWS} draws for {wanted}")


def draw_region_field(rng: random.Random) -> Field:
    """A field with one nest of large nuclei in a capsule among sparse small ones. Its box lies on a grid of 8 px, 16 to 32 px wide and high."""
    width, height = rng.choice((16, 24, 32)), rng.choice((16, 24, 32))
    left, top = rng.randrange(0, SIDE - width + 1, NEST_GRID), rng.randrange(0, SIDE - height + 1, NEST_GRID)
    centre_x, centre_y = left + width / 2, top + height / 2
    nest: list[Ellipse] = []
    for _ in range(300):
        turn, reach = rng.uniform(0, math.tau), math.sqrt(rng.random())
        x = centre_x + reach * (width / 2 - 4.5) * math.cos(turn)
        y = centre_y + reach * (height / 2 - 4.5) * math.sin(turn)
        if all(math.dist((x, y), (n.x, n.y)) > 4.8 for n in nest):
            nest.append(Ellipse(x, y, rng.uniform(2.6, 3.3), rng.uniform(1.0, 1.3), turn))
    around: list[Ellipse] = []
    while len(around) < 8:
        x, y = rng.uniform(2, SIDE - 2), rng.uniform(2, SIDE - 2)
        if math.hypot((x - centre_x) / (width / 2 + 3), (y - centre_y) / (height / 2 + 3)) > 1.0:
            around.append(Ellipse(x, y, rng.uniform(1.5, 2.0), rng.uniform(1.0, 2.0), rng.uniform(0, math.pi)))
    box = (left, top, left + width, top + height)
    return Field("he", (*nest, *around), nest=box, strengths=_strengths(rng), texture=rng.getrandbits(32))


def _draw(rng: random.Random, wanted: Mapping[str, str]) -> Field | None:
    """One try; None when the nuclei do not fit."""
    radius = rng.uniform(*RADII[wanted["size"]])
    count = rng.randint(*COUNTS[wanted["density"]])
    spread = SPREADS[wanted.get("shape", "uniform")]
    radii = [max(1.2, radius * rng.gauss(1.0, spread)) for _ in range(count)]
    lumen = _draw_lumen(rng) if wanted["gland"] == "present" else None
    necrosis = _draw_patch(rng, lumen) if wanted.get("necrosis") == "present" else None
    mitoses: tuple[Ellipse, ...] = ()
    keep_out = [patch for patch in (lumen, necrosis) if patch is not None]
    if wanted.get("mitosis") == "present":
        spot = _find_spot(rng, 4.5, keep_out, [])
        if spot is None:
            return None
        mitoses = (Ellipse(*spot, 2.6, 3.2, rng.uniform(0, math.pi)),)
    nuclei = _place(rng, radii, lumen, keep_out, list(mitoses), 1.6 if spread < 0.2 else 2.0)
    if nuclei is None:
        return None
    is_ihc = wanted["stain"] == "ihc"
    dab_share = rng.uniform(*DAB_SHARES[wanted["dab"]]) if is_ihc else 0.0
    return Field(
        wanted["stain"],
        tuple(nuclei),
        lumen,
        dab_share,
        mitoses,
        necrosis,
        strengths=_strengths(rng),
        texture=rng.getrandbits(32),
    )


def _strengths(rng: random.Random) -> tuple[float, float, float]:
    return rng.uniform(0.85, 1.2), rng.uniform(0.8, 1.2), rng.uniform(0.85, 1.15)


def _draw_lumen(rng: random.Random) -> Ellipse:
    return Ellipse(
        rng.uniform(24, 40), rng.uniform(24, 40), rng.uniform(8.0, 10.5), rng.uniform(1.0, 1.5), rng.uniform(0, math.pi)
    )


def _draw_patch(rng: random.Random, lumen: Ellipse | None) -> Ellipse:
    """A necrotic patch in the corner farthest from the lumen."""
    corners = [(14.0, 14.0), (50.0, 14.0), (14.0, 50.0), (50.0, 50.0)]
    rng.shuffle(corners)
    if lumen is not None:
        corners.sort(key=lambda corner: -math.dist(corner, (lumen.x, lumen.y)))
    return Ellipse(*corners[0], rng.uniform(11.0, 13.0), rng.uniform(1.0, 1.3), rng.uniform(0, math.pi))


def _on_rim(lumen: Ellipse, angle: float, gap: float) -> tuple[float, float]:
    """Point `gap` px outside the lumen's edge, at `angle` radians from its long axis."""
    long, short = lumen.radius * math.sqrt(lumen.ratio) + gap, lumen.radius / math.sqrt(lumen.ratio) + gap
    x, y = long * math.cos(angle), short * math.sin(angle)
    return (
        lumen.x + x * math.cos(lumen.angle) - y * math.sin(lumen.angle),
        lumen.y + x * math.sin(lumen.angle) + y * math.cos(lumen.angle),
    )


def _place(
    rng: random.Random, radii: list[float], lumen: Ellipse | None, keep_out: list[Ellipse], taken: list[Ellipse], max_ratio: float
) -> list[Ellipse] | None:
    """Nuclei without much overlap; about half of them ring the lumen, if there is one. None when they do not fit."""
    nuclei: list[Ellipse] = []
    on_ring = min(len(radii) * 2 // 3, 9) if lumen is not None else 0
    start = rng.uniform(0, math.tau)
    for index, radius in enumerate(radii):
        ratio, angle = rng.uniform(1.0, max_ratio), rng.uniform(0, math.pi)
        if lumen is not None and index < on_ring:
            x, y = _on_rim(lumen, start + math.tau * index / on_ring, 1.8 + radius)
            nuclei.append(Ellipse(x, y, radius, ratio, angle))
            continue
        spot = _find_spot(rng, radius, keep_out, taken + nuclei)
        if spot is None:
            return None
        nuclei.append(Ellipse(*spot, radius, ratio, angle))
    return nuclei


def _find_spot(rng: random.Random, radius: float, keep_out: list[Ellipse], nuclei: list[Ellipse]) -> tuple[float, float] | None:
    """A centre inside the tile, off the patches and not on another nucleus; None after 60 tries."""
    for _ in range(60):
        x, y = rng.uniform(2.0, SIDE - 2.0), rng.uniform(2.0, SIDE - 2.0)
        if any(math.hypot(x - p.x, y - p.y) < p.radius * math.sqrt(p.ratio) + radius for p in keep_out):
            continue
        if all(math.hypot(x - n.x, y - n.y) > 0.85 * (n.radius + radius) for n in nuclei):
            return x, y
    return None
