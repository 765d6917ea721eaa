"""The doctor finds the traps it was written for, and says what to do."""

from __future__ import annotations

import sys

import pytest

from factory.cli import doctor


def states(findings):
    return {finding.check: finding.state for finding in findings}


def test_doctor_passes_here(factory):
    ended = factory("doctor", "--json")
    assert ended.code == 0, ended.out
    checks = {finding["check"] for finding in ended.json["findings"]}
    assert {"python", "factory", "torch", "cores", "memory", "FACTORY_HOME", "disk", "import openslide", "pack toy"} <= checks


def test_unusable_torchvision_is_a_fault(tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist\\nmore')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(doctor, "IMPORTED", {"torchvision": doctor.IMPORTED["torchvision"]})
    (finding,) = doctor._imports()
    assert finding.state == "fault" and finding.found == "RuntimeError: operator torchvision::nms does not exist"
    assert "pip uninstall torchvision" in finding.remedy


def test_factory_boy_is_a_fault(tmp_path, monkeypatch):
    info = tmp_path / "factory_boy-3.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: factory_boy\nVersion: 3.3.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert states(doctor._our_package()) == {"factory": "ok", "factory_boy": "fault"}


def test_home_that_cannot_be_written_is_a_fault(factory, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr(doctor, "CHECKS", (doctor._home,))
    ended = factory("doctor", "--json")  # the table wraps long paths
    assert ended.code == 1 and "is no folder you may write to" in ended.out and "Set FACTORY_HOME" in ended.out


def test_many_threads_are_noted(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    finding = doctor._threads()[-1]
    assert finding.state == "note" and "slower" in finding.remedy


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_missing_library_is_a_fault_with_its_command(monkeypatch, missing):
    from importlib.metadata import PackageNotFoundError, version

    def without(name):
        if name == missing:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", without)
    finding = next(finding for finding in doctor._versions() if finding.check == missing)
    assert finding.state == "fault" and finding.remedy == f"pip install {missing}"


def test_no_pack_is_a_fault(monkeypatch):
    monkeypatch.setenv("FACTORY_PACKS", "none")
    assert states(doctor._packs()) == {"packs": "fault"}
