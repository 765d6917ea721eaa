"""Secrets taken out of what is shown or written: values of secret environment variables, credentials in addresses, known tokens.

What is replaced is found by name or shape. A secret that stands in no such variable and looks like any other word is not seen;
docs/security.md says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TextIO

MASK = "***"
SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(^|_)API_?KEY|(^|_)(ACCESS|PRIVATE|AUTH)_KEY|_KEY$|^KEY$", re.IGNORECASE
)
"""Names of environment variables whose values are secrets."""
_PLAIN_NAME = re.compile(r"TOKENIZERS_|_TOKENS$|_PUBLIC_KEY$|^FACTORY_PUBLIC_KEY$|_FILE$|_PATH$", re.IGNORECASE)
"""Names that only look like it."""
MIN_CHARACTERS = 8
"""Shorter values are no secrets worth the name, and replacing `1` or `true` would garble every text."""
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"<>]+(?=@)")
"""User name and password of an address."""
_IN_QUERY = re.compile(
    r"(?<=[?&])(access_token|api_?key|auth|key|password|secret|sig|signature|token)=[^&\s'\"<>]+", re.IGNORECASE
)
_SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|(?<=Bearer )[A-Za-z0-9._~+/-]{12,}=*|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
"""Tokens that are known by how they begin."""


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return bool(SECRET_NAME.search(name)) and not _PLAIN_NAME.search(name)


def secret_values(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Value -> name of its variable, of every secret in the environment, the longest first."""
    found = {
        value: name
        for name, value in (os.environ if env is None else env).items()
        if is_secret_name(name) and len(value) >= MIN_CHARACTERS
    }
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def redact(text: str, env: Mapping[str, str] | None = None) -> str:
    """The text with every secret replaced by `***`.

    Args:
        env: where secret variables are looked up; this process's environment when None.
    """
    for value in secret_values(env):
        text = text.replace(value, MASK)
    text = _IN_ADDRESS.sub(MASK, text)
    text = _IN_QUERY.sub(lambda hit: f"{hit[1]}={MASK}", text)
    return _SHAPES.sub(MASK, text)


def secret_in(text: str, env: Mapping[str, str] | None = None) -> str:
    """What kind of secret a setting holds, in words and never the secret itself; empty when it holds none."""
    for value, name in secret_values(env).items():
        if value in text:
            return f"the value of the environment variable {name}"
    if any(":" in hit[0] for hit in _IN_ADDRESS.finditer(text)):
        return "a password in an address"
    return "a token" if _SHAPES.search(text) else ""


class RedactedStream:
    """A text stream that redacts what is written to it; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the redacted text; return the number of characters taken."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
