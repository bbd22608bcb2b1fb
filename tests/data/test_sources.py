"""Every source gives the same rows for the same content, and bad input an error with file and line."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.resources
import sys
import types

import numpy as np
import pandas
import pytest

from bertjax.config import DataConfig, InputError
from bertjax.data.glue import TSV_LAYOUTS
from bertjax.data.sources import load_task, load_texts
from bertjax.data.tasks import GLUE_TASKS, SAMPLE_TASKS, find_task

# The header lines of GLUE's original files (CoLA has none).
TSV_HEADERS = {
    "cola": "source label mark sentence",
    "sst2": "sentence label",
    "mrpc": "Quality|#1 ID|#2 ID|#1 String|#2 String",
    "stsb": "index genre filename year old_index source1 source2 sentence1 sentence2 score",
    "qqp": "id qid1 qid2 question1 question2 is_duplicate",
    "mnli": "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
            "sentence1 sentence2 label1 gold_label",
    "qnli": "index question sentence label",
    "rte": "index sentence1 sentence2 label",
}
ROWS = {"cola": (8551, 1043), "sst2": (67349, 872), "mrpc": (3668, 408), "stsb": (5749, 1500), "rte": (2490, 277)}


def made_rows(task, split):
    """Three rows of texts with quotes and their labels, as (texts, label)."""
    labels = [0.5, 5.0, 2.25] if task.regression else [0, 1, len(task.label_names) - 1]
    return [(tuple(f'{split} "{column} {row}' for column in task.text_columns), label)
            for row, label in enumerate(labels)]


def write_tsv(task, folder):
    layout = TSV_LAYOUTS[task.name]
    header = TSV_HEADERS[task.name]
    names = header.split("|" if "|" in header else " ")
    (folder / task.folder).mkdir(parents=True)
    for split, name in zip(("train", *task.dev_splits), ("train.tsv", *layout.dev_files), strict=True):
        lines = [] if layout.header else ["\t".join(names)]
        for texts, label in made_rows(task, split):
            written = label if task.regression or layout.digits else task.label_names[label]
            fields = dict.fromkeys(names, "x") | dict(zip(layout.text_columns, texts, strict=True))
            lines.append("\t".join((fields | {layout.label_column: str(written)}).values()))
        (folder / task.folder / name).write_text("\n".join(lines) + "\n")


def write_parquet(task, folder):
    (folder / task.name).mkdir(parents=True)
    for split in ("train", *task.dev_splits):
        frame = pandas.DataFrame([(*texts, label) for texts, label in made_rows(task, split)],
                                 columns=[*task.text_columns, "label"])
        frame[:2].to_parquet(folder / task.name / f"{split}-00000-of-00002.parquet")
        frame[2:].to_parquet(folder / task.name / f"{split}-00001-of-00002.parquet")


def pretend_hub(task, monkeypatch):
    class Split:
        def __init__(self, split):
            self.frame = pandas.DataFrame([(*texts, label) for texts, label in made_rows(task, split)],
                                          columns=[*task.text_columns, "label"])
            self.column_names, self.num_rows = list(self.frame), len(self.frame)

        def __getitem__(self, name):
            return self.frame[name].tolist()

    splits = {split: Split(split) for split in ("train", *task.dev_splits)}
    module = types.SimpleNamespace(load_dataset=lambda name, config: splits if config == task.name else None)
    monkeypatch.setitem(sys.modules, "datasets", module)


def assert_holds(examples, rows):
    assert list(zip(*[t for t in (examples.first, examples.second) if t is not None], strict=True)) == [
        texts for texts, _ in rows]
    np.testing.assert_array_equal(examples.labels, [label for _, label in rows])
    assert examples.labels.dtype == (np.float32 if isinstance(rows[0][1], float) else np.int32)


@pytest.mark.parametrize("source", ["tsv", "parquet", "hub"])
@pytest.mark.parametrize("task", GLUE_TASKS, ids=lambda task: task.name)
def test_every_source_of_a_glue_task_gives_the_same_rows(task, source, tmp_path, monkeypatch):
    if source == "hub":
        pretend_hub(task, monkeypatch)
    else:
        {"tsv": write_tsv, "parquet": write_parquet}[source](task, tmp_path)
    loaded = load_task(task.name, DataConfig(data_dir=None if source == "hub" else str(tmp_path)))
    assert loaded.task is task
    assert tuple(loaded.dev) == task.dev_splits
    assert_holds(loaded.train, made_rows(task, "train"))
    for split in task.dev_splits:
        assert_holds(loaded.dev[split], made_rows(task, split))


def test_an_unreachable_hub_names_the_ways_out(monkeypatch):
    def load_dataset(name, config):
        raise ConnectionError("Couldn't reach the hub\nsecond line")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(InputError, match="Couldn't reach the hub.*--data-dir.*gloss-class") as raised:
        load_task("sst2", DataConfig())
    assert "\n" not in str(raised.value)


def test_a_folder_without_the_task_names_both_layouts(tmp_path):
    with pytest.raises(InputError, match=r"SST-2/train\.tsv .* sst2/train-\*\.parquet"):
        load_task("sst2", DataConfig(data_dir=str(tmp_path)))


@pytest.mark.parametrize(("task", "line", "message"), [
    ("sst2", "a fine film", r"train\.tsv line 5: too few fields"),
    ("sst2", "a fine film\t2", r"train\.tsv line 5: label must be one of 0, 1; got '2'"),
    ("rte", "9\ta\tb\tmaybe", r"train\.tsv line 5: label must be one of entailment, not_entailment; got 'maybe'"),
    ("stsb", "\t".join(["x"] * 10), r"train\.tsv line 5: score must be a number, got 'x'"),
    ("stsb", "\t".join(["x"] * 9 + ["nan"]), r"train\.tsv line 5: score must be a number, got 'nan'"),
    ("cola", "x\t1", r"train\.tsv line 4: too few fields"),
])
def test_a_bad_row_is_named_by_file_and_line(task, line, message, tmp_path):
    write_tsv(find_task(task), tmp_path)
    with (tmp_path / find_task(task).folder / "train.tsv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=message):
        load_task(task, DataConfig(data_dir=str(tmp_path)))


def test_extra_fields_at_the_end_of_a_row_are_ignored_in_glues_files(tmp_path):
    task = find_task("sst2")
    write_tsv(task, tmp_path)
    path = tmp_path / "SST-2" / "train.tsv"
    path.write_text(path.read_text().replace("\t1\n", "\t1\tremark\n"))
    assert "remark" in path.read_text()
    assert_holds(load_task("sst2", DataConfig(data_dir=str(tmp_path))).train, made_rows(task, "train"))


def test_qqp_drops_its_few_broken_rows_but_not_a_broken_file(tmp_path):
    task = find_task("qqp")
    write_tsv(task, tmp_path)
    path = tmp_path / "QQP" / "train.tsv"
    content = path.read_text()
    path.write_text(content + '1\t2\t3\t"Who was\n"\tWho was he?\t0\n')
    assert_holds(load_task("qqp", DataConfig(data_dir=str(tmp_path))).train, made_rows(task, "train"))
    path.write_text(content + "broken\n" * 9)
    with pytest.raises(InputError, match="line 13: too few fields"):
        load_task("qqp", DataConfig(data_dir=str(tmp_path)))


def test_fewer_rows_are_a_fixed_ordered_subset():
    everything = load_task("gloss-class", DataConfig()).train
    position = {text: row for row, text in enumerate(everything.first)}
    few, more = (load_task("gloss-class", DataConfig(max_train_examples=count)).train for count in (100, 400))
    rows = [position[text] for text in few.first]
    assert len(few) == 100 and len(more) == 400
    assert rows == sorted(set(rows)) and rows[-1] > 3500  # drawn from everywhere
    assert set(few.first) < set(more.first)
    np.testing.assert_array_equal(few.labels, everything.labels[rows])
    assert len(np.unique(few.labels)) == 10
    assert len(load_task("gloss-class", DataConfig(max_train_examples=10**6)).train) == len(everything)


# ---- bundled samples

@pytest.mark.parametrize("task", SAMPLE_TASKS, ids=lambda task: task.name)
def test_a_sample_is_large_balanced_and_shares_no_gloss_between_its_splits(task):
    loaded = load_task(task.name, DataConfig(data_dir="ignored for bundled tasks"))
    train, dev = loaded.train, loaded.dev["validation"]
    assert (len(train), len(dev)) == (4000, 1000)
    if task.regression:
        assert train.labels.min() >= 0 and train.labels.max() <= 5 and train.labels.std() > 1
    else:
        for examples in (train, dev):
            assert set(np.bincount(examples.labels)) == {len(examples) // task.num_labels}
    assert task.name != "gloss-class" or task.num_labels >= 8


def test_no_gloss_of_any_task_stands_on_both_sides():
    sides = {"train": set(), "validation": set()}
    for task in SAMPLE_TASKS:
        loaded = load_task(task.name, DataConfig())
        for side, examples in (("train", loaded.train), ("validation", loaded.dev["validation"])):
            glosses = [text.lower() for text in examples.first + (examples.second or [])]
            assert len(set(glosses)) == len(glosses)
            sides[side] |= set(glosses)
    assert not sides["train"] & sides["validation"]


def test_the_samples_are_small_without_time_stamps_and_carry_the_licence():
    files = list((importlib.resources.files("bertjax.data") / "samples").iterdir())
    packed = [file for file in files if file.name.endswith(".gz")]
    assert len(packed) == 6
    assert sum(len(file.read_bytes()) for file in files if file.is_file()) < 2_000_000
    for file in packed:
        raw = file.read_bytes()
        assert raw[4:8] == bytes(4) and gzip.decompress(raw)
    (notice,) = (file for file in files if file.name.startswith("LICENSE"))
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice.read_text()


# ---- own files

FRAME = pandas.DataFrame({"id": [1, 2, 3, 4], "claim": ["a b", 'c "d', "e", "f"], "proof": ["g", "h", "i", "j"],
                          "verdict": ["yes", "no", "unsure", "no"], "score": [1.5, -2.0, 0.25, 1.0]})


def write_own(frame, path):
    {".csv": lambda: frame.to_csv(path, index=False), ".tsv": lambda: frame.to_csv(path, index=False, sep="\t",
                                                                                  quoting=3, quotechar="\0"),
     ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
     ".parquet": lambda: frame.to_parquet(path)}[path.suffix]()
    return str(path)


def own_config(tmp_path, suffix=".csv", train=FRAME, dev=FRAME, **settings):
    config = DataConfig(train_file=write_own(train, tmp_path / f"train{suffix}"),
                        dev_file=write_own(dev, tmp_path / f"dev{suffix}"),
                        text_columns=("claim", "proof"), label_column="verdict")
    return dataclasses.replace(config, **settings)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_own_files_of_every_format_give_the_same_task(suffix, tmp_path):
    loaded = load_task("claims", own_config(tmp_path, suffix))
    assert loaded.task.name == "claims"
    assert loaded.task.label_names == ("no", "unsure", "yes")
    assert "accuracy" in loaded.task.metrics
    assert (loaded.train.first, loaded.train.second) == (FRAME["claim"].tolist(), FRAME["proof"].tolist())
    np.testing.assert_array_equal(loaded.dev["validation"].labels, [2, 0, 1, 0])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_own_regression(suffix, tmp_path):
    loaded = load_task("own", own_config(tmp_path, suffix, label_column="score", regression=True))
    assert loaded.task.regression and loaded.task.num_labels == 1
    np.testing.assert_array_equal(loaded.train.labels, FRAME["score"].to_numpy(np.float32))


def test_own_data_does_not_take_over_a_known_name(tmp_path):
    assert load_task("cola", own_config(tmp_path)).task.name == "own-train"


def test_spaces_around_a_label_are_no_part_of_it(tmp_path):
    loaded = load_task("own", own_config(tmp_path, dev=FRAME.assign(verdict=[" yes", "no ", "unsure", "no"])))
    np.testing.assert_array_equal(loaded.dev["validation"].labels, [2, 0, 1, 0])


@pytest.mark.parametrize(("settings", "message"), [
    ({"dev": FRAME.assign(verdict="maybe")}, r"dev\.csv line 2: verdict must be one of no, unsure, yes; got 'maybe'"),
    ({"train": FRAME.assign(verdict="no")}, "at least two classes in verdict; got only no"),
    ({"train": FRAME.assign(verdict=[None, "a", "b", "c"])}, r"train\.csv line 2: verdict must be a class name"),
    ({"train": FRAME.assign(verdict=[None, "a", "b", "c"]), "suffix": ".jsonl"}, r"train\.jsonl line 1: verdict must"),
    ({"train": FRAME[:0]}, r"train\.csv has no rows"),
    ({"dev": FRAME[:0]}, r"dev\.csv has no rows"),
    ({"text_columns": ("claim", "prof")}, r"missing prof, it has id, claim, proof, verdict, score"),
    ({"label_column": "lab"}, r"missing lab, it has"),
    ({"regression": True}, r"train\.csv line 2: verdict must be a number, got 'yes'"),
    ({"train": FRAME.assign(claim=[1, 2, 3, 4]), "suffix": ".jsonl"}, r"line 1: claim must be text, got 1"),
    ({"dev": FRAME.drop(columns="proof")}, r"dev\.csv must have .* missing proof"),
])
def test_bad_own_files(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_task("own", own_config(tmp_path, **settings))


# ---- texts to predict

def test_texts_to_predict_from_lines_and_tables(tmp_path):
    lines = tmp_path / "texts.txt"
    lines.write_text('one "x\ntwo\n')
    assert load_texts(lines, ("text",)) == ['one "x', "two"]
    lines.write_text("a\tb\nc\td\n")
    assert load_texts(lines, ("p", "q")) == [("a", "b"), ("c", "d")]
    lines.write_text("a\tb\nc\n")
    with pytest.raises(InputError, match="line 2: must be two texts separated by a tab; got 1"):
        load_texts(lines, ("p", "q"))
    write_own(FRAME, tmp_path / "x.parquet")
    assert load_texts(tmp_path / "x.parquet", ("claim",)) == FRAME["claim"].tolist()
    assert load_texts(tmp_path / "x.parquet", ("claim", "proof"))[1] == ('c "d', "h")


# ---- real data

@pytest.mark.realdata
@pytest.mark.parametrize("name", ROWS)
def test_real_glue_has_its_row_counts(name, data_dir):
    loaded = load_task(name, DataConfig(data_dir=str(data_dir / "glue")))
    assert (len(loaded.train), len(loaded.dev["validation"])) == ROWS[name]
