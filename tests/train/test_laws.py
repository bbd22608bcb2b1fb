"""The laws of the compiled sweep: independence of trials, meshes and chunks; off is identity; one compilation each."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from bertjax.compress.prune import apply_masks
from bertjax.config import DataConfig, PruneConfig, TrainConfig
from bertjax.model.bert import logits_fn
from bertjax.params import ENCODER_KERNELS, paths, select
from bertjax.study import METHODS
from bertjax.train.loop import Fit
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks
from bertjax.train.step import part_rows, read_rows
from tests.train.toy import EDGES, EPOCHS, Toy, assert_same_bits, of_trial


def first_gradients(fitted: Fit, group: int, index: int) -> dict[str, np.ndarray]:
    """After one step Adam's first moment is a tenth of the clipped gradient."""
    return {name: leaf * 10 for name, leaf in paths(of_trial(fitted.groups[group].opt_state[1].mu, index)).items()}


def assert_close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def eight(toy: Toy):
    """The eight subsets, trained to the end on one device."""
    trials = [toy.trial(methods) for methods in METHODS]
    fitted, chunks = toy.fit(trials, evaluate=True)
    return trials, fitted, chunks


def test_one_compilation_per_length_whatever_the_trials(eight) -> None:
    _, _, chunks = eight
    found = [(key.kind, key.length) for key in chunks.compiled]
    assert sorted(found) == [("eval", 6), ("eval", 10), ("train", 6), ("train", 10)]
    assert found[0] == ("train", 10)  # the longest first: the memory of a CPU is reserved for it


def test_every_subset_learns(eight) -> None:
    _, fitted, _ = eight
    for metrics in fitted.metrics:
        assert (metrics.task_loss[-4:].mean(0) < metrics.task_loss[:4].mean(0) - 0.05).all()


def test_no_two_subsets_end_equal(eight) -> None:
    _, fitted, _ = eight
    kernels = [np.asarray(leaf).tobytes() for group in fitted.groups
               for leaf in paths(group.params)["bert/encoder/layer/0/output/dense/kernel"]]
    assert len(set(kernels)) == 8


def test_pruned_trials_end_at_their_sparsity_and_the_others_dense(toy: Toy, eight) -> None:
    trials, fitted, _ = eight
    groups = [[t for t in trials if "Q" not in t.methods], [t for t in trials if "Q" in t.methods]]
    for group, state in zip(groups, fitted.groups, strict=True):
        assert set(state.masks) == {p for p, chosen in paths(select(state.params, ENCODER_KERNELS)).items() if chosen}
        for mask in state.masks.values():
            for trial, kept in zip(group, np.asarray(mask), strict=True):
                assert (~kept).sum() == int(trial.sparsity * 10_000) * kept.size // 10_000


@pytest.mark.parametrize("steps_per_chunk", [1, 3])
def test_chunk_length_changes_no_bit(toy: Toy, eight, steps_per_chunk: int) -> None:
    trials, fitted, chunks = eight
    compiled = dict(chunks.compiled)
    other, _ = toy.fit(trials, steps_per_chunk=steps_per_chunk, evaluate=True, chunks=chunks)
    assert chunks.compiled == compiled  # nor is anything compiled for it
    assert_same_bits(fitted.groups, other.groups)
    assert_same_bits(fitted.metrics, other.metrics)
    assert_same_bits([e.logits for e in fitted.evaluations], [e.logits for e in other.evaluations])


def mixed_seeds(toy: Toy) -> list:
    """The eight subsets again, half of them with another seed, and pruned from the first step on."""
    return [toy.trial(methods, seed=7 * (number % 2), prune=PruneConfig(begin=0, end=0, mask_every=2))
            for number, methods in enumerate(METHODS)]


def place_of(trial, trials) -> tuple[int, int]:
    """Group and index of a trial."""
    return int("Q" in trial.methods), [t for t in trials if ("Q" in t.methods) == ("Q" in trial.methods)].index(trial)


@pytest.fixture(scope="module")
def one_step(toy: Toy, eight):
    """One step of `mixed_seeds` on a partial batch, on one device, by the program of `eight`."""
    trials = mixed_seeds(toy)
    return trials, toy.fit(trials, only_step=toy.partial_step(), chunks=eight[2])[0]


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "Q"])
def test_a_trial_alone_has_the_gradients_it_has_in_the_grid(toy: Toy, one_step, quantized: bool) -> None:
    trials, together = one_step
    chunks = None
    for trial in (trial for trial in trials if ("Q" in trial.methods) == quantized):
        alone, chunks = toy.fit([trial], only_step=toy.partial_step(), chunks=chunks)
        place = place_of(trial, trials)
        assert_close(first_gradients(together, *place), first_gradients(alone, 0, 0), 1e-6)
        zeros = {name: float((~np.asarray(mask[place[1]])).mean())
                 for name, mask in together.groups[place[0]].masks.items()}
        assert all((share > 0.5) == ("P" in trial.methods) for share in zeros.values())


def test_lengths_that_are_not_compiled_change_no_gradient_of_a_float_trial(toy: Toy, eight) -> None:
    """A shorter batch is then padded to the next length; its rows and its dropout stay."""
    trials = mixed_seeds(toy)
    step = int(np.flatnonzero(toy.schedule().bucket == 0)[0])
    both, one = (toy.fit(trials, only_step=step, edges=edges, chunks=eight[2])[0] for edges in (EDGES, EDGES[1:]))
    for trial in (trial for trial in trials if "Q" not in trial.methods):
        assert_close(*(first_gradients(fitted, *place_of(trial, trials)) for fitted in (both, one)), 1e-6)


@pytest.mark.parametrize("shape", [(2, 2), (4, 1), (1, 4)], ids=str)
def test_every_mesh_gives_the_same_gradients_with_dropout_and_a_partial_batch(
    toy: Toy, one_step, shape: tuple[int, int]
) -> None:
    trials, one = one_step
    many, _ = toy.fit(trials, make_mesh(shape), only_step=toy.partial_step())
    for trial in trials:
        place = place_of(trial, trials)
        assert_close(first_gradients(one, *place), first_gradients(many, *place), 1e-6)


@pytest.mark.parametrize(("part_tokens", "shape"), [(1, (1, 1)), (20, (1, 3))], ids=["row by row", "2 rows of 3"])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    toy: Toy, one_step, part_tokens: int, shape: tuple[int, int]
) -> None:
    """Also where a device has fewer rows than its parts."""
    trials, whole = one_step
    spec = replace(toy.spec(trials), part_tokens=part_tokens)
    assert part_rows(part_tokens, 3, max(EDGES)) in (1, 2)
    parts, _ = toy.fit(trials, only_step=toy.partial_step(), chunks=CompiledChunks(spec, make_mesh(shape)))
    for trial in trials:
        place = place_of(trial, trials)
        assert_close(first_gradients(whole, *place), first_gradients(parts, *place), 1e-6)
        assert_close(*({"loss": fitted.metrics[place[0]].loss[:, place[1]]} for fitted in (whole, parts)), 1e-6)


def test_parts_have_a_power_of_two_rows_or_all() -> None:
    assert part_rows(None, 31, 128) == 31
    assert [part_rows(512, 32, length) for length in (8, 16, 17, 40, 128, 300, 600)] == [32, 32, 16, 8, 4, 1, 1]
    assert part_rows(512, 31, 16) == 31 and part_rows(512, 33, 16) == 32


def test_groups_that_do_not_fill_the_trial_axis_are_padded_with_copies(toy: Toy, one_step) -> None:
    trials, one = one_step
    fewer = [trial for trial in trials if trial.methods not in ("P", "QP")]
    padded, _ = toy.fit(fewer, make_mesh((4, 1)), only_step=toy.partial_step())
    assert padded.groups[0].masks["bert/encoder/layer/0/output/dense/kernel"].shape[0] == 4
    for trial in fewer:
        ours, theirs = first_gradients(one, *place_of(trial, trials)), first_gradients(padded, *place_of(trial, fewer))
        assert_close(ours, theirs, 1e-6)


def test_a_diverging_trial_changes_no_other_trials_bits(toy: Toy, eight) -> None:
    trials, calm, chunks = eight
    mad_ones = [trial for trial in trials if trial.methods in ("K", "P", "QP")]
    mad, _ = toy.fit([replace(trial, learning_rate=1e30) if trial in mad_ones else trial for trial in trials],
                     chunks=chunks)
    for trial in trials:
        group, index = place_of(trial, trials)
        if trial in mad_ones:
            assert not np.isfinite(mad.metrics[group].loss[:, index]).all()
        else:
            assert_same_bits(of_trial(calm.groups[group].params, index), of_trial(mad.groups[group].params, index))


def test_an_absent_teacher_changes_no_bit_of_trials_without_distillation(toy: Toy, eight) -> None:
    trials, taught, chunks = eight
    untaught, _ = toy.fit(trials, teacher_logits=np.full_like(toy.teacher_logits, np.nan), chunks=chunks)
    for trial in trials:
        group, index = place_of(trial, trials)
        same = of_trial(taught.groups[group].params, index), of_trial(untaught.groups[group].params, index)
        if "K" in trial.methods:
            assert not np.isfinite(untaught.metrics[group].loss[:, index]).any()
        else:
            assert_same_bits(*same)


def test_trials_of_equal_seed_share_rows_and_dropout_and_others_do_not(toy: Toy) -> None:
    # The learning rate is 0 at the first step, so the first loss sees the start, the rows and the dropout alone.
    trials = [toy.trial(methods, seed=seed, learning_rate=rate)
              for methods in ("none", "Q") for seed, rate in ((0, 1e-2), (0, 1e-3), (7, 1e-2), (7, 1e-3))]
    same = toy.initial(trials[0])
    fitted, _ = toy.fit(trials, only_step=0, initial=lambda _: same)
    for metrics in fitted.metrics:
        first, again, other, other_again = metrics.loss[0]
        assert first == again != other == other_again


def test_a_study_repeats_bitwise(toy: Toy, eight) -> None:
    trials, fitted, _ = eight
    again, _ = toy.fit(trials)
    assert_same_bits(fitted.groups, again.groups)


def dev_logits(toy: Toy, fitted: Fit, group: int, index: int) -> np.ndarray:
    """A float trial's outputs on the dev rows, from its parameters and masks at the end."""
    table = jax.tree.map(jax.numpy.asarray, toy.rows.table(3))
    rows = np.arange(toy.rows.dev_rows.start, toy.rows.dev_rows.stop)
    inputs = jax.jit(lambda rows: read_rows(table, rows, 10))(rows)
    params, masks = (of_trial(tree, index) for tree in (fitted.groups[group].params, fitted.groups[group].masks))
    return np.asarray(logits_fn(toy.config)(apply_masks(params, masks), inputs, None))


def test_evaluation_covers_every_dev_row_in_order_whatever_the_mesh(toy: Toy, eight) -> None:
    _, fitted, _ = eight
    assert [e.epoch for e in fitted.evaluations] == list(range(1, EPOCHS + 1))
    for index in range(4):
        direct = dev_logits(toy, fitted, 0, index)
        np.testing.assert_allclose(fitted.evaluations[-1].logits[0][index], direct, atol=1e-5)


def test_a_trial_ends_with_its_best_epoch_if_that_is_asked_for(toy: Toy, eight) -> None:
    trials, last, chunks = eight
    scores = {1: [2.0, 1.0, 1.0, np.nan], 2: [1.0, 2.0, 1.0, 0.0]}  # by epoch: worse, better, equal, from NaN
    best, _ = toy.fit(trials, evaluate=True, scorer=lambda evaluation: [np.array(scores[evaluation.epoch])] * 2,
                      chunks=chunks)
    assert_same_bits([e.logits for e in best.evaluations], [e.logits for e in last.evaluations])
    for index, epoch in enumerate((1, 2, 1, 2)):
        wanted = best.evaluations[epoch - 1].logits[0][index]
        np.testing.assert_allclose(dev_logits(toy, best, 0, index), wanted, atol=1e-5)
        assert np.abs(best.evaluations[2 - epoch].logits[0][index] - wanted).max() > 1e-2


def test_configs_differ_in_id_exactly_when_they_differ(toy: Toy) -> None:
    one = toy.trial("QKP")
    assert one.trial_id == toy.trial("QKP").trial_id
    others = [toy.trial("QKP", seed=1), toy.trial("QKP", learning_rate=1e-3), toy.trial("QP"),
              toy.trial("QKP", data=DataConfig(max_length=64)), toy.trial("QKP", train=TrainConfig(epochs=4))]
    assert len({one.trial_id, *(o.trial_id for o in others)}) == 6
