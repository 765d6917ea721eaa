"""Upload an exported folder to a hub repository. Only `factory export --push REPO --online` leads here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory.errors import ConfigError, ModelError


def push_folder(folder: Path, repo: str, *, is_private: bool = True, api: Any | None = None) -> str:
    """Create the repository when it is new and upload every file of `folder` in one commit; the commit's address.

    Args:
        repo: `owner/name`.
        api: a `huggingface_hub.HfApi`; by default one that reads the user's own login (HF_TOKEN or the hub's token file).

    Raises:
        ConfigError: `repo` is no owner/name, or the hub is switched off in the environment.
        ModelError: the hub refuses.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"--push {repo}: want owner/name, for example my-lab/pathology-7b.")
    if api is None and constants.HF_HUB_OFFLINE:
        raise ConfigError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it for this command.")
    hub = api or HfApi()
    try:
        hub.create_repo(repo, private=is_private, exist_ok=True)
        done = hub.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="Export from domain-factory")
    except (HfHubHTTPError, HFValidationError, OSError) as err:
        raise ModelError(
            f"{repo}: the hub refused the upload: {err}. The folder {folder} is complete; check the login (hf auth login) and "
            "the name, then push again."
        ) from err
    return str(done.commit_url if hasattr(done, "commit_url") else done)
