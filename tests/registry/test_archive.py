"""archive and take: what goes in comes out, and nothing hostile or damaged gets in."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import RegistryError
from factory.registry.archive import HEADER, archive, take, unsafe
from factory.registry.files import FileEntry, tree_hash
from factory.registry.models import Registry

NAMES = st.text("abcxyzé ", min_size=1, max_size=60).map(lambda text: f"n{text}n")
TREES = st.dictionaries(
    st.tuples(NAMES, NAMES).map(lambda pair: f"d{pair[0]}/f{pair[1]}"), st.binary(max_size=2000), min_size=1, max_size=5
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def content(root: Path) -> dict[str, bytes]:
    """Every manifest and object file."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for part in ("manifests", "objects")
        for path in (root / part).rglob("*")
        if path.is_file()
    }


@settings(deadline=None, max_examples=15)
@given(TREES, TEXT, st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False) | st.integers() | TEXT, max_size=4))
def test_a_model_comes_out_as_it_went_in(making, tree, licence, config):
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        for path, data in tree.items():
            (here / "model" / path).parent.mkdir(parents=True, exist_ok=True)
            (here / "model" / path).write_bytes(data)
        first, second = Registry(here / "first"), Registry(here / "second")
        record = first.register(making.record(licence=licence, config=config), here / "model")
        archive(first, "toy", here / "one.tar")
        taken = take(second, here / "one.tar")
        assert taken.record == record == second.show("toy-v1") and not taken.was_here
        assert content(first.root) == content(second.root)
        assert second.verify() == [] and second.list() == first.list()
        # Again is a no-op, and the archive of the copy is the same file.
        before = content(second.root)
        assert take(second, here / "one.tar").was_here and content(second.root) == before
        archive(second, "toy", here / "two.tar")
        assert (here / "one.tar").read_bytes() == (here / "two.tar").read_bytes()


def test_an_adapter_goes_with_its_base_and_any_tar_reads_it(registry, making, tmp_path):
    run = tmp_path / "run"
    making.folder(run / "00-base/model", "base")
    adapter = making.folder(run / "02-x/model", "adapter")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "x", "r": 8}))
    (adapter / "adapter_chain.json").write_text(
        json.dumps({"base": "../../00-base/model", "adapters": [], "written_at": str(adapter)})
    )
    stored = registry.register(making.record(), adapter)
    archive(registry, "toy", tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames()[0] == HEADER and len(tar.getnames()) == 5
    other = Registry(tmp_path / "other")
    assert (
        take(other, tmp_path / "a.tar").record == stored and set(stored.artifacts) == {"base", "model"} and other.verify() == []
    )


def test_another_model_under_the_same_id_becomes_the_next_version_once(registry, put, making, tmp_path):
    put("toy", "mine")
    other = Registry(tmp_path / "other")
    theirs = other.register(making.record("toy"), making.folder(tmp_path / "m", "theirs"))
    archive(other, "toy", tmp_path / "a.tar")
    taken = take(registry, tmp_path / "a.tar")
    assert (taken.archived_id, taken.record.id, taken.was_here) == (theirs.id, "toy-v2", False)
    again = take(registry, tmp_path / "a.tar")
    assert again.was_here and again.record.id == "toy-v2" and len(registry.list()) == 2


def test_taking_mends_a_damaged_object(registry, put, tmp_path):
    put()
    archive(registry, "toy", tmp_path / "a.tar")
    (registry.model_path("toy") / "model.safetensors").unlink()
    assert registry.verify() and take(registry, tmp_path / "a.tar").was_here and registry.verify() == []


def test_what_is_not_whole_is_not_archived(registry, put, making, tmp_path):
    put()
    (tmp_path / "there.tar").write_text("precious")
    with pytest.raises(RegistryError, match="exists already"):
        archive(registry, "toy", tmp_path / "there.tar")
    with pytest.raises(RegistryError, match="cannot be written"):
        archive(registry, "toy", tmp_path / "nowhere" / "a.tar")
    path = registry.model_path("toy") / "model.safetensors"
    path.chmod(0o644)
    path.write_text("X")
    with pytest.raises(RegistryError, match="missing or damaged"):
        archive(registry, "toy", tmp_path / "a.tar")
    base = making.folder(tmp_path / "base", "base")
    own = making.record("own", base={"ref": "x", "hash": "1" * 64})
    registry.register(own, base, base_in_place=base)
    with pytest.raises(RegistryError, match=r"used in place and not stored.*factory export own-v1"):
        archive(registry, "own", tmp_path / "a.tar")
    put("pickled", "p")
    folder = tmp_path / "with-pickle"
    making.folder(folder)
    (folder / "weights.pt").write_text("x")
    registry.register(making.record("pickled"), folder)
    with pytest.raises(RegistryError, match="loading could execute"):
        archive(registry, "pickled", tmp_path / "a.tar")
    assert sorted(p.name for p in tmp_path.glob("*.tar*")) == ["there.tar"] and (tmp_path / "there.tar").read_text() == "precious"
    assert not list(tmp_path.glob(".*"))


# ---- hostile archives -------------------------------------------------------------------------------------------------


class Forge:
    """Builds archives that differ from a good one in one point."""

    def __init__(self, making) -> None:
        self.making = making

    def header(self, files: dict[str, bytes] | None = None, **changes) -> tuple[dict, dict[str, bytes]]:
        import hashlib

        files = {"model.safetensors": b"w"} if files is None else files
        entries = [FileEntry(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in files.items()]
        digest = tree_hash(entries)
        record = self.making.record(version=1, artifacts={"model": digest}).to_json() | changes
        rows = [{"path": e.path, "sha256": e.sha256, "num_bytes": e.num_bytes} for e in entries]
        head = {"kind": "factory-model", "format": 1, "record": record, "objects": {digest: rows}}
        return head, {f"objects/{digest}/{path}": data for path, data in files.items()}

    def write(self, path: Path, members, head=None, raw: bytes | None = None, tail: bytes = b"") -> Path:
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            if head is not None or raw is not None:
                members = [(HEADER, raw if raw is not None else json.dumps(head).encode()), *members]
            for member in members:
                info, data = (tarfile.TarInfo(member[0]), member[1]) if isinstance(member, tuple) else (member, b"")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        with path.open("ab") as file:
            file.write(tail)
        return path


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def forge(making) -> Forge:
    return Forge(making)


def refused(registry: Registry, path: Path, match: str) -> None:
    before = content(registry.root)
    with pytest.raises(RegistryError, match=match):
        take(registry, path)
    assert content(registry.root) == before
    assert not list((registry.root / "objects").glob(".*")) and not list((registry.root / "manifests").glob("*"))


def test_the_forge_makes_a_good_archive_when_nothing_is_forged(registry, forge, tmp_path):
    head, files = forge.header()
    assert take(registry, forge.write(tmp_path / "a.tar", files.items(), head)).record.id == "toy-v1"


EVIL = [
    "../../evil",
    "/etc/evil",
    "a/../../evil",
    "a//b",
    "./a",
    "a\\b",
    "C:evil",
    "a/",
    "",
    "a\nb",
    "a\x1b[2Jb",
    "x" * 201,
    "w.pkl",
    "M.PT",
    "m.py",
]


@pytest.mark.parametrize("name", EVIL)
def test_names_that_lead_elsewhere_or_run_are_refused(registry, forge, tmp_path, name):
    assert unsafe(name)
    head, files = forge.header({name: b"evil"})
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head), "Nothing was taken")
    assert not (tmp_path / "evil").exists() and not (registry.root / "evil").exists()


@pytest.mark.parametrize(
    ("kind", "word"),
    [(tarfile.SYMTYPE, "symbolic link"), (tarfile.LNKTYPE, "hard link"), (tarfile.CHRTYPE, "device"), (tarfile.BLKTYPE, "device"),
     (tarfile.FIFOTYPE, "pipe"), (tarfile.DIRTYPE, "folder"), (tarfile.GNUTYPE_SPARSE, "sparse"), (tarfile.XHDTYPE, "extended"),
     (tarfile.CONTTYPE, "something")],
)  # fmt: skip
def test_anything_but_plain_files_is_refused(registry, forge, tmp_path, kind, word):
    head, files = forge.header()
    refused(registry, forge.write(tmp_path / "a.tar", [link(next(iter(files)), kind)], head), f"{word}.*plain files only")


def test_extra_repeated_missing_and_other_files_are_refused(registry, forge, tmp_path):
    head, files = forge.header({"model.safetensors": b"w", "b": b"2"})
    first, second = files.items()
    cases = {
        "does not name, or holds it twice": [first, second, ("objects/extra", b"x")],
        r"holds it twice": [first, first, second],
        "lacks 1 of the files": [first],
        "another 'b' than": [first, (second[0], b"3")],
        "holds 3 bytes of 'b'": [first, (second[0], b"333")],
        "does not name": [("../../evil", b"x"), first, second],
    }
    for match, members in cases.items():
        refused(registry, forge.write(tmp_path / "a.tar", members, head), match)
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head, tail=b"x" * 10), "padding")
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head, tail=b"\0" * (2 << 20)), "goes on after")


def test_declared_sizes_are_the_limit(registry, forge, tmp_path, monkeypatch):
    head, files = forge.header()
    rows = next(iter(head["objects"].values()))
    rows[0]["num_bytes"] = 1 << 59
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head), "declares .* bytes, and .* has .* free")
    rows[0]["num_bytes"] = -1
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head), "impossible size")
    monkeypatch.setattr("factory.registry.archive.HEADER_LIMIT", 1000)
    head, files = forge.header(licence="x" * 1000)
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head), "at most 1000 bytes")
    monkeypatch.undo()
    monkeypatch.setattr("factory.registry.archive.FILES_LIMIT", 2)
    head, files = forge.header({"a": b"", "b": b"", "c": b""})
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head), "too many files")


def test_a_file_that_would_be_a_folder_too_is_refused(registry, forge, tmp_path):
    head, files = forge.header({"a": b"1", "a/b": b"2"})
    refused(registry, forge.write(tmp_path / "a.tar", files.items(), head), "inside of a file")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x"}, {"version": 0}, {"version": 2**70}, {"artifacts": {"model": "../../x"}}, {"artifacts": {}}, {"lineage": "x"},
        {"base": {"path": "/etc", "hash": "0" * 64}}, {"evals": {"sft": {"test": 3}}}, {"format": 9}, {"seed": 1e400},
    ],
)  # fmt: skip
def test_records_that_are_none_are_refused(registry, forge, tmp_path, change):
    head, files = forge.header(**change)
    refused(
        registry,
        forge.write(tmp_path / "a.tar", files.items(), head),
        "unusable value|no whole model|has format|cannot name a model|written again",
    )


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"kind": NaN}', b'{"a":' * 50_000])
def test_headers_that_are_none_are_refused(registry, forge, tmp_path, raw):
    refused(registry, forge.write(tmp_path / "a.tar", [], raw=raw), "Nothing was taken")


def test_an_adapter_that_leads_out_of_the_archive_is_refused(registry, forge, tmp_path):
    for chain in ({"base": "/etc", "adapters": []}, {"base": "../" + "0" * 64, "adapters": []}, {"base": 3}, []):
        head, files = forge.header({"model.safetensors": b"w", "adapter_chain.json": json.dumps(chain).encode()})
        refused(registry, forge.write(tmp_path / "a.tar", files.items(), head), "adapter")


def test_what_is_no_plain_file_or_no_archive_is_refused(registry, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.tar").write_text("hello" * 500)
    (tmp_path / "empty.tar").write_bytes(b"")
    import gzip

    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(b"\0" * 10_000_000))
    for name, match in {
        "pipe": "no plain file", ".": "plain file|cannot be read", "missing": "cannot be read", "text.tar": "no archive",
        "empty.tar": "cut short", "bomb.tar.gz": "no archive",
    }.items():  # fmt: skip
        refused(registry, tmp_path / name, match)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_changed_or_missing_byte_is_noticed_or_harmless(making, data):
    """Cut, flip or insert anywhere: either RegistryError and an untouched registry, or exactly the archived model."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        source, target = Registry(here / "a"), Registry(here / "b")
        source.register(making.record(), making.folder(here / "model", "weights", tokenizer="{}" * 300))
        archive(source, "toy", here / "a.tar")
        raw = bytearray((here / "a.tar").read_bytes())
        where = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "blank"]))
        if how == "flip":
            raw[where] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut":
            del raw[where:]
        elif how == "insert":
            raw[where:where] = data.draw(st.binary(min_size=1, max_size=600))
        else:
            raw[where : where + 512] = bytes(len(raw[where : where + 512]))
        (here / "a.tar").write_bytes(raw)
        try:
            record = take(target, here / "a.tar").record
        except RegistryError:
            assert content(target.root) == {} and not list((target.root / "objects").glob("*"))
        else:
            # The manifest's own words are not hashed, so a flipped letter of a text is taken; files never are.
            assert target.verify() == [] and target.show(record.id) == record and record.artifacts == source.show("toy").artifacts


def test_the_commands(factory, registry, put, tmp_path, monkeypatch):
    put()
    file = tmp_path / "a.tar"
    written = factory("models", "archive", "toy", str(file), "--json")
    assert written.code == 0 and written.json == {"model": "toy-v1", "file": str(file), "bytes": file.stat().st_size}
    assert factory("models", "archive", "toy", str(file)).code == 8
    assert "is here already; nothing changed" in factory("models", "take", str(file)).out
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "elsewhere"))
    assert factory("models", "take", str(file), "--json").json == {"model": "toy-v1", "archived_as": "toy-v1", "was_here": False}
    assert factory("models", "verify").code == 0
    file.write_bytes(file.read_bytes()[:3000])
    ended = factory("models", "take", str(file))
    assert ended.code == 8 and "cut short" in ended.err and "Nothing was taken" in ended.err
