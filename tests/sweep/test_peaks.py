"""What devices reach at most: arithmetic by hand, and where memory is read from."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from bertjax.config import Dtype
from bertjax.sweep import peaks
from bertjax.sweep.devices import DEVICES, KINDS, datasheet
from bertjax.sweep.peaks import measured_peak, peak_memory, product_flops
from bertjax.train.mesh import make_mesh


def test_operations_of_products_as_the_compiler_counts() -> None:
    matrix = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    counted = jax.jit(lambda x: x @ x).lower(matrix).cost_analysis()["flops"]
    assert product_flops(8, 1, 1) == counted == 2 * 8**3
    assert product_flops(8, 3, 4) == 12 * counted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bfloat16_products"])
def test_the_fastest_call_on_all_devices_counts(dtype: Dtype) -> None:
    times = itertools.accumulate([0, 5, 1, 0.5, 1, 2, 1, 4, 1, 4])  # five calls of 5, 0.5, 2, 4 and 4 seconds
    assert measured_peak(make_mesh((2, 2)), dtype, 16, lambda: next(times)) == product_flops(16, 1, 4) / 0.5
    assert next(times, None) is None


def test_products_are_computed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "PRODUCTS", {"cpu": 3})
    times = itertools.count()
    assert measured_peak(make_mesh((1, 1)), "float32", 8, lambda: float(next(times))) == product_flops(8, 3, 1)


def test_memory_is_the_fullest_devices_or_the_processs() -> None:
    def mesh(*told: Any) -> Any:
        return SimpleNamespace(local_devices=[SimpleNamespace(memory_stats=lambda one=one: one) for one in told])

    assert peak_memory(mesh({"peak_bytes_in_use": 3}, {"peak_bytes_in_use": 7}, {})) == (7, "device")
    most, holder = peak_memory(mesh(None))
    assert holder == "process" and most is not None
    block = bytearray(64 * 2**20)
    block[:: 4096] = b"x" * len(block[:: 4096])
    grown, _ = peak_memory(mesh({}))
    assert grown is not None and grown >= most and sys.getsizeof(block) < grown < 2**40


def test_datasheets_are_found_by_jaxs_name_of_a_device() -> None:
    for kind, name in (("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("NVIDIA H100 80GB HBM3", "h100")):
        assert datasheet(kind) is DEVICES[name]
    assert set(KINDS.values()) == set(DEVICES) - {"cpu"}
    assert datasheet("NVIDIA H100 PCIe") is datasheet("cpu") is None
