"""A packed model in one file: a safetensors file whose only metadata is a manifest, and every bit of which is checked.

The manifest (JSON under the key "bertjax") begins with a SHA-256 of the whole file, computed with the checksum's own
64 digits as zeros; the format's version, the scheme of every parameter with the roles of its tensors (named
"path:role"), and metadata of the caller's follow. Where the checksum stands and how it is computed is the same in every
version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from bertjax.artifact.packed.pack import Packed
from bertjax.artifact.packed.schemes import Scheme
from bertjax.artifact.packed.storing import Stored
from bertjax.config import InputError, require
from bertjax.model.folder import new_file_mode

VERSION = 1
"""Of the format. A reader refuses a later one."""

_KEY = "bertjax"
_ZEROS = "0" * 64
_BEFORE = b'{"__metadata__":{"bertjax":"{\\"sha256\\":\\"'
"""How the header of every packed file begins, behind its 8 bytes of length; then come the checksum's digits."""

_DIGITS_AT = 8 + len(_BEFORE)


def write_packed(path: str | os.PathLike[str], packed: Packed, metadata: Mapping[str, Any]) -> None:
    """Writes a packed model at once or not at all; a file of that name is replaced. Equal input makes equal bytes.

    Args:
        path: The file; its folder must exist.
        packed: The model.
        metadata: Whatever else is to be known about it; kept as it is.

    Raises:
        InputError: The metadata are no JSON object, or the file cannot be written.
    """
    target = Path(path).expanduser().absolute()
    tensors, text = _content(packed, metadata)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            made = Path(folder) / target.name
            save_file(tensors, made, metadata={_KEY: text})
            made.chmod(new_file_mode(Path(folder)))  # safetensors makes it private to this user
            with made.open("r+b") as file:
                digest = _digest(file)
                file.seek(_DIGITS_AT)
                file.write(digest.encode())
            os.replace(made, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{target}: the packed model cannot be written ({reason})") from None


def read_packed(path: str | os.PathLike[str]) -> tuple[Packed, dict[str, Any]]:
    """Reads a packed model and the metadata it was written with.

    Raises:
        InputError: No such file, no packed model, one bit or more of it has changed, or it is of a later version.
    """
    source = Path(path).expanduser()
    try:
        with source.open("rb") as file:
            require(file.read(_DIGITS_AT)[8:] == _BEFORE,
                    f"{source}: no packed model of bertjax, or its beginning is damaged")
            found = file.read(64)
            require(found == _digest(file).encode(),
                    f"{source}: damaged: its content does not fit its checksum; copy or pack it again")
        with safe_open(source, framework="numpy") as opened:
            manifest = json.loads(opened.metadata()[_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror or error})") from None
    except (SafetensorError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: no packed model of bertjax ({error})") from None
    require(manifest.get("version") == VERSION,
            f"{source}: is of version {manifest.get('version')} of the packed format, and this bertjax reads version "
            f"{VERSION}; upgrade bertjax")
    try:
        parameters = {name: _stored(name, fields, tensors) for name, fields in manifest["parameters"].items()}
        return Packed(parameters), manifest["metadata"]
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{source}: its manifest cannot be understood ({type(error).__name__}: {error})") from None


def file_bytes(packed: Packed, metadata: Mapping[str, Any]) -> int:
    """Bytes of the file that `write_packed` would write; none is written. Raises `InputError` for the same metadata."""
    tensors, text = _content(packed, metadata)
    return len(save(tensors, metadata={_KEY: text}))  # the checksum's digits have their place already


def _content(packed: Packed, metadata: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], str]:
    """The tensors by their names in the file, and the manifest without its checksum."""
    tensors, parameters = {}, {}
    for name, (scheme, found) in packed.parameters.items():
        parameters[name] = _without_defaults(scheme) | {"tensors": list(found)}
        tensors |= {f"{name}:{role}": tensor for role, tensor in found.items()}
    manifest = {"sha256": _ZEROS, "version": VERSION, "parameters": parameters, "metadata": dict(metadata)}
    try:
        text = json.dumps(manifest, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the metadata of a packed model must be a JSON object ({error})") from None
    require(json.loads(text)["metadata"] == manifest["metadata"],
            "the metadata of a packed model must be a JSON object: names are strings, sequences lists")
    return tensors, text


def _digest(file: BinaryIO) -> str:
    """The checksum of a packed file: of all its bytes, with 64 zeros where the checksum stands."""
    file.seek(0)
    hashed = hashlib.sha256(file.read(_DIGITS_AT))
    file.read(len(_ZEROS))
    hashed.update(_ZEROS.encode())
    while block := file.read(2**20):
        hashed.update(block)
    return hashed.hexdigest()


def _without_defaults(scheme: Scheme) -> dict[str, Any]:
    return {field.name: value for field in dataclasses.fields(scheme)
            if (value := getattr(scheme, field.name)) != field.default}


def _stored(name: str, fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Stored:
    group = fields.get("group")
    scheme = Scheme(**{name: value for name, value in fields.items() if name != "tensors"}
                    | {"shape": tuple(fields["shape"]), "group": None if group is None else tuple(group)})
    return Stored(scheme, {role: tensors[f"{name}:{role}"] for role in fields["tensors"]})
