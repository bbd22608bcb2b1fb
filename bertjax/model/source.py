"""Where a pretrained model's files are: a local folder, the hub's cache on this machine, or the hub itself.

A name that is a folder is that folder; anything else is a hub name. Files of the hub that were downloaded once are used
without asking the hub again, so a machine without a network can run what it ran before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import validate_repo_id

from bertjax.config import InputError, require

SAFETENSORS = "model.safetensors"
MSGPACK = "flax_model.msgpack"
PICKLE = "pytorch_model.bin"

Get = Callable[[str], Path | None]
"""A file by its name within the model, or None where the model has no such file."""


@dataclass(frozen=True)
class Weights:
    """The files that hold a model's weights."""

    files: tuple[Path, ...]
    """One file, or all shards."""
    format: Literal["safetensors", "msgpack", "pickle"]
    note: str | None = None
    """What the user should know about where they come from."""


def find_file(name_or_dir: str | os.PathLike[str], filename: str) -> Path:
    """The path of one file of a model, downloaded if need be. Raises `InputError` when there is no such file or model.
    """
    for get in _getters(str(name_or_dir)):
        path = get(filename)
        if path is not None:
            return path
    raise InputError(f"{name_or_dir}: a model needs {filename}, and there is none")


def find_weights(name_or_dir: str | os.PathLike[str]) -> Weights:
    """The weights of a model: safetensors (whole or in shards), Flax msgpack, or the safetensors of a pull request.

    Raises:
        InputError: No such model, the hub cannot be reached, or no weights that load without running code. A lone
            pickle is refused: loading one can run any code its author put in.
    """
    name = str(name_or_dir)
    for get in _getters(name):
        found = _whole_or_shards(get, SAFETENSORS, "safetensors")
        if found is None and (path := get(MSGPACK)) is not None:
            found = Weights((path,), "msgpack")
        if found is not None:
            return found
    if not Path(name).expanduser().is_dir() and (found := _pull_request(name)) is not None:
        return found
    for get in _getters(name, download=False):
        if get(PICKLE) is not None or get(f"{PICKLE}.index.json") is not None:
            raise InputError(f"{name}: the only weights are {PICKLE}, a pickle, which can run code when loaded; "
                             f"convert them once: `bertjax convert {name} FOLDER` (extra `torch`), then use FOLDER")
    raise InputError(f"{name}: a model needs weights in {SAFETENSORS} or {MSGPACK}, and there are none")


def find_pickle(name_or_dir: str | os.PathLike[str]) -> Weights:
    """The pickled PyTorch weights of a model, for `bertjax convert` alone. Raises `InputError` when there are none."""
    for get in _getters(str(name_or_dir)):
        found = _whole_or_shards(get, PICKLE, "pickle")
        if found is not None:
            return found
    raise InputError(f"{name_or_dir}: nothing to convert, there is no {PICKLE}")


def _whole_or_shards(get: Get, filename: str, kind: Literal["safetensors", "pickle"]) -> Weights | None:
    path = get(filename)
    if path is not None:
        return Weights((path,), kind)
    index = get(f"{filename}.index.json")
    if index is None:
        return None
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: not an index of weight shards ({type(error).__name__}: {error})") from None
    shards = []
    for name in names:
        require(isinstance(name, str) and Path(name).name == name,
                f"{index}: a shard must be a file name in the same folder, got {name!r}")
        shard = get(name)
        if shard is None:
            raise InputError(f"{index}: the shard {name} is missing")
        shards.append(shard)
    require(len(shards) > 0, f"{index}: the index names no shards")
    return Weights(tuple(shards), kind)


def _getters(name: str, download: bool = True) -> Iterator[Get]:
    """The places to look at, in order: the folder; or this machine's cache of the hub, then the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        yield lambda filename: path if (path := folder / filename).is_file() else None
        return
    require(not folder.exists(), f"{name}: a model must be a folder or a hub name, and this is a file")
    _check_hub_name(name)
    yield lambda filename: _cached(name, filename)
    if download:
        yield lambda filename: _download(name, filename)
    else:
        yield lambda filename: Path(filename) if filename in _hub_files(name) else None


def _check_hub_name(name: str) -> None:
    looks_like_path = name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name
    require(not looks_like_path, f"{name}: there is no such folder")
    try:
        validate_repo_id(name)
    except errors.HFValidationError:
        raise InputError(f"{name!r} is neither a folder nor a hub name (such as google/bert_uncased_L-2_H-128_A-2)"
                         ) from None


def _cached(repo: str, filename: str, revision: str | None = None) -> Path | None:
    path = huggingface_hub.try_to_load_from_cache(repo, filename, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _download(repo: str, filename: str, revision: str | None = None) -> Path | None:
    if filename not in _hub_files(repo, revision):
        return None
    return Path(_ask_hub(repo, huggingface_hub.hf_hub_download, repo, filename, revision=revision))


@lru_cache(maxsize=64)
def _hub_files(repo: str, revision: str | None = None) -> frozenset[str]:
    return frozenset(_ask_hub(repo, huggingface_hub.HfApi().list_repo_files, repo, revision=revision))


def _pull_request(repo: str) -> Weights | None:
    """Safetensors of a pull request: one used before, else an open one, those of the hub's conversion bot first."""
    folder = constants.HF_HUB_CACHE
    cached = Path(folder, f"models--{repo.replace('/', '--')}", "refs", "refs", "pr")
    for ref in sorted(cached.glob("*")):
        revision = f"refs/pr/{ref.name}"
        if (path := _cached(repo, SAFETENSORS, revision)) is not None:
            return Weights((path,), "safetensors", f"weights of {repo} are those of its pull request {revision}")
    for request in _open_requests(repo):
        if (path := _download(repo, SAFETENSORS, request.git_reference)) is not None:
            return Weights((path,), "safetensors", f"weights of {repo} are those of its pull request "
                                                   f"{request.git_reference} by {request.author}")
    return None


def _open_requests(repo: str) -> list[Any]:
    def ask() -> list[Any]:
        return list(huggingface_hub.HfApi().get_repo_discussions(
            repo, discussion_type="pull_request", discussion_status="open"))

    return sorted(_ask_hub(repo, ask), key=lambda request: (request.author != "SFconvertbot", request.num))


def _ask_hub(repo: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls the hub and turns whatever goes wrong there into one line."""
    try:
        return call(*args, **kwargs)
    except errors.GatedRepoError:
        raise InputError(f"{repo}: the hub gives this model only to accepted users; log in with `hf auth login`"
                         ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{repo}: there is no such folder, and the hub has no such model (or it is private)") from None
    except Exception as error:  # the hub's client lets errors of its HTTP library through, which changes by version
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        raise InputError(f"{repo}: there is no such folder, and the hub cannot be reached "
                         f"({type(error).__name__}: {reason}); give a local folder, or connect to the network"
                         ) from None
