"""What fills up a TPU's tiles, by hand."""

from __future__ import annotations

import pytest

from bertjax.train.tiles import Tiled, argument_arrays, tile_padding, tiled_arrays, written_arrays

PROGRAM = """HloModule jit_step, entry_computation_layout={...}

%fused (p: f32[4,60]) -> f32[4,60] {
  %p = f32[4,60]{1,0:T(4,128)} parameter(0)
  ROOT %inner = f32[999,999]{1,0:T(8,128)} negate(%p)
}

ENTRY %main (a: f32[4,128,60], b: s8[3]) -> (f32[4,60], pred[]) {
  %a = f32[4,128,60]{1,2,0:T(8,128)} parameter(0)
  %b = s8[3]{0:T(512)(128)(4,1)} parameter(1)
  %c = f32[4,60]{1,0:T(4,128)S(1)} fusion(%a), kind=kLoop, calls=%fused
  %d = bf16[2,5,128]{2,1,0:T(8,128)(2,1)} convert(%a)
  ROOT %out = (f32[4,60]{1,0:T(4,128)}, pred[]{:T(512)}) tuple(%c, %d)
}
"""


@pytest.mark.parametrize(("shape", "num_bytes", "padded"), [
    ("f32[4,128,128]{2,1,0:T(8,128)}", 4 * 4 * 128 * 128, 4 * 4 * 128 * 128),  # the short axis is not in the tile
    ("f32[4,128]{1,0:T(4,128)}", 4 * 4 * 128, 4 * 4 * 128),  # the tile is as short
    ("f32[128,4]{1,0:T(8,128)}", 4 * 128 * 4, 4 * 128 * 128),  # the short axis is the fastest
    ("f32[128,4]{0,1:T(8,128)}", 4 * 128 * 4, 4 * 128 * 8),
    ("f32[2,32,2,64,64]{3,4,2,1,0:T(8,128)}", 4 * 2 * 32 * 2 * 64 * 64, 4 * 2 * 32 * 2 * 64 * 128),
    ("s8[3]{0:T(512)(128)(4,1)}", 3, 512),
    ("f32[7]{0:T(8,128)}", 28, 4 * 8 * 128),
    ("f32[3,5]{1,0}", 60, 60),
    ("f32[3,5]", 60, 60),
    ("s32[]{:T(128)}", 4, 512),
])
def test_what_fills_up_a_tile(shape: str, num_bytes: int, padded: int) -> None:
    (array,) = tiled_arrays(shape)
    assert (array.num_bytes, array.padded_bytes) == (num_bytes, padded)


def test_arrays_are_printed_as_hlo_prints_them() -> None:
    both = tiled_arrays("(bf16[2,5,128]{2,0,1:T(8,128)(2,1)S(1)}, token[], f32[3,5]{1,0})")
    assert both == [Tiled("bf16", (2, 5, 128), (2, 0, 1), (8, 128)), Tiled("f32", (3, 5), (1, 0), ())]
    assert list(map(str, both)) == ["bf16[2,5,128]{2,0,1:T(8,128)}", "f32[3,5]{1,0}"]


def test_a_program_has_arguments_and_what_it_writes() -> None:
    assert [array.dims for array in argument_arrays(PROGRAM)] == [(4, 128, 60), (3,)]
    assert [array.dims for array in written_arrays(PROGRAM)] == [(4, 60), (2, 5, 128)]
    assert tile_padding(PROGRAM) == (
        pytest.approx((4 * 64 * 128 * 4 + 512) / (4 * 60 * 128 * 4 + 3) - 1),
        pytest.approx((4 * 4 * 128 + 2 * 2 * 8 * 128) / (4 * 4 * 60 + 2 * 2 * 5 * 128) - 1))
