"""The published numbers: whole, in agreement with their own formula, and found where bertjax is installed."""

import fnmatch
import tomllib
from pathlib import Path

import pytest

from bertjax.artifact.size import BYTES_PER_MB
from bertjax.config import SIZES
from bertjax.report.published import figure_one, figure_one_results, published_file, published_table_one
from bertjax.study import METHODS
from bertjax.sweep import experiments

ROOT = Path(__file__).resolve().parents[2]


def test_every_point_and_cell_is_there() -> None:
    figure, table = figure_one(), published_table_one()
    assert len(figure) == 6 * 12 and not figure.duplicated(["size", "methods", "sparsity"]).any()
    assert tuple(figure["size"].unique()) == SIZES == tuple(table["name"].unique())
    assert set(figure["methods"]) == set(METHODS) == {*table["methods"], "none"} and len(table) == 42
    assert figure["approx"].sum() == 3
    # Spot checks against the paper.
    points = figure.set_index(["size", "methods", "sparsity"])["score"]
    assert (points["large", "none", 0], points["base", "KP", 0.6], points["tiny", "QKP", 0.4]) == (88.47, 88.05, 80.05)
    cells = table.set_index(["name", "methods"])["factor"]
    assert (cells["large", "QKP"], cells["medium", "Q"], cells["tiny", "P"]) == (18.1, 2.9, 0.7)


def test_sizes_agree_with_the_formula_within_the_reading_error() -> None:
    exact = figure_one_results()["size_bytes_paper"] / BYTES_PER_MB
    assert exact.to_numpy() == pytest.approx(figure_one()["size_mb"].to_numpy(), rel=0.02)


def test_the_files_say_where_they_come_from() -> None:
    for name in ("movva2022_figure1.csv", "movva2022_table1.csv"):
        first = published_file(name).read_text("utf-8").splitlines()[0]
        assert first.startswith("#") and "arXiv:2208.09684" in first


def test_a_wheel_carries_and_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "experiments" in wheel["only-include"] and wheel["sources"] == {"experiments": "bertjax/_experiments"}
    path = published_file("movva2022_table1.csv").relative_to(ROOT).as_posix()
    assert path == "experiments/published/movva2022_table1.csv"
    assert not any(fnmatch.fnmatch(path, pattern) or path.startswith(f"{pattern}/") for pattern in wheel["exclude"])
    monkeypatch.setattr(experiments, "__file__", str(tmp_path / "bertjax" / "sweep" / "experiments.py"))
    assert published_file("a.csv") == tmp_path / "bertjax" / "_experiments" / "published" / "a.csv"
