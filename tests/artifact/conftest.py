"""A small model in a folder, loaded, and quantized. Tests share what was compiled for it, and change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bertjax.artifact.load import Model, load
from bertjax.config import QuantizeConfig
from tests.small_model import make_model_dir


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_model_dir`."""
    return make_model_dir(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def model(folder: Path) -> Model:
    """The model of `folder`."""
    return load(folder)


@pytest.fixture(scope="session")
def quantized(model: Model) -> Model:
    """The model of `folder` in 8 bits, with names for its classes."""
    return replace(model, quantize=QuantizeConfig(), label_names=("a", "b", "c"))
