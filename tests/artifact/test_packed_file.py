"""The file of a packed model: it comes back whole, any change of it is refused, and it is written at once."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.artifact.packed import file as packed_file
from bertjax.artifact.packed.file import read_packed, write_packed
from bertjax.artifact.packed.pack import Packed, pack
from bertjax.config import InputError, QuantizeConfig

KERNEL = "bert/encoder/layer/0/output/dense/kernel"
METADATA = {"label_names": ["ja", "nein", "vielleicht …"], "max_length": 128, "quantize": {"weight_bits": 8, "x": None},
            "rate": 0.1, "quote": '{"sha256":"' + "0" * 64 + '"}', "on": True}


@pytest.fixture(scope="module")
def packed() -> Packed:
    """A kernel with a mask, one with a coded stream, and a vector."""
    draw = np.random.default_rng(0)
    some = draw.random((96, 40)) < 0.3
    tree = {"bert": {"encoder": {"layer": {"0": {"output": {"dense": {
        "kernel": np.where(some, draw.normal(size=(96, 40)), 0).astype(np.float32),
        "bias": draw.normal(size=40).astype(np.float32)}}}}}}}
    coded = pack({**tree, "other": tree["bert"]["encoder"]["layer"]["0"]["output"]["dense"]["kernel"].repeat(9, 0)},
                 QuantizeConfig(), entropy=True)
    return Packed({**pack(tree, QuantizeConfig()).parameters, "other": coded.parameters["other"]})


@pytest.fixture
def file(packed: Packed, tmp_path: Path) -> Path:
    """The file of `packed` with `METADATA`."""
    write_packed(tmp_path / "model.packed", packed, METADATA)
    return tmp_path / "model.packed"


def signed(content: bytes) -> bytes:
    """The content with the checksum that fits it."""
    at = content.index(b'sha256\\":\\"') + 11
    zeroed = content[:at] + b"0" * 64 + content[at + 64:]
    return content[:at] + hashlib.sha256(zeroed).hexdigest().encode() + content[at + 64:]


def test_what_is_written_reads_back_equal(packed: Packed, file: Path) -> None:
    found, metadata = read_packed(file)
    assert metadata == METADATA
    assert found.parameters.keys() == packed.parameters.keys()
    for path, (scheme, tensors) in packed.parameters.items():
        assert found.parameters[path].scheme == scheme
        assert {role: (tensor.dtype, tensor.tobytes()) for role, tensor in found.parameters[path].tensors.items()} == {
            role: (tensor.dtype, tensor.tobytes()) for role, tensor in tensors.items()}
    assert {stored.scheme.name for stored in packed.parameters.values()} == {
        "mask + int8", "mask + float32, coded", "float32"}


def test_it_is_a_safetensors_file_and_the_checksum_is_as_documented(file: Path) -> None:
    assert f"{KERNEL}:mask" in load_file(file)
    content = file.read_bytes()
    assert signed(content) == content


def test_equal_input_makes_equal_bytes(packed: Packed, file: Path, tmp_path: Path) -> None:
    write_packed(tmp_path / "again", packed, METADATA)
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_others_read_it_as_any_new_file(file: Path) -> None:
    (other := file.with_name("other")).touch()
    assert file.stat().st_mode == other.stat().st_mode


def test_every_changed_bit_is_refused(file: Path) -> None:
    content = file.read_bytes()
    draw = np.random.default_rng(0)
    head = 8 * (packed_file._DIGITS_AT + 64)
    places = [*range(0, head, 7), *draw.integers(0, 8 * len(content), 400).tolist()]
    for place in places:
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(InputError, match="damaged"):
            read_packed(file)
    file.write_bytes(content)
    read_packed(file)


def test_every_truncation_and_addition_is_refused(file: Path) -> None:
    content = file.read_bytes()
    lengths = [0, 1, 7, 8, 9, *np.random.default_rng(1).integers(0, len(content), 300).tolist(), len(content) - 1]
    for length in lengths:
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match="damaged"):
            read_packed(file)
    for more in (b"\0", b" ", content):
        file.write_bytes(content + more)
        with pytest.raises(InputError, match="damaged"):
            read_packed(file)


@pytest.mark.parametrize(("old", "new", "said"), [
    (b'\\"version\\":1', b'\\"version\\":2', "is of version 2 .* reads version 1; upgrade bertjax"),
    (b'\\"values\\":\\"int\\"', b'\\"values\\":\\"fp4\\"', "values must be one of .*, got 'fp4': a newer .* upgrade"),
    (b'\\"places\\":\\"mask\\"', b'\\"places\\":\\"rows\\"', "places must be one of all, mask, groups, got 'rows'"),
    (b'\\"kept\\":', b'\\"kepf\\":', "manifest cannot be understood .TypeError"),
    (b'\\"parameters\\":', b'\\"parametres\\":', "manifest cannot be understood .KeyError"),
    (b'[\\"values\\"', b'[\\"valuez\\"', "manifest cannot be understood .KeyError"),
])
def test_what_this_version_does_not_know_is_said(file: Path, old: bytes, new: bytes, said: str) -> None:
    content = file.read_bytes()
    assert old in content
    file.write_bytes(signed(content.replace(old, new)[:8] + content[8:].replace(old, new)))
    with pytest.raises(InputError, match=said) as raised:
        read_packed(file)
    assert "\n" not in str(raised.value) and str(file) in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 5000, bytes(5000)])
def test_other_files_are_no_packed_models(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(InputError, match="no packed model of bertjax"):
        read_packed(tmp_path / "other")


def test_other_safetensors_folders_and_names_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(300, np.float32)}, tmp_path / "other", metadata={"format": "pt"})
    for name, said in (("other", "no packed model"), ("", "Is a directory"), ("nosuch", "No such file")):
        with pytest.raises(InputError, match=said):
            read_packed(tmp_path / name)


@pytest.mark.parametrize("metadata", [
    {"a": float("nan")}, {"a": {1, 2}}, {"a": (1, 2)}, {1: "a"}, {"a": np.float32(1)}])
def test_metadata_that_would_come_back_otherwise_are_refused(
    packed: Packed, tmp_path: Path, metadata: dict[Any, Any]
) -> None:
    with pytest.raises(InputError, match="metadata of a packed model must be a JSON object"):
        write_packed(tmp_path / "model", packed, metadata)
    assert list(tmp_path.iterdir()) == []


def failing(*arguments: Any, **named: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("owner", "name"), [(packed_file, "save_file"), (packed_file, "_digest"), (os, "replace")])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    packed: Packed, file: Path, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(InputError, match="cannot be written .No space left on device"):
            write_packed(file, packed, {})
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]
    write_packed(file, packed, {})
    assert read_packed(file)[1] == {} and list(file.parent.iterdir()) == [file]


def test_a_folder_that_is_missing_or_in_the_way_is_said(packed: Packed, tmp_path: Path) -> None:
    for target in (tmp_path / "no" / "model", tmp_path):
        with pytest.raises(InputError, match=re.escape(str(target)) + ": the packed model cannot be written"):
            write_packed(target, packed, {})
    assert list(tmp_path.iterdir()) == []
