"""From what the user named as base to a folder on this disk. The only place in the models part that may use the network."""

from __future__ import annotations

import logging
from pathlib import Path

from factory.errors import ModelError
from factory.stages.models.facts import read_config

log = logging.getLogger(__name__)

_WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.jinja", "tokenizer.model", "LICENSE*")
"""No *.bin, no *.py: neither pickles nor code are fetched."""


def fetch_base(ref: str, *, revision: str | None = None, online: bool = False) -> Path:
    """The folder of a base model: `ref` itself when it is one, else the hub's files of that revision (cached by huggingface_hub).

    Raises ModelError: a hub id while offline, no such folder, or the hub cannot be reached or refuses.
    """
    folder = Path(ref).expanduser()
    if folder.is_dir() or not online:
        if not (folder / "adapter_chain.json").is_file():
            read_config(folder)
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    if revision is None:
        log.warning("%s: no revision is named, so the newest is taken and a later build may differ; set revision=COMMIT to pin it", ref)
    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=list(_WANTED)))
    except (RepositoryNotFoundError, HFValidationError) as err:
        raise ModelError(f"{ref}: the hub knows no such model: {err}. Check the name, and log in with `hf auth login` if it is gated.") from err
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as err:
        raise ModelError(f"{ref}: cannot be fetched from the hub: {err}. Check the connection, or give a folder with --base DIR.") from err
