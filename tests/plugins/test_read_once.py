"""Installed packages are read once, and again as soon as something is installed or a place is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory import plugins


def install(place: Path, name: str) -> None:
    info = place / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[factory.launchers]\n{name} = nowhere:NOTHING\n")


def names() -> set[str]:
    return {entry.name for entry in plugins.installed_entries(plugins.LAUNCHER_GROUP)}


def test_what_is_installed_later_is_found(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path / "site")
    install(tmp_path / "site", "first-there")
    assert "first-there" in names()
    install(tmp_path / "site", "second-there")
    assert {"first-there", "second-there"} <= names()
    install(tmp_path / "elsewhere", "third-there")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert "third-there" in names()


def test_a_dozen_questions_read_the_packages_once(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)  # another search path than any before
    readings = []
    read = plugins.entry_points
    monkeypatch.setattr(plugins, "entry_points", lambda: readings.append(1) or read())
    for group in plugins.GROUPS:
        plugins.installed_entries(group)
        plugins.installed_entries(group)
    assert len(readings) == 1
