"""Clouds for the tests of gcp/."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gcp.cloud import Cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path / "a cloud")
    yield made
    made.end()


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    made = Cloud(tmp_path_factory.mktemp("set-up") / "a cloud")
    made("create")
    made("setup")
    (made.fake / "calls.jsonl").unlink()
    return made


@pytest.fixture
def ready(set_up: Cloud, cloud: Cloud) -> Cloud:
    """A TPU that is created and set up."""
    shutil.copytree(set_up.fake / "hosts", cloud.fake / "hosts", symlinks=True)
    for name in ("queued", "node"):
        shutil.copy(set_up.fake / name, cloud.fake)
    return cloud
