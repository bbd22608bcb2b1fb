"""The device mesh: trials split over `trial` without communication, batches over `data` with one all-reduce a step."""

import math
from collections.abc import Callable, Sequence

import jax
from jax.sharding import AxisType, Mesh

from bertjax.config import require
from bertjax.train.axes import AXES, axis_sizes
from bertjax.train.processes import several


def make_mesh(shape: tuple[int, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of `trial` × `data` devices. `jit` must not reason about its axes, so they are Auto."""
    devices = list(devices or jax.devices())[: math.prod(shape)]
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def parse_mesh(text: str, num_devices: int) -> tuple[int, int]:
    """What `axis_sizes` reads, where there are so many devices."""
    shape = axis_sizes(text)
    require(math.prod(shape) <= num_devices, f"--mesh {text} needs {math.prod(shape)} devices; there are {num_devices}")
    require(math.prod(shape) == num_devices or not several(),
            f"--mesh {text} must take all {num_devices} devices, as they are those of several processes")
    return shape


def mesh_shape(
    asked: str | None, num_devices: int, group_sizes: Sequence[int], batch_size: int,
    fits: Callable[[tuple[int, int]], bool] = lambda shape: True,
) -> tuple[int, int]:
    """The mesh that is asked for as `parse_mesh` reads it; without, the one of `choose_mesh`."""
    if asked is not None:
        return parse_mesh(asked, num_devices)
    return choose_mesh(num_devices, group_sizes, batch_size, fits)


def choose_mesh(
    num_devices: int, group_sizes: Sequence[int], batch_size: int,
    fits: Callable[[tuple[int, int]], bool] = lambda shape: True,
) -> tuple[int, int]:
    """The shape over `num_devices` with the least work on the busiest device; of equals, the one with most `trial`.

    Groups are padded to the trial axis and batches to the data axis, so the work of a shape is the sum over groups of
    ceil(trials / trial) × ceil(batch / data).

    Args:
        num_devices: Devices to spread over.
        group_sizes: Trials of each group.
        batch_size: Rows of a step.
        fits: Whether a device has the memory for its part; if no shape fits, the one with the fewest trials a device.
    """
    shapes = [(t, num_devices // t) for t in range(1, num_devices + 1) if num_devices % t == 0]

    def cost(shape: tuple[int, int]) -> tuple[bool, int, int]:
        trials = sum(math.ceil(size / shape[0]) for size in group_sizes)
        fitting = fits(shape)
        return not fitting, trials * math.ceil(batch_size / shape[1]) if fitting else trials, -shape[0]

    return min(shapes, key=cost)


def padded(size: int, axis: int) -> int:
    """`size` rounded up to a multiple of `axis`."""
    return math.ceil(size / axis) * axis
