"""The most that devices do and hold: FLOP/s of a large matrix product, measured, and the memory that was taken."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bertjax.config import Dtype
from bertjax.model.products import ROWS, activation_type, rounded_product
from bertjax.train.mesh import AXES

SIZE = {"cpu": 2048}
"""By platform: rows and columns of the matrices."""

ACCELERATOR_SIZE = 8192
"""The same elsewhere."""

PRODUCTS = {"cpu": 1}
"""By platform: products of one call, one after the other, so that calls take long enough to be timed."""

ACCELERATOR_PRODUCTS = 16
"""The same elsewhere."""

REPEATS = 5


def product_flops(size: int, products: int, devices: int) -> int:
    """Operations of square products on each device; a multiplication and addition count 2."""
    return 2 * size**3 * products * devices


def measured_peak(
    mesh: Mesh, dtype: Dtype, size: int | None = None, clock: Callable[[], float] = time.perf_counter
) -> float:
    """FLOP/s of products of square matrices, on all devices of a mesh at once; the best of `REPEATS` calls.

    Args:
        mesh: On a CPU its devices share the threads that XLA has.
        dtype: The compute type of the trials. Q's int8 products have another peak, on most accelerators twice that of
            bfloat16.
        size: Rows and columns, by default those of the platform.
        clock: Seconds.
    """
    platform = mesh.devices.flat[0].platform
    size = SIZE.get(platform, ACCELERATOR_SIZE) if size is None else size
    products = PRODUCTS.get(platform, ACCELERATOR_PRODUCTS)
    placed = NamedSharding(mesh, P(AXES))
    product = rounded_product if dtype == "bfloat16_products" else lax.dot_general

    def of_one(x: jax.Array) -> jax.Array:
        # Entries of 1/size leave a constant matrix as it is: no product overflows, and none can be left out.
        return lax.fori_loop(0, products, lambda _, y: product(y, x, ROWS), x)

    def made() -> jax.Array:
        return jnp.full((mesh.size, size, size), 1 / size, activation_type(dtype))

    run = jax.jit(jax.vmap(of_one), in_shardings=placed, out_shardings=placed)
    matrices = jax.block_until_ready(jax.jit(made, out_shardings=placed)())
    jax.block_until_ready(run(matrices))  # compiles
    taken = []
    for _ in range(REPEATS):
        start = clock()
        jax.block_until_ready(run(matrices))
        taken.append(clock() - start)
    return product_flops(size, products, mesh.size) / min(taken)


def peak_memory(mesh: Mesh) -> tuple[int | None, str]:
    """The most bytes that were ever taken, and by what: `device`, the fullest one of a mesh, or `process`.

    Devices that do not tell, as a CPU, share the process's memory; None where that is not known either.
    """
    told = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in mesh.local_devices]
    known = [count for count in told if count is not None]
    return (max(known), "device") if known else (_process_peak(), "process")


def _process_peak() -> int | None:
    """Bytes of the most memory that was resident."""
    with suppress(OSError):  # not Linux
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):  # getrusage counts what the process had before its exec, too
                return int(line.split()[1]) * 1024
    with suppress(ImportError):  # not POSIX
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None
