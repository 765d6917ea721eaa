"""`factory doctor --security` sees what is planted and says what to do; it prints names and modes, never values."""

from __future__ import annotations

import pytest

from factory.cli import doctor_security


def found(check) -> dict[str, str]:
    return {finding.check: finding.state for finding in check()}


def test_a_world_writable_registry_is_a_fault(home):
    (home.registry / "objects").mkdir(parents=True)
    assert "fault" not in found(doctor_security._permissions).values()
    (home.registry / "objects").chmod(0o777)
    [finding] = [one for one in doctor_security._permissions() if one.state == "fault"]
    assert finding.check == "world-writable" and "chmod o-w" in finding.remedy


def test_unsigned_models_are_notes_and_faults_once_a_key_is_set(registry, put, monkeypatch, tmp_path):
    put()
    assert found(doctor_security._signatures) == {"signatures": "note"}
    monkeypatch.setenv("FACTORY_PUBLIC_KEY", str(tmp_path / "absent.pub"))
    assert found(doctor_security._signatures) == {"FACTORY_PUBLIC_KEY": "fault", "signatures": "fault"}


def test_token_files_that_others_may_read_and_names_of_secrets(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("abc")
    monkeypatch.setenv("HF_TOKEN_PATH", str(token))
    monkeypatch.setenv("SITE_TOKEN", "s3cr3t-Value-0042")
    token.chmod(0o600)
    assert not [one for one in doctor_security._secrets() if str(token) in one.found]
    token.chmod(0o644)
    told = doctor_security._secrets()
    assert [one.state for one in told if str(token) in one.found] == ["fault"]
    assert "SITE_TOKEN" in told[0].found and "s3cr3t" not in str(told)


def test_a_proxy_password_is_not_printed(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://jane:pa55word@proxy:3128")
    told = doctor_security._network()
    assert found(doctor_security._network)["HTTPS_PROXY"] == "note" and "pa55word" not in str(told)


def test_a_world_writable_import_folder_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    tmp_path.chmod(0o777)
    assert any(str(tmp_path) in one.found and one.state == "fault" for one in doctor_security._import_path())


def test_the_sandbox_is_tried_and_not_believed(monkeypatch):
    pytest.importorskip("factory.rewards.sandbox")
    from factory.rewards import sandbox

    held = sandbox.Ended(0, b"held\n", b"")
    monkeypatch.setattr(sandbox, "run_program", lambda *_, **__: held)
    assert doctor_security._jail().state == "ok"
    monkeypatch.setattr(sandbox, "run_program", lambda *_, **__: sandbox.Ended(0, b"network\n", b""))
    assert doctor_security._jail().state == "fault"

    def absent(*_, **__):
        raise sandbox.SandboxMissing("no bwrap here")

    monkeypatch.setattr(sandbox, "run_program", absent)
    assert doctor_security._jail().state == "note"


def test_the_real_sandbox_holds():
    from factory.rewards import sandbox

    try:
        sandbox.find()
    except sandbox.SandboxMissing as err:
        pytest.skip(str(err))
    assert doctor_security._jail().state == "ok"
