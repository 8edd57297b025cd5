"""Weights from the Hugging Face hub: `hf://OWNER/NAME[@REVISION]`, in timm's form."""

import importlib
import logging
import re
from pathlib import Path
from typing import Any

from cnn_jax import extras, files
from cnn_jax.errors import RunError, UsageError
from cnn_jax.pretrained import timm_config

_REFERENCE = re.compile(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?")


def fetch(reference: str) -> Path:
    """Returns the file of weights of a repository on the hub, with its config.json beside it.

    Both are kept in the hub's own cache (HF_HOME), where they are taken from without a network.

    Args:
        reference: `hf://OWNER/NAME`, or with `@` and a branch, tag or commit.

    Raises:
        UsageError: it is no such reference, or huggingface_hub is not installed.
        RunError: the repository has no such files, cannot be reached, or sends another file.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UsageError(
            f"--transfer.weights={reference} is not hf://OWNER/NAME, such as "
            "hf://timm/resnet50.a1_in1k"
        )
    what = f"--transfer.weights={reference}"
    huggingface_hub = extras.need("huggingface_hub", what, "hub")
    extras.need("pooch", what, "hub")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # our errors say what went wrong
    repository, revision = match.groups()
    address = f"https://huggingface.co/{repository}"
    offline, found = _is_offline(), []
    for name in (timm_config.NAME, timm_config.WEIGHTS):
        try:
            path = huggingface_hub.hf_hub_download(
                repository, name, revision=revision, etag_timeout=5, local_files_only=offline
            )
        except Exception as error:  # the hub's, those of the library below it, the disk's
            raise RunError(
                f"{name} of {reference} could not be had: {_reason(error)}; or put {address}'s "
                f"{timm_config.NAME} and {timm_config.WEIGHTS} into a folder, and give "
                "--transfer.weights=FOLDER"
            ) from error
        found.append(Path(path))
    # The cache names a large file after its sha256.
    path = found[-1]
    digest = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", digest) and files.sha256(path) != digest:
        raise RunError(f"{path} is damaged: its sha256 is not {digest}; delete it and start again")
    return path


def _is_offline() -> bool:
    """Returns whether the hub cannot be reached, which its library would try for half a minute."""
    from cnn_jax.pretrained import download  # imports pooch and requests

    constants: Any = importlib.import_module("huggingface_hub.constants")
    if constants.HF_HUB_OFFLINE:
        return True
    try:
        download.preflight(constants.ENDPOINT)
    except OSError:
        return True
    return False


def _reason(error: BaseException) -> str:
    """Returns what went wrong in a few words."""
    kinds = {
        "GatedRepoError": "its owner asks for an agreement first; log in with 'hf auth login'",
        "RepositoryNotFoundError": "there is no such repository, or it is private",
        "RevisionNotFoundError": "there is no such revision",
        "EntryNotFoundError": "the repository has no such file",
        "RemoteEntryNotFoundError": "the repository has no such file",
        "LocalEntryNotFoundError": "it is not in the cache, and the hub cannot be reached",
        "OfflineModeIsEnabled": "it is not in the cache, and HF_HUB_OFFLINE forbids to download",
    }
    if (kind := type(error).__name__) in kinds:
        return kinds[kind]
    reason = " ".join(str(error).split()) or kind
    return reason if len(reason) <= 160 else f"{reason[:157]}..."
