"""The page as a file: complete, safe, offline."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bertjax.config import InputError
from bertjax.report.page import read_results, trial_rows, vega_bundle, write_report
from bertjax.report.provenance import command
from bertjax.report.published import figure_one_results
from bertjax.report.tables import clean
from bertjax.study import METHODS
from bertjax.sweep.results import RESULT_COLUMNS


@pytest.fixture(scope="module")
def page(run_dir: Path) -> str:
    return write_report(run_dir).read_text(encoding="utf-8")


def test_writes_page_plots_and_tables(run_dir: Path, page: str) -> None:
    for name in ("score_against_size", "learning_curves"):
        image = (run_dir / "report" / f"{name}.png").read_bytes()
        assert image.startswith(b"\x89PNG") and int.from_bytes(image[16:20]) > 1600, "twice the width of the chart"
    for name in ("table1", "multiplicativity", "shapley", "paired", "learning_rates"):
        assert (run_dir / "report" / f"{name}.csv").stat().st_size > 0
    subsets = pd.read_csv(run_dir / "report" / "subsets.csv")
    assert len(subsets) == 8 * 3 and set(subsets["methods"]) == set(METHODS)
    assert len(pd.read_csv(run_dir / "report" / "answers.csv")) == 3
    assert not list(run_dir.glob("**/*.tmp")) and not list(run_dir.glob("**/.*"))
    assert page.rstrip().endswith("</html>")


def test_shows_every_trial_and_the_lost_one(run_dir: Path, page: str) -> None:
    results = read_results(run_dir / "results.csv")
    visible = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert all(trial_id in visible for trial_id in results["trial_id"])
    lost = results.loc[results["status"] == "diverged", "trial_id"].item()
    assert f"<code>{lost}</code>" in visible and "2 of 3 seeds" in visible
    assert "bertjax sweep eight-subsets" in visible and "size: paper convention a" in visible.lower()


def test_every_size_of_a_trial_has_its_convention_in_its_title(row) -> None:
    sizes = {"size_bytes_fp32": 4_000_000, "size_bytes_paper": 1_000_000, "size_bytes_disk": 1_234_567,
             "size_bytes_entropy": 1_100_000}
    shown = trial_rows(clean(pd.DataFrame([row("none", **sizes), row("Q", score=None)])))
    at = shown["columns"].index("fp32 MB")
    assert shown["columns"][at:at + 4] == ["fp32 MB", "size MB (paper)", "file MB", "entropy MB"]
    assert shown["rows"][0][at:at + 4] == ["4.00", "1.00", "1.23", "1.10"]
    assert shown["rows"][1][at + 2:at + 4] == ["", ""] and all(shown["numeric"][at:at + 4])
    former = trial_rows(clean(pd.DataFrame([row("none")])))  # a table without them has no blank columns
    assert "size MB (paper)" in former["columns"] and not {"file MB", "entropy MB"} & set(former["columns"])


def test_loads_nothing_from_outside(page: str) -> None:
    assert "default-src 'none'" in page
    bare = page.replace(str(vega_bundle()), "").replace("https://vega.github.io/schema/vega-lite/", "")
    assert len(bare) < 250_000 and "http:" not in bare and "https:" not in bare
    assert not re.search(r"@import|url\(|<link|<img|<iframe", bare)
    assert page.count("</script") == 3, "nothing inside the scripts ends them early"


def test_making_it_again_changes_nothing(run_dir: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertjax.report.page.png", lambda *_: b"")
    assert write_report(run_dir).read_text(encoding="utf-8") == page


def test_only_results_and_no_score(tmp_path: Path, row) -> None:
    pd.DataFrame([row("none", "<script>alert(1)</script>", score=None, status="failed")]).to_csv(
        tmp_path / "results.csv", index=False)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No trial has a score yet (1 failed)." in page and "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page and not list((tmp_path / "report").glob("*.png"))


def test_a_page_says_how_far_the_models_are_above_always_the_same_answer(tmp_path: Path, row) -> None:
    trials = [row("none", score=70.0), row("Q", score=67.5)]
    pd.DataFrame(trials).to_csv(tmp_path / "results.csv", index=False)
    folder = tmp_path / "trials" / trials[0]["trial_id"]
    folder.mkdir(parents=True)
    labels = np.arange(10) % 2  # half of them 1: accuracy 50, F1 66.7
    np.savez(folder / "predictions.npz", logits=np.eye(2, dtype=np.float32)[labels], labels=labels)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "On mrpc, always giving the same answer scores 58.3" not in text and "always the same answer" not in text
    trials[0]["score"], trials[1]["score"] = 60.0, 58.0
    pd.DataFrame(trials).to_csv(tmp_path / "results.csv", index=False)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "On mrpc, always giving the same answer scores 58.3, and the uncompressed model 60.0" in text
    assert "always the same answer 58.3" in text and "no uncompressed model has learned this task" in text
    assert "1 of 2 trials have no folder in trials/" in text and "not learnable here" in text


def test_a_hostile_name_cannot_leave_the_chart(tmp_path: Path, row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertjax.report.page.png", lambda *_: b"")
    bad = "</script><b>"
    pd.DataFrame([row("none", bad, trial_id=bad), row("Q", bad, trial_id=f"{bad}2", size=bad)]).to_csv(
        tmp_path / "results.csv", index=False)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("</script") == 3 and "<b>" not in page.replace(str(vega_bundle()), "")


@pytest.mark.parametrize("content", ["", ",".join(RESULT_COLUMNS) + "\n", "a,b\n1,2\n", "a\n1,2\n1,2,3\n"])
def test_unusable_results_name_the_file_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.csv").write_text(content)
    with pytest.raises(InputError, match=r"results\.csv") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "report.html").exists()


def test_missing_results_and_broken_study(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(InputError, match="run `bertjax sweep`"):
        write_report(tmp_path)
    shutil.copy(run_dir / "results.csv", tmp_path)
    (tmp_path / "study.json").write_text("{\n oops")
    with pytest.raises(InputError, match=r"study\.json, line 2"):
        write_report(tmp_path)


def test_trial_ids_stay_text_and_none_is_no_blank(tmp_path: Path, row) -> None:
    pd.DataFrame([row("none", trial_id="12e456789012")]).to_csv(tmp_path / "results.csv", index=False)
    (line,) = read_results(tmp_path / "results.csv").to_dict("records")
    assert (line["trial_id"], line["methods"]) == ("12e456789012", "none")


def test_command_repeats_the_overrides(run_dir: Path) -> None:
    study = json.loads((run_dir / "study.json").read_text())
    study["data"]["data_dir"] = "my data"
    words = command(study, run_dir).replace(" \\\n ", "")
    assert "--tasks mrpc gloss-pair" in words and "--seeds 0 1 2" in words and "--data-dir 'my data'" in words
    assert "--sizes" not in words and "None" not in words


def test_a_study_of_berts_sizes_shows_the_published_numbers(tmp_path: Path) -> None:
    ours = figure_one_results()
    ours[ours["size"].isin(["tiny", "mini"])].assign(task="mrpc", model="mine").to_csv(
        tmp_path / "results.csv", index=False)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Beside the published study" in page and "printed 18.1×" in page
    assert (tmp_path / "report" / "published.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "report" / "published_table1.csv")) == 42
    specs = json.loads(re.search(r"const specs = (.*);\n", page).group(1))
    assert len(specs) == page.count('class="chart"') == 3
