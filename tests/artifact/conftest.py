"""A small model in a folder, and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertjax.artifact.load import Model, load
from tests.small_model import make_model_dir


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_model_dir`."""
    return make_model_dir(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    """The model of `folder`."""
    return load(folder)
