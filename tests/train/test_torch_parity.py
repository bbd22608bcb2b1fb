"""Training against Hugging Face's PyTorch, live: the same rows in the same order, dropout off, 20 steps.

Ours is the compiled program of a sweep with its schedule, table and used vocabulary. Theirs is what a user of PyTorch
writes: `BertForSequenceClassification` with its own loss, AdamW, clipping, and the schedule of `transformers`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from bertjax.compress.prune import KeepMasks, apply_masks
from bertjax.config import FLOAT, BertConfig, DataConfig, PruneConfig, TrainConfig
from bertjax.data.batches import Schedule, train_schedule
from bertjax.model.bert import init_params
from bertjax.model.hf import from_pretrained, save_pretrained
from bertjax.model.hf_config import ProblemType
from bertjax.params import Params, paths
from bertjax.study import TrialConfig
from bertjax.sweep.inputs import TaskInputs, task_inputs
from bertjax.sweep.starts import Starts, with_word_embeddings
from bertjax.train.loop import fit
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks, place_group, place_schedule, place_table, program_spec
from bertjax.train.trial import orders_of

pytestmark = pytest.mark.parity

STEPS = 20
MAX_LOSS_DIFFERENCE = 1e-3

MAX_PATH_DIFFERENCE = 1e-3
"""Largest distance of the two ends, as a share of the way from the start, of each parameter. Losses cannot see a weight
decay on the wrong parameters, or one that is missing; this does. It is no smaller because Adam moves a weight by about
the learning rate however small its gradient: where that is near zero, rounding decides (measured: at most 1.1e-4)."""

NO_GRADIENT = "attention/self/key/bias"
"""Softmax does not change when all scores of a query do: this gradient is rounding noise, which Adam scales up."""

CONFIG = BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                    max_position_embeddings=16, initializer_range=0.2, hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0)
WORDS = ("red", "green", "blue", "circle", "square", "line", "big", "small", "near", "far")


class Trained(NamedTuple):
    """The end of a training."""

    losses: np.ndarray
    """[step]."""
    params: Params
    """With the used rows of the word embedding; dropped weights are zero."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random BERTs, one with a head for classes and one for scores, and a training file for both.

    In batches of 8, the last one has 5 rows.
    """
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("small")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(vocabulary + [f"[unused{i}]" for i in range(40 - len(vocabulary))]) + "\n")
    for name, labels in (("classes", 3), ("scores", 1)):
        config = replace(CONFIG, num_labels=labels)
        save_pretrained(folder / name, config, jax.tree.map(np.asarray, init_params(config)),
                        problem_type=problem_type(labels == 1), tokenizer=BertTokenizer(str(vocab)))
    draw = np.random.default_rng(5)
    lines = []
    for _ in range(STEPS * 8 - 3):
        first, second = ([WORDS[draw.integers(3)], *draw.choice(WORDS[3:], draw.integers(1, 6))] for _ in range(2))
        row = {"first": " ".join(first), "second": " ".join(second), "label": first[0], "score": len(first) / 2}
        lines.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "dev.jsonl").write_text("\n".join(lines[:9]) + "\n")
    return folder


def small_trial(folder: Path, regression: bool = False, sparsity: float = 0.0) -> TrialConfig:
    """A trial on the small folder. Its rate is high, so that the weights go a long way in 20 steps."""
    data = DataConfig(train_file=str(folder / "train.jsonl"), dev_file=str(folder / "dev.jsonl"), max_buckets=2,
                      text_columns=("first", "second"), label_column="score" if regression else "label",
                      regression=regression, max_length=16)
    return TrialConfig(
        task="scores" if regression else "classes", model=str(folder / ("scores" if regression else "classes")),
        num_hidden_layers=None, methods="P" if sparsity else "none", sparsity=sparsity, quantize=FLOAT,
        distill_weight=0.0, temperature=1.0, teacher=None, seed=3, learning_rate=3e-3, data=data,
        train=TrainConfig(epochs=1, batch_size=8, reinit_pooler=True),
        prune=PruneConfig(begin=0.0, end=0.0),  # masks of the first step to the end
    )


def problem_type(regression: bool) -> ProblemType:
    """Which of its losses PyTorch's model takes."""
    return "regression" if regression else "single_label_classification"


def train_ours(trial: TrialConfig, inputs: TaskInputs, schedule: Schedule) -> tuple[Trained, KeepMasks]:
    """Trains one trial by the program of a sweep."""
    mesh = make_mesh((1, 1))
    state, numbers = place_group([trial], Starts(inputs, {}).used, orders_of([trial]), STEPS, mesh)
    spec = program_spec([trial], inputs.train_config, inputs.data.task.regression, 64)
    fitted = fit(
        CompiledChunks(spec, mesh), (state,), (numbers,),
        place_table(inputs.rows.table(inputs.config.num_labels), mesh), schedule,
        place_schedule(schedule.row_index, schedule.row_weight, mesh),
        eval_rows=range(0), lengths=inputs.rows.lengths, eval_edges=inputs.eval_edges, eval_batch_size=8,
    )
    group = fitted.groups[0]
    params, masks = jax.tree.map(lambda leaf: np.asarray(leaf[0]), (group.params, group.masks))
    made = jax.tree.map(np.asarray, apply_masks(params, masks))
    return Trained(fitted.metrics[0].loss[:, 0], made), masks


def train_theirs(
    trial: TrialConfig, inputs: TaskInputs, schedule: Schedule, masks: KeepMasks, folder: Path
) -> Trained:
    """Trains the same start by PyTorch on the same rows; `folder` takes the start and the end."""
    torch = pytest.importorskip("torch")
    from torch.nn.utils import prune
    from transformers import BertForSequenceClassification, get_linear_schedule_with_warmup

    save_pretrained(folder / "start", inputs.config, Starts(inputs, {}).whole(trial),
                    problem_type=problem_type(inputs.data.task.regression))
    model = BertForSequenceClassification.from_pretrained(folder / "start").train()
    dropped = [(model.get_submodule(path.removesuffix("/kernel").replace("/", ".")), mask)
               for path, mask in masks.items() if not mask.all()]
    for module, mask in dropped:
        prune.custom_from_mask(module, "weight", torch.from_numpy(mask.T.copy()))
    named = list(model.named_parameters())
    free = [name.endswith("bias") or "LayerNorm" in name for name, _ in named]
    decays = [{"params": [p for (_, p), f in zip(named, free, strict=True) if f == wanted], "weight_decay": decay}
              for wanted, decay in ((False, 0.01), (True, 0.0))]
    optimizer = torch.optim.AdamW(decays, lr=trial.learning_rate)
    rate = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=STEPS // 10, num_training_steps=STEPS)
    losses = []
    for step in range(STEPS):
        loss = model(**{name: torch.from_numpy(array) for name, array in batch_of(inputs, schedule, step).items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    for module, _ in dropped:
        prune.remove(module, "weight")
    model.save_pretrained(folder / "end")
    params = from_pretrained(folder / "end", num_labels=inputs.config.num_labels).params
    return Trained(np.array(losses), with_word_embeddings(params, inputs.rows.vocabulary.take))


def batch_of(inputs: TaskInputs, schedule: Schedule, step: int) -> dict[str, np.ndarray]:
    """The rows of a step as PyTorch's model takes them, without the fillers of a partial batch."""
    rows = schedule.row_index[0, step][schedule.row_weight[step] > 0]
    at = np.arange(schedule.edges[schedule.bucket[step]])
    present = at < inputs.rows.lengths[rows, None]
    labels = inputs.rows.labels[rows]
    return {
        "input_ids": inputs.rows.vocabulary.ids[inputs.rows.input_ids[rows][:, at]].astype(np.int64),
        "token_type_ids": (present & (at >= inputs.rows.second_start[rows, None])).astype(np.int64),
        "attention_mask": present.astype(np.int64),
        "labels": labels if inputs.data.task.regression else labels.astype(np.int64),
    }


def path_differences(start: Params, ours: Params, theirs: Params) -> dict[str, float]:
    """Distance of two ends as a share of the way from the start to the second, for each parameter."""
    begin, one, other = paths(start), paths(ours), paths(theirs)
    return {path: float(np.linalg.norm(one[path] - other[path]) / np.linalg.norm(other[path] - begin[path]))
            for path in begin if not path.endswith(NO_GRADIENT)}


def compare(trial: TrialConfig, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Trained, KeepMasks]:
    """Trains both, says how far they are apart, and holds them to the bounds."""
    inputs = task_inputs([trial])
    lengths = inputs.rows.lengths[: len(inputs.rows.train)]
    schedule = train_schedule(lengths, inputs.edges, trial.train.batch_size, 1, [trial.seed])
    assert len(schedule.bucket) == STEPS
    ours, masks = train_ours(trial, inputs, schedule)
    theirs = train_theirs(trial, inputs, schedule, masks, folder)
    start = apply_masks(Starts(inputs, {}).used(trial), masks)
    ways = path_differences(jax.tree.map(np.asarray, start), ours.params, theirs.params)
    furthest = max(ways, key=lambda path: ways[path])
    with capsys.disabled():
        print(f"\n  {trial.task} {trial.methods}: losses {theirs.losses[0]:.3f} to {theirs.losses[-1]:.3f}, largest "
              f"difference {np.abs(ours.losses - theirs.losses).max():.1e}; end {ways[furthest]:.1e} of the way apart "
              f"({furthest})")
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=0, atol=MAX_LOSS_DIFFERENCE)
    assert ways[furthest] < MAX_PATH_DIFFERENCE, furthest
    return theirs, masks


@pytest.mark.parametrize("regression", [False, True], ids=["classes", "scores"])
def test_twenty_losses_and_their_end_are_pytorchs(small, regression, tmp_path, capsys):
    theirs, _ = compare(small_trial(small, regression), tmp_path, capsys)
    assert np.ptp(theirs.losses) > 0.1  # it learns: standing still would agree too


def test_a_pruned_trial_is_pytorchs_with_the_same_masks(small, tmp_path, capsys):
    _, masks = compare(small_trial(small, sparsity=0.6), tmp_path, capsys)
    assert {np.sum(~mask) == mask.size * 6 // 10 for mask in masks.values()} == {True}


@pytest.mark.realdata
def test_twenty_losses_of_a_real_model_are_pytorchs(small, data_dir, tmp_path, capsys):
    stored, model = data_dir / "models" / "minilm-l6-h384-uncased", tmp_path / "model"
    model.mkdir()
    for file in stored.iterdir():
        (model / file.name).symlink_to(file)
    (model / "config.json").unlink()
    config = json.loads((stored / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps(config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    trial = replace(
        small_trial(small), task="mrpc", model=str(model), learning_rate=1e-4,
        data=DataConfig(data_dir=str(data_dir / "glue"), max_train_examples=STEPS * 32, max_buckets=2,
                        max_length=64),
        train=TrainConfig(epochs=1, batch_size=32, reinit_pooler=True),
    )
    compare(trial, tmp_path, capsys)
