"""A file is there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from bertjax.files import npz, write_bytes, write_text


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one")
    write_bytes(tmp_path / "a", "zwei ü".encode())
    assert (tmp_path / "a").read_text(encoding="utf-8") == "zwei ü"
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("call", ["fdopen", "replace"])
def test_a_full_disk_leaves_the_old_file_and_is_told_of_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_text(tmp_path / "a", "one")

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_text(tmp_path / "a", "two")
    assert raised.value.filename == str(tmp_path / "a") and raised.value.errno == errno.ENOSPC
    assert (tmp_path / "a").read_text() == "one" and [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("compress", [True, False])
def test_arrays_come_back_without_pickle(tmp_path: Path, compress: bool) -> None:
    write_bytes(tmp_path / "a.npz", npz(compress, x=np.arange(3), y=np.ones((2, 0), np.float32)))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["x"], [0, 1, 2])
        assert stored["y"].shape == (2, 0)
    with pytest.raises(ValueError, match="allow_pickle"):
        npz(compress, x=np.array([{}], object))
