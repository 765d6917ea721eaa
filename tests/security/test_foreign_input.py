"""What others wrote runs nothing by being read: packs, recipes, templates, archives, pictures, weights."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from factory.data.report import RowFault
from factory.errors import ConfigError, FactoryError, RegistryError


@pytest.fixture
def foreign_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed pack whose import leaves a mark."""
    package = tmp_path / "site" / "evil_pack"
    (package / "recipes").mkdir(parents=True)
    mark = tmp_path / "ran"
    (package / "__init__.py").write_text(f"open({str(mark)!r}, 'w').close()\nPACK = None\n")
    (package / "pack.yaml").write_text(
        "name: evil\ntitle: Evil\nversion: '1'\ncontract: 1\nlicense: MIT\nintended_use: none\nnot_for: all\ntasks: {a: {verifiers: {v: 1}}}\n"
    )
    (package / "recipes" / "embedded.yaml").write_text("description: harmless\nstages: {}\n")
    info = tmp_path / "site" / "evil_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[factory.domain_packs]\nevil = evil_pack:PACK\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return mark


def test_packs_of_others_are_listed_shown_and_composed_without_running(foreign_pack, factory, capfd):
    assert "evil" in factory("domains", "list").out
    assert "harmless" in factory("domains", "show", "evil").out
    factory("config", "show", "--domain", "evil")
    factory("doctor", "--security")
    assert not foreign_pack.exists()
    assert factory("plan", "--domain", "evil").code == 4, "planning needs the pack's code, and says that it is no pack"
    assert foreign_pack.exists(), "the mark would have shown it"


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['touch {mark}']", "stages: !!python/name:os.system", "seed: '${{oc.env:HOME}}'",
     "base: !!python/object/new:pathlib.Path ['/']"],
)  # fmt: skip
def test_a_recipe_of_others_makes_no_object_and_reads_no_variable(text, tmp_path, factory):
    recipe, mark = tmp_path / "recipe.yaml", tmp_path / "ran"
    recipe.write_text("domain: safety\n" + text.format(mark=mark) + "\n")
    done = factory("plan", "--recipe", str(recipe))
    assert done.code == 2 and not mark.exists()


def test_a_template_of_a_pack_reaches_no_python(tmp_path):
    from jinja2.exceptions import SecurityError

    from factory.packs.generated import system_prompt

    (tmp_path / "plain.jinja").write_text("Answer as {{ form }}.")
    assert system_prompt(tmp_path, "plain", form="a word") == "Answer as a word."
    for number, text in enumerate((
        "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ form.__init__.__globals__ }}", "{{ form.append(1) }}", "{{ lipsum.__globals__['os'] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    )):  # fmt: skip
        (tmp_path / f"evil{number}.jinja").write_text(text)
        with pytest.raises((SecurityError, ConfigError)):
            system_prompt(tmp_path, f"evil{number}", form=["x"])


def tar_with(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "objects/../../escaped", "factory-model.json"])
def test_an_archive_that_leads_elsewhere_is_refused_and_writes_nothing(name, registry, tmp_path):
    from factory.registry.archive import take

    path = tar_with(tmp_path / "evil.tar", (tarfile.TarInfo(name), b"{}"))
    with pytest.raises(RegistryError):
        take(registry, path)
    assert not list(tmp_path.rglob("escaped")) and not list(registry.root.rglob("*.json"))


def test_a_link_in_an_archive_is_refused(registry, tmp_path):
    from factory.registry.archive import take

    link = tarfile.TarInfo("factory-model.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(RegistryError):
        take(registry, tar_with(tmp_path / "evil.tar", (link, b"")))


@pytest.mark.parametrize("name", ["model.bin", "a/pickle.pkl", "modeling.py", "x.so", "../up", "/abs", "a//b", "c:\\x"])
def test_names_that_could_run_or_escape_are_unsafe(name):
    from factory.registry.archive import unsafe

    assert unsafe(name) and unsafe("model.safetensors") is None


def test_a_zip_bomb_of_music_is_refused_before_it_is_unpacked(tmp_path):
    from factory.domains.music.file_formats import read_musicxml

    path = tmp_path / "bomb.mxl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", b"0" * (200 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(RowFault, match="unpacks to more than"):
        list(read_musicxml(path))


def test_xml_entities_are_refused(tmp_path):
    from factory.domains.music.file_formats import read_musicxml

    path = tmp_path / "entity.musicxml"
    path.write_text('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><score-partwise>&e;</score-partwise>')
    with pytest.raises(RowFault, match="XML entities"):
        list(read_musicxml(path))


def png(width: int, height: int) -> bytes:
    """A PNG whose header declares a size and whose data is a few bytes of zeros."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30_000, 30_000), (2_000_000, 100)])
def test_a_picture_that_declares_too_many_pixels_is_refused_before_it_is_decoded(size):
    from factory.data.images import check_image

    with pytest.raises(RowFault, match=r"limit|bomb"):
        check_image(png(*size))


def test_a_chat_template_of_foreign_weights_runs_in_the_sandbox():
    """transformers renders `chat_template` of a foreign folder; this is the environment it uses."""
    from jinja2.exceptions import SecurityError
    from transformers.utils.chat_template_utils import _compile_jinja_template

    with pytest.raises(SecurityError):
        _compile_jinja_template("{{ messages.__class__.__mro__[1].__subclasses__() }}").render(messages=[])


def test_pickled_weights_of_others_are_refused(tmp_path):
    from factory.stages.models.load import load

    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(FactoryError):
        load(tmp_path, precision="fp32")


def test_a_gzip_line_bomb_stays_within_bounds(tmp_path, monkeypatch):
    """A line longer than the limit is a fault of its row, however small its file is."""
    from factory.data.report import RowReport
    from factory.data.rows import read_rows

    monkeypatch.setattr("factory.data.readers_text.MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(20):
            file.write(b" " * (1 << 20))
        file.write(b'{"question": "q", "answer": "a"}\n')
    assert path.stat().st_size < 1 << 16
    report = RowReport(max_bad_fraction=1.0)
    assert list(read_rows(path, report)) == [] and report.num_bad == 1
