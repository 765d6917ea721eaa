"""Images that rows name or carry: the good ones pass, each kind of bad one is named with its field and reason."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import pytest
from PIL import Image

from factory.data.images import check_image, data_address, find_image, media_from
from factory.data.rows import RowFault

from .conftest import png


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(png(1, (64, 64)))).save(out, "JPEG")
    return out.getvalue()


def huge_png_header(side: int) -> bytes:
    """A valid PNG header that claims side x side pixels and holds next to none: a decompression bomb."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("encoded", [png(), jpeg()])
def test_a_whole_image_gives_its_size(encoded):
    assert check_image(encoded) == Image.open(io.BytesIO(encoded)).size


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<html>not found</html>", "HTML page"),
        (b"plain words", "is not a picture in JPEG"),
        (png(0, (64, 64))[:600], "cannot be decoded"),
        (jpeg()[:900], "truncated or damaged"),
        (huge_png_header(12_000), "12000 x 12000 pixels, above the limit of 89478485"),
        (huge_png_header(60_000), "decompression bomb"),
    ],
)
def test_a_bad_image_is_named_with_its_reason(encoded, says):
    with pytest.raises(RowFault) as caught:
        check_image(encoded, field="img")
    assert caught.value.field == "img" and says in caught.value.reason


def test_a_flipped_byte_in_a_png_is_found_by_its_checksum():
    encoded = bytearray(png(0, (64, 64)))
    encoded[200] ^= 0xFF
    with pytest.raises(RowFault, match=r"truncated or damaged"):
        check_image(bytes(encoded))


def test_a_header_check_passes_a_truncated_jpeg_that_a_full_check_refuses():
    check_image(jpeg()[:900], full=False)
    with pytest.raises(RowFault):
        check_image(jpeg()[:900], full=True)


def test_a_missing_image_says_where_it_was_sought(tmp_path):
    with pytest.raises(RowFault) as caught:
        find_image("x.png", [tmp_path])
    assert caught.value.reason == f"image file 'x.png' not found under {tmp_path}. Put it there, or set pack.image_root."


def test_a_url_is_not_fetched(tmp_path):
    with pytest.raises(RowFault, match=r"is a URL; loaders do not use the network"):
        find_image("https://example.org/x.png", [tmp_path])


def test_cells_of_all_forms_become_media(tmp_path):
    (tmp_path / "x.png").write_bytes(png())
    cells = ["x.png", {"bytes": png(), "path": None}, {"bytes": None, "path": "x.png"}, png(), [png(1), "x.png"]]
    found = [media_from(cell, [tmp_path]) for cell in cells]
    assert [len(media) for media in found] == [1, 1, 1, 1, 2]
    assert all(media[-1].read() == png() for media in found)


@pytest.mark.parametrize("cell", ["", None, 3, {"bytes": None, "path": None}])
def test_a_cell_without_an_image_is_a_fault(tmp_path, cell):
    with pytest.raises(RowFault, match=r"no image: expected a path"):
        media_from(cell, [tmp_path])


def test_addresses_hold_what_a_browser_shows():
    picture = Image.open(io.BytesIO(png(1, (8, 8)))).convert("RGB")
    for kind, told in (
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("TIFF", "image/png"),
        ("BMP", "image/png"),
    ):
        out = io.BytesIO()
        picture.save(out, kind)
        head, _, body = data_address(out.getvalue()).partition(";base64,")
        content = base64.b64decode(body)
        assert head == f"data:{told}" and (content == out.getvalue()) is (kind not in ("TIFF", "BMP"))
        with Image.open(io.BytesIO(content)) as back:
            assert back.format == told.partition("/")[2].upper()
            assert kind in ("JPEG", "WEBP") or back.convert("RGB").tobytes() == picture.tobytes()
