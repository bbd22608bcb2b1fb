"""A task of one's own and a small BERT, for whole studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bertjax.config import DataConfig, PruneConfig, TrainConfig
from bertjax.study import StudyConfig
from tests.small_model import WORDS, make_model_dir


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_model_dir`."""
    return make_model_dir(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """JSONL files of 48 training and 24 dev rows: which of three colours a text names."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(5)
    for name, rows in (("train", 48), ("dev", 24)):
        texts = [" ".join([WORDS[draw.integers(3)], *draw.choice(WORDS[3:], draw.integers(1, 6))]) for _ in range(rows)]
        lines = [json.dumps({"text": text, "label": text.split()[0]}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "train.jsonl", folder / "dev.jsonl"


@pytest.fixture(scope="session")
def study(model_dir: Path, files: tuple[Path, Path]) -> StudyConfig:
    """The eight subsets of the model's first layer."""
    return StudyConfig(
        "colours", model=str(model_dir), layers=(1,), tasks=("colours",), learning_rates=(1e-2,),
        data=DataConfig(train_file=str(files[0]), dev_file=str(files[1]), max_length=12, max_buckets=1),
        train=TrainConfig(epochs=6, batch_size=8), prune=PruneConfig(mask_every=2),
    )
