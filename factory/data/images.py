"""Images as rows name or carry them: found, guarded against bombs and truncation, handed on as Media."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.contracts import Media
from factory.data.files import refuse_impostor
from factory.data.report import RowFault

MAX_PIXELS = 89_478_485
"""Largest picture that is decoded: Pillow's own bomb limit (a quarter of a GiB of RGB)."""
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
"""Decoders that a row may reach; a smaller surface than all that Pillow has."""


def check_image(
    source: bytes | Path, *, field: str = "image", max_pixels: int = MAX_PIXELS, full: bool = True
) -> tuple[int, int]:
    """Make sure that a picture can be decoded and return (width, height) in pixels.

    Args:
        source: encoded bytes, or a path.
        full: decode every pixel (finds truncation); otherwise only the header and checksums are read.

    Raises:
        RowFault: empty, LFS pointer, web page, unknown format, above `max_pixels`, truncated or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    name = f"image {source.name!r}" if isinstance(source, Path) else "the image"
    try:
        encoded = source.read_bytes() if isinstance(source, Path) else source
    except OSError as err:
        raise RowFault(field, f"{name} cannot be read: {err.strerror}.") from err
    refuse_impostor(encoded[:512], name, field)
    try:
        with warnings.catch_warnings():
            # Pillow warns between its limit and twice that; our own limit below decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as header:
                width, height = header.size
                if width * height > max_pixels:
                    raise RowFault(field, _too_large(name, width, height, max_pixels))
                header.verify()
            if full:
                with Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
                    picture.load()
    except RowFault:
        raise
    except Image.DecompressionBombError as err:
        raise RowFault(field, f"{name} is a decompression bomb: {err}. Leave it out, or tile it.") from err
    except UnidentifiedImageError as err:
        raise RowFault(field, f"{name} is not a picture in {', '.join(FORMATS)}; it begins with {encoded[:8]!r}.") from err
    except Exception as err:  # each of Pillow's formats raises its own for damage: OSError, SyntaxError, EOFError, TypeError
        raise RowFault(field, f"{name} cannot be decoded ({err}); it is truncated or damaged. Copy it again.") from err
    return width, height


def _too_large(name: str, width: int, height: int, max_pixels: int) -> str:
    return (
        f"{name} has {width} x {height} pixels, above the limit of {max_pixels}. "
        "Tile it (a whole slide goes in as a slide), or raise pack.max_image_pixels."
    )


STARTS = (
    (b"\x89PNG", ".png", "image/png"), (b"\xff\xd8", ".jpg", "image/jpeg"), (b"GIF8", ".gif", "image/gif"), (b"RIFF", ".webp", "image/webp"),
    (b"II*\0", ".tif", ""),
)  # fmt: skip
"""First bytes of an encoded picture, the suffix of its file, and its type in a `data:` address where browsers show it."""


def data_address(encoded: bytes) -> str:
    """A picture as a `data:` address, as endpoints and browsers take it; one in another format than theirs as PNG."""
    kind = next((name for start, _, name in STARTS if encoded.startswith(start)), "")
    if not kind:
        from PIL import Image

        out, kind = io.BytesIO(), "image/png"
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
            picture.convert("RGB").save(out, "PNG")
        encoded = out.getvalue()
    return f"data:{kind};base64,{base64.b64encode(encoded).decode('ascii')}"


def find_image(name: str, roots: Sequence[Path], *, field: str = "image") -> Path:
    """The file that a row names, looked for under each root in turn.

    Raises:
        RowFault: a URL, or no such file under any root.
    """
    if "://" in name[:12]:
        raise RowFault(field, f"{name!r} is a URL; loaders do not use the network. Download it and name the file.")
    candidate = Path(name)
    for root in roots:
        path = candidate if candidate.is_absolute() else root / candidate
        try:
            if path.is_file():
                return path
        except OSError as err:
            raise RowFault(field, f"image file {name[:80]!r} cannot be looked for: {err.strerror}.") from err
    where = ", ".join(str(root) for root in roots)
    raise RowFault(field, f"image file {name!r} not found under {where}. Put it there, or set pack.image_root.")


def media_from(
    value: Any, roots: Sequence[Path], *, field: str = "image", max_pixels: int = MAX_PIXELS, verify: str = "full"
) -> tuple[Media, ...]:
    """Media of a cell: a path, encoded bytes, a `{bytes, path}` struct (Hugging Face), or a list of these.

    Args:
        verify: `full` decodes each picture, `header` reads headers only, `off` only checks that files exist.

    Raises:
        RowFault: no image, or one that `find_image` or `check_image` refuses.
    """
    if isinstance(value, (list, tuple)):
        return tuple(item for one in value for item in media_from(one, roots, field=field, max_pixels=max_pixels, verify=verify))
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or value.get("image")
    if isinstance(value, str) and value.startswith("file://"):
        value = value.removeprefix("file://")
    if isinstance(value, str) and value.strip():
        source: bytes | Path = find_image(value.strip(), roots, field=field)
    elif isinstance(value, (bytes, bytearray)):
        source = bytes(value)
    else:
        raise RowFault(field, f"no image: expected a path, bytes or {{bytes, path}}, got {type(value).__name__} {value!r:.40}.")
    if verify != "off":
        check_image(source, field=field, max_pixels=max_pixels, full=verify == "full")
    return (Media(path=str(source.absolute())) if isinstance(source, Path) else Media(data=source),)
