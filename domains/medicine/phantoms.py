"""What one synthetic image shows, as parameters, and the findings that follow from them.

Lengths are pixels of a 64 px image. Sides are the patient's: in radiological views the patient's left is on the image's right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SIDE = 64
"""Image side, px."""
VIEWS = (
    ("xray", "chest"), ("ct", "head"), ("ct", "chest"), ("mri", "head"), ("ultrasound", "thyroid"), ("fundus", "eye"),
    ("dermoscopy", "skin"), ("histology", "tissue"), ("endoscopy", "colon"),
)  # fmt: skip
"""(modality, organ) of every kind of image."""
MIRRORED = frozenset({"xray", "ct", "mri", "ultrasound"})
"""Modalities whose images show the patient's left on the right."""
VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "modality": tuple(dict.fromkeys(modality for modality, _ in VIEWS)),
        "organ": tuple(dict.fromkeys(organ for _, organ in VIEWS)),
        "lesion": ("absent", "present"),
        "side": ("left", "right"),
        "count": ("1", "2", "3"),
        "size": ("small", "large"),
    }
)
"""Finding -> its values. `side`, `count` and `size` exist only where a lesion is present."""
RADII = {"small": (3.0, 3.7), "large": (6.0, 7.0)}
"""Radius of a lesion, px."""
MAX_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Lesion:
    """A round lesion: centre and radius, px of the image."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Phantom:
    """Everything that `render` draws. Same phantom, same pixels."""

    modality: str
    organ: str
    lesions: tuple[Lesion, ...] = ()
    texture: int = 0
    """Seed of the noise and of the anatomy's small variation."""

    @property
    def side(self) -> str:
        """The patient's side on which the lesions lie; empty without one."""
        if not self.lesions:
            return ""
        is_image_left = self.lesions[0].x < SIDE / 2
        return "left" if is_image_left != (self.modality in MIRRORED) else "right"

    @property
    def size(self) -> str:
        """`small` or `large`; empty without a lesion."""
        if not self.lesions:
            return ""
        return "large" if self.lesions[0].radius > 4.8 else "small"

    def findings(self) -> dict[str, str]:
        """Finding -> value, in the order of VALUES."""
        found = {"modality": self.modality, "organ": self.organ, "lesion": VALUES["lesion"][bool(self.lesions)]}
        if self.lesions:
            found |= {"side": self.side, "count": str(len(self.lesions)), "size": self.size}
        return found


def draw_phantom(rng: random.Random, **wanted: str) -> Phantom:
    """A random phantom with the wanted values of any findings; the others are drawn evenly.

    Raises:
        ValueError: no kind of image has the wanted modality and organ.
    """
    views = [view for view in VIEWS if wanted.get("modality", view[0]) == view[0] and wanted.get("organ", view[1]) == view[1]]
    if not views:
        raise ValueError(f"no image has modality {wanted.get('modality')!r} and organ {wanted.get('organ')!r}")
    modality = rng.choice(list(dict.fromkeys(view[0] for view in views)))
    organ = rng.choice([view[1] for view in views if view[0] == modality])
    needs_lesion = any(name in wanted for name in ("side", "count", "size"))
    is_present = wanted["lesion"] == "present" if "lesion" in wanted else needs_lesion or rng.random() < 0.75
    side, size = (wanted.get(name) or rng.choice(VALUES[name]) for name in ("side", "size"))
    count = int(wanted.get("count") or rng.choice(VALUES["count"]))
    lesions = _place(rng, modality, side, count, size) if is_present else ()
    return Phantom(modality, organ, lesions, rng.getrandbits(32))


def _place(rng: random.Random, modality: str, side: str, count: int, size: str) -> tuple[Lesion, ...]:
    """`count` lesions of one size on one side, none touching another."""
    direction = 1 if (side == "left") == (modality in MIRRORED) else -1
    for _ in range(MAX_DRAWS):
        found: list[Lesion] = []
        for _ in range(12 * count):
            one = Lesion(SIDE / 2 + direction * rng.uniform(9, 18), rng.uniform(12, 48), rng.uniform(*RADII[size]))
            if all(math.dist((one.x, one.y), (other.x, other.y)) > one.radius + other.radius + 1.5 for other in found):
                found.append(one)
            if len(found) == count:
                return tuple(found)
    raise AssertionError(f"{count} {size} lesions found no place in {MAX_DRAWS} draws")
