"""Paint a field as a 64 px tile: tissue, gland, nuclei, DAB, mitoses and necrosis, through the stain model.

Shape letters: K = ellipses drawn at once, S = tile side in px. Concentrations are optical densities per stain.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from factory.domains.pathology.findings import SIDE, Ellipse, Field
from factory.domains.pathology.stain import to_rgb

_PIXELS = np.arange(SIDE, dtype=np.float32) + 0.5
"""[S] pixel centres."""


def render(field: Field) -> np.ndarray:
    """[S, S, 3] uint8 RGB. Pure: all randomness comes from `field.texture`."""
    rng = np.random.default_rng(field.texture)
    is_he = field.stain == "he"
    fibres = _fibres(rng)
    grain = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
    haematoxylin = np.full((SIDE, SIDE), 0.05 if is_he else 0.12, dtype=np.float32)
    eosin = np.clip(0.24 + 0.10 * fibres, 0.09, 0.5) if is_he else np.zeros((SIDE, SIDE), dtype=np.float32)
    lumen = _cover([field.lumen], 1.0) if field.lumen else None
    if field.lumen is not None:
        rim = _cover(
            [Ellipse(field.lumen.x, field.lumen.y, field.lumen.radius + 7.0, field.lumen.ratio**0.7, field.lumen.angle)], 2.0
        )
        if is_he:
            eosin += 0.16 * rim
        haematoxylin += (0.06 if is_he else 0.09) * rim
    if field.nest is not None:
        capsule, inner = _capsule(field.nest)
        eosin = eosin * (1.0 - capsule) + 0.85 * (capsule - inner) + 0.34 * inner
        haematoxylin += 0.08 * capsule
    if field.necrosis is not None:
        haematoxylin, eosin = _necrosis(rng, field.necrosis, haematoxylin, eosin, is_he)
    nuclei = _cover(field.nuclei, 1.0)
    dab = _dab(rng, field, lumen) * (1.0 - 0.55 * nuclei)
    chromatin = (1.15 if is_he else 0.62) * (1.0 + 0.13 * grain)
    haematoxylin += nuclei * chromatin
    eosin *= 1.0 - 0.6 * nuclei
    if field.mitoses:
        halo = _cover([Ellipse(m.x, m.y, 4.6) for m in field.mitoses], 1.5)
        plate = _cover(field.mitoses, 1.0)
        eosin *= 1.0 - 0.6 * halo
        haematoxylin = haematoxylin * (1.0 - 0.8 * halo) + 2.4 * plate
    stack = np.stack([haematoxylin, eosin, dab], axis=-1)
    if lumen is not None:
        stack *= (1.0 - 0.97 * lumen)[..., None]
    stack *= np.asarray(field.strengths, dtype=np.float32)
    stack += 0.015 * grain[..., None]
    return to_rgb(stack)


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of an [H, W, 3] uint8 array. Equal pixels give equal bytes."""
    out = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()


def tile(field: Field) -> bytes:
    """The field as PNG bytes."""
    return encode_png(render(field))


def _cover(shapes: Sequence[Ellipse], soft: float) -> np.ndarray:
    """[S, S] float32 in [0, 1]: 1 inside any of the ellipses, with an edge about `soft` px wide."""
    table = np.array([(s.x, s.y, s.radius, s.ratio, s.angle) for s in shapes], dtype=np.float32)
    x, y, radius, ratio, angle = table.T
    cosine, sine, root = np.cos(angle), np.sin(angle), np.sqrt(ratio)
    along = _plane(cosine / root, sine / root, x, y)
    aside = _plane(-sine * root, cosine * root, x, y)
    along *= along
    aside *= aside
    along += aside
    np.sqrt(along, out=along)
    inside = (radius[:, None, None] - along).max(axis=0) / soft + 0.5
    return np.clip(inside, 0.0, 1.0)


def _plane(slope_x: np.ndarray, slope_y: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[K, S, S]: slope_x (column - x) + slope_y (row - y), built from one row and one column per ellipse."""
    across = slope_x[:, None] * (_PIXELS - x[:, None])
    down = slope_y[:, None] * (_PIXELS - y[:, None])
    return across[:, None, :] + down[:, :, None]


def _smooth(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """[S, S] float32 noise with `rows` x `columns` independent bumps, about unit variance."""
    coarse = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    return np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _fibres(rng: np.random.Generator) -> np.ndarray:
    """[S, S] stroma fibres: noise stretched along one axis, bent by a slow wave."""
    streaks = _smooth(rng, 22, 4)
    if rng.random() < 0.5:
        streaks = streaks.T
    return streaks + 0.5 * _smooth(rng, 4, 4)


def _dab(rng: np.random.Generator, field: Field, lumen: np.ndarray | None) -> np.ndarray:
    """[S, S] DAB concentration: brown on exactly `dab_share` of the tissue (at half height of the soft edge)."""
    if field.dab_share <= 0.0:
        return np.zeros((SIDE, SIDE), dtype=np.float32)
    height = _smooth(rng, 8, 8)
    tissue = height if lumen is None else height[lumen < 0.5]
    level = np.quantile(tissue, 1.0 - field.dab_share)
    brown = np.clip((height - level) / 0.25 + 0.5, 0.0, 1.0)
    return 0.85 * brown * (1.0 + 0.12 * _smooth(rng, 16, 16))


def _capsule(box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """([S, S], [S, S]): the ellipse that touches the box on all sides, and its inside without the 1.8 px wall."""
    x1, y1, x2, y2 = box
    half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
    shapes = []
    for wall in (0.0, 1.8):
        a, b = half_width - wall, half_height - wall
        shapes.append(Ellipse(x1 + half_width, y1 + half_height, math.sqrt(a * b), a / b))
    return _cover(shapes[:1], 1.0), _cover(shapes[1:], 1.0)


def _necrosis(
    rng: np.random.Generator, patch: Ellipse, haematoxylin: np.ndarray, eosin: np.ndarray, is_he: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Smudge the patch: even, deep pink ghost tissue with dust-like nuclear debris and no nuclei."""
    cover = _cover([patch], 3.0)
    count = 26
    reach, turn = patch.radius * 0.8 * np.sqrt(rng.random(count)), math.tau * rng.random(count)
    dust = _cover(
        [Ellipse(patch.x + r * math.cos(t), patch.y + r * math.sin(t), 0.7) for r, t in zip(reach, turn, strict=True)], 1.0
    )
    pink = 0.62 if is_he else 0.0
    return haematoxylin + cover * (0.10 + 0.8 * dust), eosin * (1.0 - cover) + pink * cover
