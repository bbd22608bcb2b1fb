"""Programs from shapes alone: their arguments are those of real programs, and what they do is as designed.

What is counted here no noise can touch: a change that makes a step do more shows.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache

import jax
import numpy as np
import pytest

from bertjax.config import FLOAT, InputError, QuantizeConfig
from bertjax.model.sizes import size_config
from bertjax.params import count
from bertjax.train.ahead import (
    DataShape,
    DeviceCost,
    device_cost,
    lower_train_chunk,
    topology_devices,
    train_arguments,
)
from bertjax.train.hlo import Product, ProgramFacts, parse, read_program
from bertjax.train.memory import state_bytes, step_bytes
from bertjax.train.mesh import make_mesh
from bertjax.train.program import place_group, place_schedule, place_table
from bertjax.train.step import ProgramSpec
from bertjax.train.trial import Order, split_groups
from tests.train.toy import LABELS, Toy

TINY = replace(size_config("tiny"), vocab_size=64, num_hidden_layers=1)
SPEC = ProgramSpec(TINY, (FLOAT, QuantizeConfig()), regression=False, part_tokens=16)
"""Batches in parts of two rows."""
DATA = DataShape(rows=50, longest=8, batch_size=8, steps=9)
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Halves the compilation; what is looked at here was decided before."""


def test_arguments_are_those_of_a_real_program_also_where_groups_and_batches_are_filled_up(toy: Toy) -> None:
    mesh = make_mesh((2, 2))
    trials = [toy.trial(methods) for methods in ("none", "K", "P", "Q", "QK")]
    groups = [place_group(group, toy.initial, [Order(0)], 5, mesh) for group in split_groups(trials).values()]
    table = toy.rows.table(LABELS, toy.teacher_logits)
    schedule = place_schedule(np.zeros((1, 5, 7), np.int32), np.ones((5, 7), np.float32), mesh)
    real = (tuple(g for g, _ in groups), tuple(h for _, h in groups), place_table(table, mesh), schedule, np.int32(1))

    data = DataShape(*table.input_ids.shape, batch_size=7, steps=5)
    shapes = train_arguments(toy.spec(trials), mesh, (3, 2), data)
    assert jax.tree.structure(shapes) == jax.tree.structure(real)
    for ours, theirs in zip(jax.tree.leaves(shapes), jax.tree.leaves(real), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert ours.sharding is None or ours.sharding.is_equivalent_to(theirs.sharding, theirs.ndim)


@dataclass(frozen=True)
class Compiled:
    """A train chunk for CPU devices."""

    facts: ProgramFacts
    instructions: Counter[str]
    """By opcode, also within fusions."""
    cost: DeviceCost
    temporary_bytes: int


@cache
def compiled(groups: tuple[QuantizeConfig, ...], sizes: tuple[int, ...], shape: tuple[int, int]) -> Compiled:
    """`sizes` trials of the groups on a mesh of a shape."""
    mesh = make_mesh(shape)
    made = lower_train_chunk(replace(SPEC, groups=groups), mesh, sizes, DATA, length=8).compile(QUICK)
    opcodes = Counter(one.opcode for one in parse(made.as_text()))
    return Compiled(read_program(made.as_text(), mesh.shape), opcodes, device_cost(made),
                    made.memory_analysis().temp_size_in_bytes)


def eight() -> Compiled:
    """The eight subsets: four float trials, four quantized ones."""
    return compiled(SPEC.groups, (4, 4), (2, 2))


def plain(trials: int) -> Compiled:
    """So many float trials on each of four devices."""
    return compiled((FLOAT,), (4 * trials,), (4, 1))


def test_a_step_adds_all_gradients_over_data_at_once() -> None:
    mesh, facts = make_mesh((2, 2)), eight().facts
    states = train_arguments(SPEC, mesh, (4, 4), DATA)[0]
    gradients = sum(count(state.params) for state in states) // mesh.shape["trial"]

    (reduction,) = facts.collectives
    assert (reduction.kind, reduction.axes, reduction.dtypes, reduction.loops) == ("all-reduce", ("data",), ("f32",), 1)
    # With them go three sums of losses and weights for each of the four trials of a device.
    assert gradients < reduction.elements <= gradients + 3 * 4
    assert facts.donated == {(i, i) for i in range(len(jax.tree.leaves(states)))}
    assert eight().cost.argument_bytes > 3 * 4 * gradients


def test_trials_on_different_devices_never_talk() -> None:
    assert plain(1).facts.products and plain(1).facts.collectives == ()


def test_products_are_those_of_the_forward_and_backward_pass() -> None:
    """In each group of eight linear layers, with pooler and classifier, and of attention's two products: one forward
    and at most two backward. Forward, Q's are of codes in the six of the encoder.
    """
    codes, floats = Product("s8", "s8", "s32"), Product("f32", "f32", "f32")
    assert set(eight().facts.products) == {codes, floats} and eight().facts.products[codes] == 6
    assert eight().facts.products[floats] <= 2 * 3 * (8 + 2) - 6


def test_a_step_neither_sorts_nor_leaves_the_device() -> None:
    """The threshold of a mask is found by bisection, and what drops out by arithmetic."""
    assert eight().facts.host_transfers == ()
    assert not {"sort", "rng", "rng-bit-generator", "custom-call"} & set(eight().instructions)


def test_more_trials_are_the_same_program_on_longer_arrays() -> None:
    one, two = plain(1), plain(2)
    assert two.facts.products == one.facts.products
    assert sum(two.instructions.values()) < 1.1 * sum(one.instructions.values())
    assert two.temporary_bytes < 2.1 * one.temporary_bytes


def test_the_eight_subsets_are_little_more_for_the_compiler_than_their_two_kinds() -> None:
    assert sum(eight().instructions.values()) < 2.4 * sum(plain(1).instructions.values())


def test_a_trial_holds_parameters_two_moments_and_masks() -> None:
    for state in train_arguments(SPEC, make_mesh((1, 1)), (4, 4), DATA)[0]:
        held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        assert held / 4 == pytest.approx(state_bytes(TINY), abs=16)  # and the counters of a group


def test_without_libtpu_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES", "ALLOW_MULTIPLE_LIBTPU_LOAD"):
        monkeypatch.setenv(name, "1")  # so that what the function sets is undone
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(InputError, match=r"v5e:2x4.*bertjax\[tpu\]"):
        topology_devices("v5e:2x4")


@pytest.mark.slow
def test_the_formula_for_memory_is_about_what_a_cpus_compiler_says() -> None:
    """Two layers of MiniLM, whole batches and parts."""
    model = replace(size_config("base"), vocab_size=1000, hidden_size=384, intermediate_size=1536, num_hidden_layers=2)
    for part_tokens, rows in ((None, 32), (512, 8)):
        spec = ProgramSpec(model, (FLOAT,), regression=False, part_tokens=part_tokens)
        data = DataShape(rows=50, longest=64, batch_size=32, steps=9)
        compiled = lower_train_chunk(spec, make_mesh((1, 1)), (2,), data, length=64).compile()
        formula = 2 * step_bytes(model, rows, 64, "float32", "cpu", whole=part_tokens is None)
        assert 0.8 < formula / compiled.memory_analysis().temp_size_in_bytes < 1.5
