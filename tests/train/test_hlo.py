"""Reading compiled programs: what is put into a small program is found in its text, and nothing else."""

from __future__ import annotations

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from bertjax.train.hlo import (
    Collective,
    Product,
    ProgramFacts,
    crossed_axes,
    donated,
    parse,
    read_program,
    replica_groups,
)
from bertjax.train.mesh import make_mesh

MESH = {"trial": 2, "data": 2}


def facts(function, *arguments, **options) -> ProgramFacts:
    """Of `function` on 2 × 2 CPU devices."""
    mesh = make_mesh((2, 2))
    sharded = jax.shard_map(function, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    return read_program(jax.jit(sharded, **options).lower(*arguments).compile().as_text(), mesh.shape)


@pytest.mark.parametrize(("written", "axes"), [
    ("replica_groups={{0,1},{2,3}}, x=y", ("data",)),
    ("replica_groups={{0,2},{1,3}}", ("trial",)),
    ("replica_groups={{0},{1},{2},{3}}", ()),
    ("replica_groups={}, x={{0,1}}", ("trial", "data")),
    ("replica_groups=[2,2]<=[4], x=y", ("data",)),
    ("replica_groups=[2,2]<=[2,2]T(1,0)", ("trial",)),
    ("replica_groups=[1,4]<=[4]", ("trial", "data")),
    ("source_target_pairs={{0,2},{2,0}}", ("trial",)),
])
def test_groups_of_devices_are_read_as_mesh_axes(written: str, axes: tuple[str, ...]) -> None:
    assert crossed_axes(replica_groups(written, MESH), MESH) == axes


def test_groups_written_in_an_unknown_way_are_not_taken_for_none() -> None:
    with pytest.raises(ValueError, match="must name its groups"):
        replica_groups("replica_groups=@mesh", MESH)


def test_collectives_are_found_with_axis_type_size_and_loops() -> None:
    def steps(x, n):
        x = lax.fori_loop(0, n, lambda _, x: jnp.sin(lax.psum(x, "data")), x)
        return lax.ppermute(x, "trial", [(0, 1), (1, 0)]), n

    found = facts(steps, np.ones((3, 4), np.float32), np.int32(2))
    assert found.while_loops == 1
    assert sorted(found.collectives, key=lambda c: c.kind) == [
        Collective("all-reduce", ("data",), ("f32",), 12, 1),
        Collective("collective-permute", ("trial",), ("f32",), 12, 0),
    ]
    assert [c.kind for c in found.over("data")] == ["all-reduce"]


def test_products_are_counted_by_the_types_of_their_operands() -> None:
    def products(codes, values):
        whole = lax.dot(codes, codes, preferred_element_type=jnp.int32)
        return whole, values @ values

    found = facts(products, np.ones((64, 64), np.int8), np.ones((64, 64), np.float32))
    assert found.products == Counter({Product("s8", "s8", "s32"): 1, Product("f32", "f32", "f32"): 1})


def test_a_callback_is_a_host_transfer() -> None:
    assert not facts(jnp.sin, np.ones(4, np.float32)).host_transfers
    told = partial(jax.pure_callback, np.sin, jax.ShapeDtypeStruct((4,), np.float32))
    assert facts(told, np.ones(4, np.float32)).host_transfers


def test_donated_arguments_are_found() -> None:
    def swap(x, y):
        return y + 1, x + 1

    arguments = np.ones(4, np.float32), np.ones((2, 3), np.float32)
    assert facts(swap, *arguments).donated == frozenset()
    assert facts(swap, *arguments, donate_argnums=0).donated == {(1, 0)}


def test_donated_arguments_of_a_program_with_a_tuple_of_very_many_are_found() -> None:
    header = "HloModule m, input_output_alias={ {0}: (0, {2}, may-alias), {1}: (0, {}, may-alias) }"
    assert donated(f"{header}\n{{5}}: (6, {{}}") == {(0, 2), (1, 0)}


def test_the_shapes_of_a_tpu_program_are_read() -> None:
    text = """HloModule one
%fused (p.1: s8[2,64]) -> s32[2,64] {
  %p.1 = s8[2,64]{1,0:T(8,128)(4,1)S(1)} parameter(0)
  ROOT %c.2 = s32[2,64]{1,0:T(8,128)} convolution(%p.1, %p.1), dim_labels=bf_io->bf
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %s.3 = (f32[8]{0:T(128)S(5)}, /*index=1*/f32[8]{0:T(128)}, u32[]{:S(2)}) copy-start(%a)
}
"""
    assert [one.opcode for one in parse(text)] == ["parameter", "convolution", "copy-start"]
    found = read_program(text, MESH)
    assert found.products == {Product("s8", "s8", "s32"): 1}
    assert found.host_transfers == ("s.3",)
