"""NIfTI volumes as one picture of the three middle planes, turned to RAS by their affine through MONAI, with square pixels.

Without an affine left and right cannot be told, so such a file is refused. nibabel is in the extra `medicine`; MONAI brings torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from factory.contracts import Media
from factory.data.files import refuse_impostor
from factory.data.rows import RowFault
from factory.domains.medicine.pictures import to_png
from factory.errors import PluginError

PLANES = ("sagittal", "coronal", "axial")
"""Planes across the axes right, anterior and superior, in the order of RAS."""
MAX_VOXELS = 2**29
"""Most voxels of one volume: 1024 x 1024 x 512."""
FLATTEST = 1e-3
"""Smallest volume spanned by the directions of the axes, 1 when they are at right angles: below it they lie in a plane but for noise."""
MOST_COUNTED = 2**24
"""Voxels from which the grey values are taken; of more, every second or third along each axis."""
PERCENTILES = (1.0, 99.0)
"""Grey values that become black and white."""


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as err:
        raise PluginError("NIfTI needs nibabel, which is not installed. pip install 'domain-factory[medicine]'") from err
    return nibabel


def read_header(path: Path) -> dict[str, Any]:
    """Shape, spacing (mm) and orientation of a volume, without its voxels.

    Raises:
        RowFault: no NIfTI, damaged, no affine, or not three-dimensional.
        PluginError: nibabel is missing.
    """
    nibabel = _nibabel()
    try:
        with path.open("rb") as handle:
            refuse_impostor(handle.read(512), "the file")
        image = nibabel.load(path)
    except RowFault:
        raise
    except Exception as err:  # nibabel raises many types on damaged headers, and zlib its own
        raise RowFault(
            "file", f"is no readable NIfTI ({type(err).__name__}: {err}). It is truncated or another kind of file."
        ) from err
    header = image.header
    is_set = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    if not is_set or image.affine is None or not _spans_space(image.affine):
        raise RowFault(
            "affine", "has no affine (qform and sform codes are 0, or the matrix is singular), so left and right cannot be told. "
            "Export it again from the scanner's DICOM, for example with dcm2niix."
        )  # fmt: skip
    shape = tuple(int(size) for size in image.shape)
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise RowFault("shape", f"is {shape}; want three dimensions of two voxels or more.")
    if math.prod(shape[:3]) > MAX_VOXELS:
        raise RowFault("shape", f"is {shape}, more than {MAX_VOXELS} voxels. Resample it, or leave it out.")
    axes = nibabel.aff2axcodes(image.affine)
    if None in axes:  # three columns of the matrix that differ, two of which point along the same axis of the body
        raise RowFault(
            "affine", f"gives an axis of the image no direction in the body ({axes}). Export it again from the scanner's DICOM."
        )
    return {
        "shape": list(shape), "spacing_mm": [round(float(size), 4) for size in header.get_zooms()[:3]],
        "orientation": "".join(axes),
    }  # fmt: skip


def _spans_space(affine: np.ndarray) -> bool:
    """Whether the axes of the image have lengths and point in three directions, as far as resampling needs it."""
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or not np.isfinite(lengths).all() or lengths.min() < 1e-6:
        return False
    return bool(abs(np.linalg.det(axes / lengths)) > FLATTEST)


def volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [R, A, S] float32, turned to RAS by MONAI, and the sides of a voxel [3] in mm; the first of several volumes.

    Raises RowFault when the voxels cannot be read.
    """
    from monai.transforms import Orientation

    read_header(path)
    image = _nibabel().load(path)
    try:
        voxels = np.asanyarray(image.dataobj[..., 0] if len(image.shape) == 4 else image.dataobj)
        voxels = np.nan_to_num(np.asarray(voxels, dtype=np.float32))
    except Exception as err:  # nibabel, numpy and zlib each have their own, and MemoryError for a size that is damaged
        raise RowFault(
            "file", f"its voxels cannot be read ({type(err).__name__}: {err}). It is truncated; copy it again."
        ) from err
    if voxels.ndim != 3:
        raise RowFault("shape", f"is {image.shape}; want a volume, or a series of volumes in four dimensions.")
    from monai.data import MetaTensor

    turned = Orientation(axcodes="RAS", labels=None)(MetaTensor(voxels[None], affine=image.affine))
    return np.asarray(turned)[0], np.linalg.norm(np.asarray(turned.affine)[:3, :3], axis=0)


def picture(path: Path, *, plane: str = "", longest: int) -> Media:
    """The middle slice of one plane, or of all three side by side. Shown as radiologists do: the patient's left on the right."""
    voxels, sides = volume(path)
    stride = math.ceil((voxels.size / MOST_COUNTED) ** (1 / 3))
    low, high = np.percentile(voxels[::stride, ::stride, ::stride], PERCENTILES)
    slices = []
    for axis, name in enumerate(PLANES):
        middle = voxels.take(voxels.shape[axis] // 2, axis=axis).T[::-1]
        grey = np.clip((middle - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(middle)
        shown = (grey * 255 + 0.5).astype(np.uint8)
        slices.append(shown[:, ::-1] if name != "sagittal" else shown)
    slices = in_proportion(slices, sides, longest)
    if plane:
        return Media(data=to_png(slices[PLANES.index(plane)], longest))
    height = max(one.shape[0] for one in slices)
    padded = [np.pad(one, ((0, height - one.shape[0]), (0, 0))) for one in slices]
    return Media(data=to_png(np.concatenate(padded, axis=1), longest))


def in_proportion(slices: list[np.ndarray], sides: np.ndarray, longest: int) -> list[np.ndarray]:
    """The three slices [H, W] with square pixels as large as the shortest side of a voxel, or larger so that none has a side over `longest` px.

    Only the slices are resampled: a whole volume of thin and long voxels would become many times as large.
    """
    if sides.max() <= 1.01 * sides.min():
        return slices
    from PIL import Image

    scale = sides / sides.min()
    across = [(1, 2), (0, 2), (0, 1)]  # the axes of a slice's width and height
    wanted = [(one.shape[1] * scale[x], one.shape[0] * scale[y]) for one, (x, y) in zip(slices, across, strict=True)]
    fit = min(1.0, longest / max(max(size) for size in wanted))
    return [
        np.asarray(Image.fromarray(one).resize((max(1, round(w * fit)), max(1, round(h * fit))), Image.Resampling.BILINEAR))
        for one, (w, h) in zip(slices, wanted, strict=True)
    ]
