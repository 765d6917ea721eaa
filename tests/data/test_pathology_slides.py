"""Whole slides: resolution, tissue, tiles with their places, faults, privacy and splits. Slides are written at test time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from factory.contracts import DataRequest
from factory.data.rows import RowFault
from factory.domains.pathology.loaders import LOADER
from factory.domains.pathology.slides import SlideReader, open_slide, otsu, overview, privacy_notes, slide_mpp, tissue_mask
from factory.domains.pathology.tiles import Tile, TileOptions, cut_tile, plan_tiles
from factory.errors import ConfigError, DataError

from .conftest import stained_pixels, write_slide

pytest.importorskip("openslide")
pytest.importorskip("tifffile")

load_documents, load_samples = LOADER.documents, LOADER.samples
SHARED = Path("shared/data/pathology/images")
SMALL = {"tile_px": 32, "tile_mpp": 0.5, "splits": {"validation": 0.0, "test": 0.0}, "shuffle_buffer": 1}


def check(folder: Path, options: dict[str, Any] | None = None) -> Any:
    return LOADER.check(DataRequest(paths=(str(folder),), options=options or {}))


class ArraySlide:
    """A slide in memory, with exact pixels: the reader's protocol on numpy."""

    associated: tuple[str, ...] = ()

    def __init__(self, pixels: np.ndarray, mpp: float | None = 0.5, factors: tuple[int, ...] = (1,), **properties: str) -> None:
        self.levels = [pixels[::factor, ::factor] for factor in factors]
        self.downsamples = tuple(map(float, factors))
        self.size = (pixels.shape[1], pixels.shape[0])
        self.recorded_mpp = (mpp, mpp) if mpp else None
        self.properties = properties
        self.reads: list[int] = []

    def read(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        self.reads.append(level)
        top, left = int(y / self.downsamples[level]), int(x / self.downsamples[level])
        page = np.full((size[1], size[0], 3), 255, np.uint8)
        part = self.levels[level][top : top + size[1], left : left + size[0]]
        page[: part.shape[0], : part.shape[1]] = part
        return Image.fromarray(page)

    def close(self) -> None: ...


def pathology_slides(folder: Path, **extra: Any) -> DataRequest:
    options = {**SMALL, **extra.pop("options", {})}
    return DataRequest(paths=(str(folder),), options=options, **extra)


# --- resolution and tissue ---------------------------------------------------------------------------------------------


def test_a_written_pyramid_reads_back_with_its_resolution(tmp_path):
    slide = open_slide(write_slide(tmp_path / "s.tif", stained_pixels(512, 768), mpp=0.25))
    assert slide.size == (768, 512) and slide.downsamples == (1.0, 2.0, 4.0)
    assert slide_mpp(slide) == pytest.approx((0.25, 0.25), rel=1e-4)
    slide.close()


@pytest.mark.parametrize(
    ("mpp", "override", "says"),
    [
        (None, None, "does not record microns per pixel. Set pack.mpp_override"),
        (352.8, None, "352.8 x 352.8 microns per pixel is no microscope's"),
        (0.25, 0.001, "is no microscope's"),
    ],
)
def test_a_resolution_that_is_missing_or_absurd_is_refused(mpp, override, says):
    with pytest.raises(RowFault) as caught:
        slide_mpp(ArraySlide(np.zeros((8, 8, 3), np.uint8), mpp), override)
    assert caught.value.field == "mpp" and says in caught.value.reason


def test_the_override_wins_over_what_is_recorded():
    assert slide_mpp(ArraySlide(np.zeros((8, 8, 3), np.uint8), 352.8), 0.5) == (0.5, 0.5)


def test_the_mask_covers_the_tissue_and_not_the_glass():
    mask = tissue_mask(ArraySlide(stained_pixels(400, 600)))
    assert mask.share == pytest.approx(0.25, abs=0.01)  # the block is half as high and half as wide as the slide
    assert mask.share_in(150, 100, 300, 200) > 0.99 and mask.share_in(0, 0, 140, 400) == 0.0


def test_a_slide_full_of_tissue_is_not_halved_by_the_threshold():
    pixels = stained_pixels(400, 400)[100:300, 100:300]
    assert tissue_mask(ArraySlide(pixels)).share > 0.99


def test_black_padding_and_grey_shadow_are_no_tissue():
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[:, 100:] = 128
    assert tissue_mask(ArraySlide(pixels)).share == 0.0


def test_otsu_by_hand():
    # two values, three to one: every threshold between them gives the same largest variance; the first one is taken
    assert 0.2 < otsu(np.array([0.2, 0.2, 0.2, 0.8])) < 0.8


def test_the_overview_of_a_slide_without_small_levels_is_read_in_strips():
    pixels = stained_pixels(3000, 2200)
    slide = ArraySlide(pixels)
    small = np.asarray(overview(slide), dtype=float)
    assert max(small.shape) == 1024 and len(slide.reads) >= 1
    assert small.mean(axis=(0, 1)) == pytest.approx(pixels.mean(axis=(0, 1)), abs=1.0)


# --- tiles -------------------------------------------------------------------------------------------------------------


@given(
    slide_id=st.text(min_size=1), x=st.integers(0, 10**6), y=st.integers(0, 10**6), w=st.integers(1, 9999),
    px=st.integers(16, 2048), mpp=st.floats(0.05, 10),
)  # fmt: skip
def test_the_key_of_a_tile_leads_back_to_it(slide_id, x, y, w, px, mpp):
    tile = Tile(slide_id, x, y, (w, w), px, mpp)
    assert Tile.from_key(tile.key) == tile


def test_tiles_lie_on_tissue_within_the_slide_and_never_overlap():
    pixels = stained_pixels(512, 512)
    tiles = plan_tiles("s", ArraySlide(pixels), TileOptions(tile_px=32, tile_mpp=1.0), seed=0)
    assert {tile.size0 for tile in tiles} == {(64, 64)}
    # the block spans 128..384, so exactly the tiles at 128, 192, 256 and 320 hold tissue
    assert [(tile.x, tile.y) for tile in tiles] == [(x, y) for y in (128, 192, 256, 320) for x in (128, 192, 256, 320)]


def test_tiles_are_thinned_by_the_seed_alone():
    slide, options = ArraySlide(stained_pixels(512, 512)), TileOptions(tile_px=32, tile_mpp=0.5, tiles_per_slide=5)
    drawn = [[(t.x, t.y) for t in plan_tiles("s", slide, options, seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 5


def test_a_tile_shows_the_pixels_of_its_place():
    pixels = stained_pixels(256, 256)
    picture = cut_tile(ArraySlide(pixels), Tile("s", 64, 96, (32, 32), 32, 0.5))
    assert np.array_equal(np.asarray(picture), pixels[96:128, 64:96])


@pytest.mark.parametrize(("width", "level"), [(32, 0), (63, 0), (64, 1), (100, 1), (128, 2), (512, 2)])
def test_a_tile_is_read_from_the_coarsest_level_that_is_fine_enough(width, level):
    slide = ArraySlide(stained_pixels(1024, 1024), factors=(1, 2, 4))
    picture = cut_tile(slide, Tile("s", 0, 0, (width, width), 32, 1.0))
    assert slide.reads == [level] and picture.size == (32, 32)


def test_a_resampled_tile_has_the_mean_colour_of_its_place(tmp_path):
    pixels = stained_pixels(512, 512)
    slide = open_slide(write_slide(tmp_path / "s.tif", pixels, mpp=0.25))
    picture = cut_tile(slide, Tile("s", 128, 128, (192, 192), 64, 0.75))
    slide.close()
    assert np.asarray(picture, float).mean(axis=(0, 1)) == pytest.approx(pixels[128:320, 128:320].mean(axis=(0, 1)), abs=1.0)


@pytest.mark.parametrize(
    ("slide", "options", "field", "says"),
    [
        (ArraySlide(np.full((200, 200, 3), 244, np.uint8)), TileOptions(tile_px=32), "tissue", "the slide is background only"),
        (ArraySlide(stained_pixels(200, 200), 1.0), TileOptions(tile_px=32), "mpp", "tiles of 0.5 would invent detail"),
        (
            ArraySlide(stained_pixels(100, 100)),
            TileOptions(tile_px=128),
            "size",
            "100 x 100 pixels is less than one tile (128 x 128)",
        ),
        (ArraySlide(stained_pixels(300, 300)), TileOptions(tile_px=280), "tissue", "none of its 1 tiles holds 50%"),
    ],
)
def test_a_slide_that_gives_no_tiles_says_why(slide, options, field, says):
    with pytest.raises(RowFault) as caught:
        plan_tiles("s", slide, options, 0)
    assert caught.value.field == field and says in caught.value.reason


@pytest.mark.parametrize("field", ["tile_px", "tile_mpp", "tiles_per_slide", "mpp_override"])
def test_a_tile_setting_out_of_range_is_refused(field):
    with pytest.raises(ConfigError, match=rf"pack.{field} is 0"):
        TileOptions(**{field: 0})


@pytest.mark.parametrize("backend", ["monai-openslide", "monai-tifffile"])
def test_the_monai_backend_reads_the_same_pixels(tmp_path, backend):
    pytest.importorskip("monai")
    path = write_slide(tmp_path / "s.tif", stained_pixels(256, 256))
    ours, theirs = open_slide(path), open_slide(path, backend)
    assert theirs.size == ours.size and slide_mpp(theirs) == pytest.approx(slide_mpp(ours), rel=1e-3)
    assert np.array_equal(np.asarray(ours.read(64, 32, 0, (48, 40))), np.asarray(theirs.read(64, 32, 0, (48, 40))))
    ours.close(), theirs.close()


def test_an_unknown_backend_is_refused_with_a_hint(tmp_path):
    with pytest.raises(ConfigError, match=r"Did you mean 'openslide'"):
        open_slide(tmp_path / "s.tif", "openslid")


# --- slides as data ----------------------------------------------------------------------------------------------------


def test_captions_beside_slides_become_documents_of_tiles(tmp_path):
    write_slide(tmp_path / "S1.tif", stained_pixels(256, 256))
    (tmp_path / "slides.csv").write_text("slide_id,caption\nS1,Breast core.\n")
    found = list(load_documents(pathology_slides(tmp_path), "train", 0))
    assert len(found) == 16 and {document.text for document in found} == {"<image>\nBreast core."}
    tile = Tile.from_key(found[0].id)
    assert (tile.slide_id, tile.x, tile.y, tile.px, tile.mpp) == ("S1", 64, 64, 32, 0.5)
    assert Image.open(io.BytesIO(found[0].media[0].read())).size == (32, 32)


def test_labels_beside_slides_become_choices_with_their_place(tmp_path):
    for name in ("S1", "S2"):
        write_slide(tmp_path / f"{name}.tif", stained_pixels(256, 256))
    (tmp_path / "slides.csv").write_text("slide_id,label,patient_id\nS1,tumour,P1\nS2.tif,benign,P2\n")
    found = list(load_samples(pathology_slides(tmp_path), "train", 0))
    assert {(s.meta["slide_id"], s.task, s.reference, s.meta["group"]) for s in found} == {
        ("S1", "choice", "B", "patient_id=P1"), ("S2.tif", "choice", "A", "patient_id=P2")}  # fmt: skip
    assert found[0].meta["options"] == {"A": "benign", "B": "tumour"}
    assert found[0].meta["tile"]["x"] == 64 and found[0].meta["tile"]["mpp"] == 0.5


def test_all_tiles_of_a_patient_share_a_split(tmp_path):
    for number in range(8):
        write_slide(tmp_path / f"S{number}.tif", stained_pixels(128, 128, number), levels=1)
    rows = [f"S{n},{'tumour' if n % 4 < 2 else 'benign'},P{n // 2}" for n in range(8)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,label,patient_id", *rows]))
    halves = {"splits": {"validation": 0.3, "test": 0.3}}
    found = {}
    for split in ("train", "validation", "test"):
        try:
            found[split] = {s.meta["group"] for s in load_samples(pathology_slides(tmp_path, options=halves), split, 0)}
        except DataError as err:
            assert "no samples in split" in str(err)
            found[split] = set()
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 4
    assert sum(bool(members) for members in found.values()) >= 2


def test_damaged_slides_are_named_and_the_whole_ones_are_used(tmp_path):
    for name in ("good", "cut", "head", "empty", "gone_mpp", "glass"):
        pixels = np.full((256, 256, 3), 244, np.uint8) if name == "glass" else stained_pixels(256, 256)
        write_slide(tmp_path / f"{name}.tif", pixels, mpp=None if name == "gone_mpp" else 0.5, levels=1)
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) // 2])
    (tmp_path / "head.tif").write_bytes(content[:100])
    (tmp_path / "empty.tif").write_bytes(b"")
    names = ["good", "cut", "head", "empty", "gone_mpp", "glass", "lost"]
    (tmp_path / "slides.csv").write_text("slide_id,caption\n" + "".join(f"{name},Tissue.\n" for name in names))
    report = check(tmp_path, SMALL)
    found = {Path(bad.file).name: (bad.row, bad.field, bad.reason) for bad in report.first_bad}
    assert {name: (row, field) for name, (row, field, _) in found.items()} == {
        "slides.csv": (8, "slide_id"), "cut.tif": (0, "file"), "head.tif": (0, "file"), "empty.tif": (0, "file"),
        "gone_mpp.tif": (0, "mpp"), "glass.tif": (0, "tissue")}  # fmt: skip
    assert "truncated" in found["cut.tif"][2] and "truncated" in found["head.tif"][2] and "0 bytes" in found["empty.tif"][2]
    assert "no slide file 'lost'" in found["slides.csv"][2] and "mpp_override" in found["gone_mpp.tif"][2]
    made = pathology_slides(tmp_path, max_bad_fraction=1.0)
    assert {Tile.from_key(d.id).slide_id for d in load_documents(made, "train", 0)} >= {"good"}
    with pytest.raises(DataError, match=r"rows are bad|files cannot be read"):
        list(load_documents(pathology_slides(tmp_path), "train", 0))


def test_a_slide_without_resolution_is_read_with_the_override(tmp_path):
    write_slide(tmp_path / "S1.tif", stained_pixels(256, 256), mpp=None)
    (tmp_path / "slides.csv").write_text("slide_id,caption\nS1,Breast.\n")
    assert len(list(load_documents(pathology_slides(tmp_path, options={"mpp_override": 0.5}), "train", 0))) == 16


def test_slides_without_a_table_say_what_is_needed(tmp_path):
    write_slide(tmp_path / "S1.tif", stained_pixels(128, 128), levels=1)
    with pytest.raises(DataError, match=r"S1.tif: slides need a table beside them .* slide_id,caption or slide_id,label"):
        list(load_documents(pathology_slides(tmp_path), "train", 0))
    # The check goes on to say what else is wrong, slide by slide.
    (tmp_path / "S2.tif").write_bytes(b"")
    reasons = {Path(bad.file).name: bad.reason for bad in check(tmp_path).first_bad}
    assert "slides need a table beside them" in reasons["S1.tif"] and "0 bytes" in reasons["S2.tif"]


def test_a_folder_of_dicom_instances_is_one_slide(tmp_path):
    (tmp_path / "set" / "S1").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "set" / "S1" / f"{number}.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "set" / "slides.csv").write_text("slide_id,caption\nS1,Breast.\n")
    report = check(tmp_path / "set", SMALL)
    assert [(bad.file, bad.field) for bad in report.first_bad] == [("set/S1/0.dcm", "file")] and not report.notes


def test_a_mirax_file_without_its_folder_is_named(tmp_path):
    (tmp_path / "S1.mrxs").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(RowFault, match=r"its folder 'S1/' is missing"):
        open_slide(tmp_path / "S1.mrxs")


def test_what_may_identify_a_patient_is_noted_by_name_and_never_by_content():
    slide = ArraySlide(
        np.zeros((8, 8, 3), np.uint8), **{"dicom.PatientName": "DOE^JANE", "dicom.PatientID": "", "aperio.User": "u-17"}
    )
    slide.associated = ("label", "macro", "thumbnail")
    notes = " ".join(privacy_notes("s.dcm", slide))
    assert "label, macro" in notes and "aperio.User, dicom.PatientName" in notes and "PatientID" not in notes
    assert "DOE" not in notes and "u-17" not in notes and "thumbnail" not in notes


def test_no_reader_touches_the_pixels_of_associated_images(tmp_path, monkeypatch):
    import openslide

    def refuse(self: Any) -> Any:
        class Names(dict):
            def __getitem__(self, key: str) -> Any:
                raise AssertionError(f"pixels of {key} were read")

        return Names(label=None, macro=None)

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(refuse))
    write_slide(tmp_path / "S1.tif", stained_pixels(128, 128), levels=1)
    (tmp_path / "slides.csv").write_text("slide_id,caption\nS1,Breast.\n")
    report = check(tmp_path, SMALL)
    assert report.num_good > 0 and "holds associated images (label, macro)" in report.notes[0]


def test_tiles_carry_no_metadata(tmp_path):
    write_slide(tmp_path / "S1.tif", stained_pixels(128, 128), levels=1)
    (tmp_path / "slides.csv").write_text("slide_id,caption\nS1,Breast.\n")
    for document in load_documents(pathology_slides(tmp_path), "train", 0):
        found, plain = document.media[0].read(), io.BytesIO()
        Image.fromarray(np.asarray(Image.open(io.BytesIO(found)))).save(plain, "TIFF")
        assert found == plain.getvalue(), "the pixels alone make the same file"


@pytest.mark.parametrize("name", ["he_target_image.png", "ihc_colon_fhl2.png"])
def test_a_real_picture_as_a_compressed_pyramid_gives_tiles_of_it(tmp_path, name):
    pytest.importorskip("imagecodecs")
    source = next((root / SHARED / name for root in Path(__file__).parents if (root / SHARED / name).is_file()), None)
    if source is None:
        pytest.skip(f"{SHARED / name} is not beside this checkout")
    pixels = np.asarray(Image.open(source).convert("RGB"))
    page = np.full((1024, 1024, 3), 245, np.uint8)  # the picture on a slide of glass
    page[256 : 256 + 512, 256 : 256 + 512] = pixels[:512, :512]
    write_slide(tmp_path / "S1.tif", page, mpp=0.25, jpeg=True)
    (tmp_path / "slides.csv").write_text("slide_id,caption\nS1,Tissue.\n")
    made = pathology_slides(tmp_path, options={"tile_px": 64, "tile_mpp": 0.5})
    tiles = {Tile.from_key(d.id): d.media[0] for d in load_documents(made, "train", 0)}
    assert 8 <= len(tiles) <= 16  # at most the 4 x 4 grid that the picture fills
    for tile, media in tiles.items():
        shown = np.asarray(Image.open(io.BytesIO(media.read())), float)
        there = page[tile.y : tile.y + 128, tile.x : tile.x + 128]
        assert shown.mean(axis=(0, 1)) == pytest.approx(there.mean(axis=(0, 1)), abs=3.0)


def test_the_array_slide_of_these_tests_keeps_the_protocol():
    reader: SlideReader = ArraySlide(stained_pixels(64, 64))
    assert reader.read(0, 0, 0, (10, 7)).size == (10, 7)
