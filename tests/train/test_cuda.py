"""The eight-subset step compiles for NVIDIA GPUs, without one, into the program that the design promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from bertjax.cli import DETERMINISTIC
from bertjax.config import FLOAT, InputError, QuantizeConfig
from bertjax.model.sizes import size_config
from bertjax.train.ahead import (
    ATOMIC_SCATTERS,
    DataShape,
    device_cost,
    lower_train_chunk,
    topology_devices,
    topology_mesh,
    train_arguments,
)
from bertjax.train.cards import CARDS
from bertjax.train.hlo import read_program
from bertjax.train.mesh import make_mesh
from bertjax.train.step import ProgramSpec

pytestmark = pytest.mark.cuda

DATA = DataShape(rows=4000, longest=128, batch_size=32, steps=300)
GROUPS = (4, 4)
SPEC = ProgramSpec(replace(size_config("tiny"), vocab_size=1024), (FLOAT, QuantizeConfig()), regression=False)
SHAPE = (2, 2)


@pytest.fixture(scope="module")
def lowered() -> Any:
    """For four GPUs; products at the precision that runs use."""
    with jax.default_matmul_precision("default"):
        return lower_train_chunk(SPEC, topology_mesh("h200:4", SHAPE), GROUPS, DATA, length=64)


@pytest.fixture(scope="module")
def compiled(lowered: Any) -> Any:
    """As a sweep compiles it."""
    return lowered.compile()


def test_the_eight_subset_step_adds_its_gradients_once_and_multiplies_integers(compiled: Any) -> None:
    facts, cost = read_program(compiled.as_text(), {"trial": SHAPE[0], "data": SHAPE[1]}), device_cost(compiled)
    print(f"\ntiny on 4 H200: {cost}\n{facts.collectives}\n{facts.products}")

    # Q, in the forward pass: the six linear layers of each encoder layer, of which XLA joins those that read the same.
    codes = {product: count for product, count in facts.products.items() if "s8" in (product.lhs, product.rhs)}
    assert {(product.lhs, product.rhs, product.result) for product in codes} == {("s8", "s8", "s32")}
    assert 4 * 2 <= sum(codes.values()) <= 6 * 2
    assert all("s32" not in (product.lhs, product.rhs) for product in facts.products)

    assert {(one.axes, one.dtypes, one.loops) for one in facts.collectives} == {(("data",), ("f32",), 1)}
    states = train_arguments(SPEC, make_mesh((1, 1)), GROUPS, DATA)[0]
    gradients = sum(leaf.size for state in states for leaf in jax.tree.leaves(state.params)) // SHAPE[0]
    assert 0 < sum(one.elements for one in facts.collectives) - gradients <= 3 * sum(GROUPS)

    assert facts.host_transfers == ()
    assert facts.donated == {(i, i) for i in range(len(jax.tree.leaves(states)))}
    assert 3 * 4 * gradients < cost.argument_bytes < cost.peak_bytes < CARDS["h200"].memory_bytes


def test_deterministic_leaves_no_sum_whose_order_is_chance(lowered: Any, compiled: Any) -> None:
    """The gradient of an embedding row is a sum over the tokens that read it, which threads add as they come."""
    made = lowered.compile({DETERMINISTIC: True}).as_text()
    assert ATOMIC_SCATTERS.findall(compiled.as_text())
    assert ATOMIC_SCATTERS.findall(made) == [] and " scatter(" in made


def test_a_plan_is_compiled_for_a_gpu() -> None:
    """Also where nobody has told JAX that there is no GPU."""
    command = [sys.executable, "-m", "bertjax", "plan", "movva2022", "--sizes", "tiny", "--tasks", "rte", "--methods",
               "none", "--device", "h100", "--compile"]
    done = subprocess.run(command, env=without_platform(), capture_output=True, text=True, check=True)
    head, line = done.stdout.splitlines()[-2:]
    assert "compiled for h100" in head
    found = re.fullmatch(r"  tiny on rte, 6 trials, 128 tokens: ([\d,]+) MB of each GPU at most "
                         r"\(formula ([\d,]+) MB\), compiled in \d+ s", line)
    assert found is not None, line
    assert 0.4 < float(found[1].replace(",", "")) / float(found[2].replace(",", "")) < 1.2


def without_platform() -> dict[str, str]:
    """The environment of a user who has set nothing."""
    return {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="JAX starts with its plugin where there is a GPU")
def test_where_jax_has_started_without_its_plugin_one_line_says_how_to_start_it() -> None:
    program = ("import jax\nfrom bertjax.config import InputError\nfrom bertjax.train.ahead import topology_devices\n"
               "jax.devices()\ntry:\n  topology_devices('h200:2')\nexcept InputError as error:\n  print(error)")
    done = subprocess.run([sys.executable, "-c", program], env=without_platform(), capture_output=True, text=True,
                          check=True)
    assert done.stdout == (f"to compile for h200:2, JAX's plugin for CUDA must be of JAX's version, {jax.__version__}, "
                           "and JAX must start with JAX_PLATFORMS=cpu if there is no GPU\n")


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_card_is_described_as_its_compiler_understands_it(name: str) -> None:
    devices = topology_devices(f"{name}:2")
    assert [device.device_kind for device in devices] == [CARDS[name].kind] * 2
    argument = jax.ShapeDtypeStruct((256, 256), "float32", sharding=jax.sharding.SingleDeviceSharding(devices[0]))
    cost = device_cost(jax.jit(lambda x: x @ x).lower(argument).compile())
    assert cost.argument_bytes == 4 * 256**2 and cost.peak_bytes >= 2 * cost.argument_bytes


@pytest.mark.parametrize("name", ["h200:0", "h200:2x2", "h300"])
def test_unknown_gpus_are_one_line(name: str) -> None:
    with pytest.raises(InputError) as error:
        topology_devices(name)
    assert "\n" not in str(error.value)
