"""Signatures with a real key: what was signed loads, anything changed, unsigned or signed by another is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from factory.errors import ConfigError, RegistryError
from factory.registry import signing


def write_keys(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """A new P-256 pair as PEM files (private, public)."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    private.chmod(0o600)
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    pytest.importorskip("model_signing.signing", reason="the package model-signing (extra `sign`) is not installed")
    return write_keys(tmp_path, "site")


def test_a_signed_model_verifies_and_loads(registry, put, keys, monkeypatch):
    put()
    private, public = keys
    parts = signing.sign(registry, "toy", private)
    assert [part.role for part in parts] == ["manifest", "model"] and all(part.signature.is_file() for part in parts)
    assert signing.verify_signature(registry, "toy-v1", public) == parts and signing.is_signed(registry, registry.show("toy"))
    monkeypatch.setenv(signing.PUBLIC_KEY, str(public))
    assert registry.model_path("toy").is_dir()
    signing.sign(registry, "toy", private)
    assert registry.model_path("toy").is_dir() and not list((registry.root / "signatures").glob(".*"))


def test_an_unsigned_model_does_not_load_once_a_key_is_named(registry, put, keys, monkeypatch):
    put()
    assert registry.model_path("toy").is_dir(), "without the setting nothing changes"
    monkeypatch.setenv(signing.PUBLIC_KEY, str(keys[1]))
    with pytest.raises(RegistryError, match="manifest is not signed"):
        registry.model_path("toy")


def test_another_key_does_not_do(registry, put, keys, tmp_path, monkeypatch):
    put()
    signing.sign(registry, "toy", keys[0])
    monkeypatch.setenv(signing.PUBLIC_KEY, str(write_keys(tmp_path, "other")[1]))
    with pytest.raises(RegistryError, match="does not fit key and files"):
        registry.model_path("toy")


def changed_weights(registry, record):
    path = registry.store.root / record.artifacts["model"] / "model.safetensors"
    path.chmod(0o644)
    path.write_text("other weights")


def added_file(registry, record):
    (registry.store.root / record.artifacts["model"] / "modeling.py").write_text("import os")


def changed_lineage(registry, record):
    path = registry.root / "manifests" / "toy-v1.json"
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, "licence": "MIT"}))


def forged_signature(registry, record):
    (registry.root / "signatures" / "toy-v1" / "model.sig").write_text("{}")


def swapped_signature(registry, record):
    folder = registry.root / "signatures" / "toy-v1"
    (folder / "model.sig").write_bytes((folder / "manifest.sig").read_bytes())


def removed_signature(registry, record):
    (registry.root / "signatures" / "toy-v1" / "model.sig").unlink()


@pytest.mark.parametrize(
    "tamper", [changed_weights, added_file, changed_lineage, forged_signature, swapped_signature, removed_signature]
)
def test_tampering_is_refused(registry, put, keys, monkeypatch, tamper):
    record = put()
    signing.sign(registry, "toy", keys[0])
    tamper(registry, record)
    monkeypatch.setenv(signing.PUBLIC_KEY, str(keys[1]))
    with pytest.raises(RegistryError) as caught:
        registry.model_path("toy")
    assert caught.value.exit_code == 8 and "toy-v1" in str(caught.value)


def test_what_is_damaged_is_not_signed(registry, put, keys):
    changed_weights(registry, put())
    with pytest.raises(RegistryError, match="Only an intact model is signed"):
        signing.sign(registry, "toy", keys[0])
    assert not (registry.root / "signatures").exists()


def test_keys_that_do_not_do_are_named(registry, put, keys, tmp_path):
    put()
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no key")
    wrong.chmod(0o600)
    with pytest.raises(ConfigError, match="no private elliptic-curve key"):
        signing.sign(registry, "toy", wrong)
    with pytest.raises(ConfigError, match="cannot be read"):
        signing.sign(registry, "toy", tmp_path / "absent.pem")
    keys[0].chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        signing.sign(registry, "toy", keys[0])
    with pytest.raises(ConfigError, match="no public elliptic-curve key"):
        signing.verify_signature(registry, "toy", wrong)
    assert not list((registry.root / "signatures").iterdir()), "nothing half-signed is left"


def test_the_commands_and_an_encrypted_key(factory, registry, put, keys, tmp_path, monkeypatch):
    put()
    private, public = write_keys(tmp_path, "locked", password=b"horse battery")
    monkeypatch.setenv("SIGN_PW", "horse battery")
    assert (
        factory("models", "sign", "toy", "--key", str(private), "--password-env", "SIGN_PW", "--json").json["model"] == "toy-v1"
    )
    assert "signed by" in factory("models", "verify", "toy", "--public-key", str(public)).out
    assert factory("models", "verify", "--public-key", str(public), "--json").json["signed"] == ["toy-v1"]
    assert factory("models", "verify", "toy", "--public-key", str(keys[1])).code == 8
    assert factory("models", "sign", "toy", "--key", str(private), "--password-env", "ABSENT_PW").code == 2


def test_the_openssf_command_reads_the_signature(registry, put, keys):
    record = put()
    signing.sign(registry, "toy", keys[0])
    folder = registry.store.root / record.artifacts["model"]
    signature = registry.root / "signatures" / "toy-v1" / "model.sig"
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder), "--signature", str(signature), "--public_key"]
    done = subprocess.run([*command, str(keys[1])], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_without_the_package_the_message_says_what_to_install(registry, put, tmp_path, monkeypatch):
    put()
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(ConfigError, match=r"pip install 'domain-factory\[sign\]'"):
        signing.sign(registry, "toy", tmp_path / "key.pem")
    monkeypatch.setenv(signing.PUBLIC_KEY, str(tmp_path / "key.pub"))
    with pytest.raises(ConfigError, match="model-signing"):
        registry.model_path("toy")
