"""Programs from shapes alone: their arguments are those of real programs, and what they do is as designed.

What is counted here no noise can touch: a change that makes a step do more shows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.config import FLOAT, InputError
from bertjax.model.sizes import size_config
from bertjax.params import count
from bertjax.train.ahead import ATOMIC_SCATTERS, DataShape, lower_train_chunk, topology_devices, train_arguments
from bertjax.train.hlo import Product, ProgramFacts, parse, read_program
from bertjax.train.memory import state_bytes, step_bytes
from bertjax.train.mesh import make_mesh
from bertjax.train.program import place_group, place_schedule, place_table
from bertjax.train.step import ProgramSpec
from bertjax.train.trial import Order, split_groups
from tests.train.eight_devices import CASES, DATA, SPEC, TINY
from tests.train.toy import LABELS, Toy


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
    """A program of `eight_devices.CASES`."""

    facts: ProgramFacts
    instructions: Counter[str]
    """By opcode, also within fusions."""
    numbers: dict[str, float]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    """Compiled for eight devices, in a process that has as many."""
    folder = tmp_path_factory.mktemp("programs")
    flags = re.sub(r"device_count=\d+", "device_count=8", os.environ["XLA_FLAGS"])
    subprocess.run([sys.executable, "-m", "tests.train.eight_devices", folder], check=True,
                   env=os.environ | {"XLA_FLAGS": flags}, cwd=Path(__file__).parents[2])
    made = {}
    for name, case in CASES.items():
        text = (folder / f"{name}.hlo").read_text()
        opcodes = Counter(one.opcode for one in parse(text))
        facts = read_program(text, dict(zip(("trial", "data"), case.shape, strict=True)))
        made[name] = Compiled(facts, opcodes, json.loads((folder / f"{name}.json").read_text()))
    return made


def test_eight_subsets_on_four_by_two_devices_add_all_gradients_over_data_at_once(
    programs: dict[str, Compiled]
) -> None:
    case, made = CASES["subsets"], programs["subsets"]
    states = train_arguments(SPEC, make_mesh((1, 1)), case.sizes, DATA)[0]
    gradients = sum(count(state.params) for state in states) // case.shape[0]

    (reduction,) = made.facts.collectives
    assert (reduction.kind, reduction.axes, reduction.dtypes, reduction.loops) == ("all-reduce", ("data",), ("f32",), 1)
    # With them go three sums of losses and weights for both trials of a device.
    assert gradients < reduction.elements <= gradients + 3 * 2
    assert made.facts.donated == {(i, i) for i in range(len(jax.tree.leaves(states)))}
    assert made.numbers["argument_bytes"] > 3 * 4 * gradients


@pytest.mark.parametrize("name", ["sixteen", "plain", "more"])
def test_trials_on_eight_devices_never_talk(programs: dict[str, Compiled], name: str) -> None:
    """Eight float trials, or sixteen, or eight float and eight quantized ones, on trial=8."""
    assert programs[name].facts.products and programs[name].facts.collectives == ()


def test_products_are_those_of_the_forward_and_backward_pass(programs: dict[str, Compiled]) -> None:
    """In each group of eight linear layers, with pooler and classifier, and of attention's two products: one forward
    and at most two backward. Forward, Q's are of codes in the six of the encoder.
    """
    codes, floats = Product("s8", "s8", "s32"), Product("f32", "f32", "f32")
    products = programs["sixteen"].facts.products
    assert set(products) == {codes, floats} and products[codes] == 6
    assert products[floats] <= 2 * 3 * (8 + 2) - 6


def test_a_step_neither_sorts_nor_leaves_the_device(programs: dict[str, Compiled]) -> None:
    """The threshold of a mask is found by bisection, and what drops out by arithmetic."""
    for made in programs.values():
        assert made.facts.host_transfers == ()
        assert not {"sort", "rng", "rng-bit-generator", "custom-call"} & set(made.instructions)


def test_more_trials_are_the_same_program_on_longer_arrays(programs: dict[str, Compiled]) -> None:
    one, two = programs["plain"], programs["more"]
    assert two.facts.products == one.facts.products
    assert sum(two.instructions.values()) < 1.1 * sum(one.instructions.values())
    assert two.numbers["temporary_bytes"] < 2.1 * one.numbers["temporary_bytes"]


def test_both_kinds_are_little_more_for_the_compiler_than_two_programs(programs: dict[str, Compiled]) -> None:
    assert sum(programs["sixteen"].instructions.values()) < 2.4 * sum(programs["plain"].instructions.values())


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


def test_without_the_plugin_for_cuda_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertjax.train.ahead.CUDA_PLUGINS", ("no_such_plugins.at_all", "json.none"))
    with pytest.raises(InputError, match=rf"h200:8.*pip install jax-cuda13-plugin=={jax.__version__}$"):
        topology_devices("h200:8")


def test_atomic_scatters_are_those_whose_places_may_be_the_same() -> None:
    sums = "  ROOT %scatter-add.1 = f32[4,8]{1,0} scatter(%a, %b, %c), index_vector_dim=1, to_apply=%add"
    placed = "  %scatter.2 = f32[4,8]{1,0} scatter(%a, %b, %c), index_vector_dim=1, unique_indices=true, to_apply=%set"
    other = "  %reduce-scatter.3 = f32[4]{0} reduce-scatter(%a), to_apply=%add"
    assert ATOMIC_SCATTERS.findall("\n".join((placed, sums, other))) == [sums]


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
