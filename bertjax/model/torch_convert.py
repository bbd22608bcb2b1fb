"""`bertjax convert`: pickled PyTorch weights to safetensors, without running the code a pickle may hold."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.config import InputError, require
from bertjax.model.folder import MODEL_FILES, new_folder
from bertjax.model.source import SAFETENSORS, find_file, find_pickle

if TYPE_CHECKING:
    import torch

_BESIDE = sorted(MODEL_FILES - {SAFETENSORS, "config.json"})


def convert_bin(name_or_dir: str | os.PathLike[str], directory: str | os.PathLike[str]) -> list[str]:
    """Writes a model's `pytorch_model.bin` (whole or in shards) as `model.safetensors`, with config and tokenizer.

    Names, shapes and storage types stay as they are. The pickle is read by `torch.load(weights_only=True)`, which
    accepts tensors and nothing that runs code.

    Returns:
        The names of the files written.

    Raises:
        InputError: torch is not installed, no such file, or the file holds anything but tensors by name.
    """
    require(importlib.util.find_spec("torch") is not None,
            "convert needs PyTorch to read the old file; install it: pip install 'bertjax[torch]'")
    from safetensors.torch import save_file

    config = find_file(name_or_dir, "config.json")
    tensors: dict[str, torch.Tensor] = {}
    for file in find_pickle(name_or_dir).files:
        tensors |= _load(file)
    # Tied weights share memory in a pickle; safetensors wants each tensor on its own.
    own = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    with new_folder(directory) as folder:
        save_file(own, folder / SAFETENSORS, metadata={"format": "pt"})
        shutil.copyfile(config, folder / "config.json")
        for name in _BESIDE:
            _copy_if_there(name_or_dir, name, folder)
        written = sorted(path.name for path in folder.iterdir())
    return written


def _load(file: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in as many ways as there are broken files
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{file}: cannot be read as plain tensors ({type(error).__name__}: {reason}); "
                         "a file that needs more than that is not safe to load") from None
    require(isinstance(loaded, dict) and bool(loaded)
            and all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()),
            f"{file}: must hold tensors by name (a state dict) and nothing else")
    return dict(loaded)


def _copy_if_there(name_or_dir: str | os.PathLike[str], name: str, folder: Path) -> None:
    try:
        found = find_file(name_or_dir, name)
    except InputError:
        return
    shutil.copyfile(found, folder / name)
