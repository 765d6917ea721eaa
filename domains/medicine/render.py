"""Draw a phantom as a 64 px RGB image: anatomy from ellipses, then the acquisition (blur, ringing, noise) by MONAI's transforms.

MONAI brings torch, so it is imported on first use and not with the pack.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np

from factory.domains.medicine.phantoms import SIDE, Phantom

Array = np.ndarray
_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5
GREY = frozenset({"xray", "ct", "mri", "ultrasound"})
"""Modalities without colour."""
LESION_COLOURS = {
    "xray": (1.0,) * 3, "ct": (1.0,) * 3, "mri": (1.0,) * 3, "ultrasound": (1.0,) * 3, "fundus": (1.0, 1.0, 0.9),
    "dermoscopy": (0.18, 0.08, 0.05), "histology": (0.22, 0.02, 0.40), "endoscopy": (1.0, 0.92, 0.88),
}  # fmt: skip
"""Modality -> colour of a lesion, RGB in [0, 1]."""


def render(phantom: Phantom) -> bytes:
    """PNG bytes of the phantom."""
    return _png(pixels(phantom))


def pixels(phantom: Phantom) -> Array:
    """[64, 64, 3] uint8."""
    rng = np.random.RandomState(phantom.texture)
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    _ANATOMY[phantom.modality, phantom.organ](image, rng)
    for lesion in phantom.lesions:
        _paint(image, _ellipse(lesion.x, lesion.y, lesion.radius, lesion.radius), LESION_COLOURS[phantom.modality])
    acquired = _acquire(image, phantom.modality, rng)
    return (np.clip(acquired, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _png(array: Array) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG")
    return out.getvalue()


def _acquire(image: Array, modality: str, rng: np.random.RandomState) -> Array:
    """Blur and noise as the modality has them: ringing and Rician noise in MR, speckle in ultrasound, Gaussian noise elsewhere."""
    tools = _tools()
    planes = np.ascontiguousarray(image[..., :1] if modality in GREY else image).transpose(2, 0, 1)
    planes = np.asarray(tools["blur"](np.ascontiguousarray(planes)))
    if modality == "mri":
        planes = np.asarray(tools["ringing"](tools["tensor"](planes)))
        tools["rician"].set_random_state(state=rng)
        planes = np.asarray(tools["rician"](planes))
    elif modality == "ultrasound":
        planes = planes * rng.gamma(14.0, 1 / 14.0, size=planes.shape).astype(np.float32)
    else:
        tools["noise"].set_random_state(state=rng)
        planes = np.asarray(tools["noise"](planes))
    return np.broadcast_to(planes.transpose(1, 2, 0), image.shape)


@cache
def _tools() -> dict[str, Any]:
    import torch
    from monai.transforms import GaussianSmooth, GibbsNoise, RandGaussianNoise, RandRicianNoise

    return {
        "tensor": torch.from_numpy, "blur": GaussianSmooth(sigma=0.5), "ringing": GibbsNoise(alpha=0.25),
        "rician": RandRicianNoise(prob=1.0, std=0.03, sample_std=False),
        "noise": RandGaussianNoise(prob=1.0, std=0.03, sample_std=False),
    }  # fmt: skip


def _ellipse(x: float, y: float, rx: float, ry: float) -> Array:
    """[64, 64] coverage in [0, 1] of an ellipse, with an edge one pixel wide."""
    distance = np.sqrt(((_X - x) / rx) ** 2 + ((_Y - y) / ry) ** 2)
    return np.clip((1.0 - distance) * min(rx, ry) + 0.5, 0.0, 1.0)


def _paint(image: Array, mask: Array, colour: tuple[float, ...] | float) -> None:
    image += mask[..., None] * (np.asarray(colour, np.float32) - image)


def _jitter(rng: np.random.RandomState, amount: float = 1.0) -> tuple[float, float]:
    dx, dy = rng.uniform(-amount, amount, 2)
    return float(dx), float(dy)


def _chest_xray(image: Array, rng: np.random.RandomState) -> None:
    image += 0.62
    dx, dy = _jitter(rng)
    for side in (-1, 1):
        _paint(image, _ellipse(32 + side * 13 + dx, 32 + dy, 10.5, 22), 0.28)
    for y in range(12, 56, 8):  # ribs
        image += 0.07 * np.exp(-(((_Y - y - 0.02 * (_X - 32) ** 2) / 1.3) ** 2))[..., None]
    _paint(image, _ellipse(35 + dx, 44 + dy, 8, 9), 0.72)


def _body(image: Array, rng: np.random.RandomState, ry: float) -> tuple[float, float]:
    dx, dy = _jitter(rng)
    _paint(image, _ellipse(32 + dx, 32 + dy, 29, ry), 0.5)
    _paint(image, _ellipse(32 + dx, 32 + dy + ry - 5, 4, 3.5), 0.8)
    return dx, dy


def _chest_ct(image: Array, rng: np.random.RandomState) -> None:
    dx, dy = _body(image, rng, 25)
    for side in (-1, 1):
        _paint(image, _ellipse(32 + side * 13 + dx, 31 + dy, 10, 16), 0.12)
    _paint(image, _ellipse(33 + dx, 30 + dy, 5, 7), 0.62)


def _head_ct(image: Array, rng: np.random.RandomState) -> None:
    dx, dy = _jitter(rng)
    _paint(image, _ellipse(32 + dx, 32 + dy, 26, 30), 0.85)
    _paint(image, _ellipse(32 + dx, 32 + dy, 22.5, 26.5), 0.42)
    for side in (-1, 1):
        _paint(image, _ellipse(32 + side * 4 + dx, 30 + dy, 2.2, 7), 0.18)


def _head_mri(image: Array, rng: np.random.RandomState) -> None:
    dx, dy = _jitter(rng)
    _paint(image, _ellipse(32 + dx, 32 + dy, 26, 30), 0.75)
    _paint(image, _ellipse(32 + dx, 32 + dy, 24.5, 28.5), 0.05)
    _paint(image, _ellipse(32 + dx, 32 + dy, 22, 26), 0.38)
    _paint(image, _ellipse(32 + dx, 32 + dy, 18, 22), 0.58)
    for side in (-1, 1):
        _paint(image, _ellipse(32 + side * 4 + dx, 30 + dy, 2.5, 8), 0.05)


def _sector(image: Array) -> None:
    angle, reach = np.arctan2(_X - 32, _Y + 6), np.hypot(_X - 32, _Y + 6)
    image += (0.30 * ((np.abs(angle) < 0.75) & (reach > 10) & (reach < 68)))[..., None]


def _thyroid(image: Array, rng: np.random.RandomState) -> None:
    _sector(image)
    dx, dy = _jitter(rng)
    for side in (-1, 1):
        _paint(image, _ellipse(32 + side * 12.5 + dx, 32 + dy, 9, 17), 0.55)
    _paint(image, _ellipse(32 + dx, 40 + dy, 4, 5), 0.1)


def _eye(image: Array, rng: np.random.RandomState) -> None:
    dx, dy = _jitter(rng)
    _paint(image, _ellipse(32, 32, 30, 30), (0.86, 0.42, 0.14))
    for bend in (-1, 1):
        line = np.exp(-(((_Y - 32 - bend * (3 + 0.010 * (_X - 32) ** 2 + 4)) / 0.9) ** 2))
        _paint(image, 0.7 * line * _ellipse(32, 32, 29, 29), (0.55, 0.10, 0.06))
    _paint(image, _ellipse(32 + dx, 32 + dy, 4.2, 4.8), (1.0, 0.72, 0.30))


def _skin(image: Array, rng: np.random.RandomState) -> None:
    image += np.asarray((0.90, 0.70, 0.60), np.float32)
    for _ in range(3):  # hairs
        x, slope = rng.uniform(4, 60), rng.uniform(-0.5, 0.5)
        _paint(image, 0.5 * np.exp(-(((_X - x - slope * (_Y - 32)) / 0.6) ** 2)), (0.35, 0.22, 0.16))


def _tissue(image: Array, rng: np.random.RandomState) -> None:
    image += np.asarray((0.93, 0.66, 0.80), np.float32)
    for _ in range(40):
        x, y = rng.uniform(1, 63, 2)
        _paint(image, 0.7 * _ellipse(x, y, 1.1, 0.9), (0.55, 0.33, 0.68))


def _colon(image: Array, rng: np.random.RandomState) -> None:
    dx, dy = _jitter(rng, 2.0)
    reach = np.hypot(_X - 32 - dx, _Y - 32 - dy)
    image += np.asarray((0.80, 0.34, 0.28), np.float32)
    image *= (0.80 + 0.14 * np.cos(reach / 2.2))[..., None]  # folds
    _paint(image, _ellipse(32 + dx, 32 + dy, 6, 6), (0.10, 0.02, 0.02))


_ANATOMY = {
    ("xray", "chest"): _chest_xray, ("ct", "head"): _head_ct, ("ct", "chest"): _chest_ct, ("mri", "head"): _head_mri,
    ("ultrasound", "thyroid"): _thyroid,
    ("fundus", "eye"): _eye, ("dermoscopy", "skin"): _skin, ("histology", "tissue"): _tissue, ("endoscopy", "colon"): _colon,
}  # fmt: skip
