"""The eight-subset step compiles for a TPU v5e slice, without one, into the program that the design promises."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from bertjax.config import FLOAT, InputError, QuantizeConfig
from bertjax.model.sizes import size_config
from bertjax.params import count
from bertjax.sweep.compiled_plan import LEAST_EFFORT, compile_largest
from bertjax.sweep.experiments import load_study
from bertjax.sweep.forecast import describe_plan
from bertjax.train.ahead import DataShape, device_cost, lower_train_chunk, topology_mesh, train_arguments
from bertjax.train.hlo import Product, read_program
from bertjax.train.memory import WORKSPACE, state_bytes, step_bytes
from bertjax.train.mesh import padded
from bertjax.train.step import ProgramSpec
from bertjax.train.tiles import tile_padding

pytestmark = pytest.mark.tpu

DATA = DataShape(rows=4000, longest=128, batch_size=32, steps=300)
GROUPS = (4, 4)
EFFORT = {"tiny": {}, "base": LEAST_EFFORT, "large": LEAST_EFFORT}
"""What is looked at here is the same."""
MEMORY = {"v5e": 16e9, "v6e": 32e9}


@pytest.fixture(autouse=True)
def tpu_compiler():
    """Skips without `libtpu`; products at the precision that runs use."""
    pytest.importorskip("libtpu", reason="libtpu is not installed (extra `tpu`)")
    with jax.default_matmul_precision("default"):
        yield


@pytest.mark.parametrize(("size", "chip", "shape", "part_tokens"), [
    ("tiny", "v5e", (2, 4), None), ("tiny", "v6e", (2, 4), None), ("tiny", "v5e", (8, 1), None),
    ("base", "v5e", (2, 4), None), ("base", "v6e", (8, 1), None),
    pytest.param("large", "v5e", (8, 1), 512, marks=pytest.mark.slow),
    pytest.param("large", "v6e", (4, 2), None, marks=pytest.mark.slow),
], ids=str)
def test_the_eight_subset_step_is_one_reduction_of_integer_products(
    size: str, chip: str, shape: tuple[int, int], part_tokens: int | None
) -> None:
    model = replace(size_config(size), vocab_size=1024)
    spec = ProgramSpec(model, (FLOAT, QuantizeConfig()), regression=False, part_tokens=part_tokens)
    mesh = topology_mesh(f"{chip}:2x4", shape)
    compiled = lower_train_chunk(spec, mesh, GROUPS, DATA, length=64).compile(EFFORT[size])
    facts = read_program(compiled.as_text(), mesh.shape)
    cost = device_cost(compiled)
    tiles = tile_padding(compiled.as_text())
    print(f"\n{size} on {chip}, trial={shape[0]},data={shape[1]}: {cost}\n"
          f"{tiles}\n{facts.collectives}\n{facts.products}")

    # The trial axis costs the state no tiles: of a matrix it is the slowest axis, of a vector the tile is as short.
    assert tiles.arguments < 0.01

    # Q, in the forward pass: the six linear layers of each encoder layer of the quantized group. No product is of s32.
    assert facts.products[Product("s8", "s8", "s32")] == 6 * model.num_hidden_layers
    assert all("s32" not in (product.lhs, product.rhs) for product in facts.products)
    assert sum(facts.products.values()) > 18 * model.num_hidden_layers  # and those of the float group and of gradients

    states = train_arguments(spec, mesh, GROUPS, DATA)[0]
    trials = [state.masks[next(iter(state.masks))].shape[0] // shape[0] for state in states]
    gradients = sum(trials) * count(states[0].params) // (trials[0] * shape[0])
    wanted = [("all-reduce", ("data",), ("f32",), 1)] if shape[1] > 1 else []
    assert [(c.kind, c.axes, c.dtypes, c.loops) for c in facts.collectives] == wanted
    assert all(0 < c.elements - gradients <= 3 * sum(trials) for c in facts.collectives)

    assert facts.host_transfers == ()
    assert facts.donated == {(i, i) for i in range(len(jax.tree.leaves(states)))}
    assert cost.argument_bytes > 3 * 4 * gradients  # parameters and two moments
    assert cost.peak_bytes + cost.code_bytes < MEMORY[chip]


@pytest.mark.slow
def test_the_formula_for_memory_is_about_what_the_compiler_says_at_full_effort() -> None:
    model = replace(size_config("base"), vocab_size=1024, num_hidden_layers=3)
    spec = ProgramSpec(model, (FLOAT, QuantizeConfig()), regression=False)
    mesh = topology_mesh("v5e:2x4", (8, 1))
    cost = device_cost(lower_train_chunk(spec, mesh, GROUPS, DATA, length=64).compile())
    held = sum(padded(size, 8) // 8 for size in GROUPS)
    formula = held * (state_bytes(model) + step_bytes(model, DATA.batch_size, 64, "float32", "tpu")) + WORKSPACE
    print(f"\n{cost}, formula {formula / cost.peak_bytes:.2f}")
    assert 0.75 < formula / cost.peak_bytes < 1.5


def test_a_plan_is_compiled_for_a_slice() -> None:
    study = replace(load_study("movva2022"), sizes=("tiny",), tasks=("rte",), methods=("none", "Q"))
    head, line = describe_plan(study, device="v6e:2x4", compiler=compile_largest).splitlines()[-2:]
    assert "compiled for v6e:2x4" in head
    found = re.fullmatch(r"  tiny on rte, 12 trials, 128 tokens: ([\d,]+) MB of each chip at most "
                         r"\(formula ([\d,]+) MB\), (\d+) GFLOPs a step and chip, compiled in \d+ s; "
                         r"tiles add 0\.\d % to its arguments, \d+ % to what it writes", line)
    assert found is not None, line
    assert 0.4 < float(found[1].replace(",", "")) / float(found[2].replace(",", "")) < 1.2 and int(found[3]) > 0


def test_a_callback_in_a_program_would_be_seen() -> None:
    devices = topology_mesh("v5e:2x4", (2, 4))

    def compiled(function):
        argument = jax.ShapeDtypeStruct((8, 128), np.float32, sharding=NamedSharding(devices, P()))
        return read_program(jax.jit(function).lower(argument).compile().as_text(), devices.shape)

    assert compiled(jnp.sin).host_transfers == ()
    called = partial(jax.debug.callback, print)
    assert compiled(lambda x: (called(x), x)[1]).host_transfers


@pytest.mark.parametrize("name", ["v9:2x2", "v5e:3x3", "v5e", ""])
def test_an_unknown_slice_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match="v5e:2x4") as error:
        topology_mesh(name, (2, 2))
    assert "\n" not in str(error.value)
