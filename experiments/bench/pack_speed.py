"""Seconds and memory of packing and of loading a BERT-base: random weights, int8, 60 % of the encoder's weights zero.

Claim: packed and written in less than 20 s and loaded in less than 5 s on two cores, with at most 2.5 times the 438 MB
of its float32 weights in memory, the process and the weights themselves included.
Command: `python experiments/bench/pack_speed.py` (`--entropy` for entropy coding, `--float` for float32 weights)
Each is measured in a process of its own, by the kernel's account of its memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from bertjax.artifact.packed.file import read_packed, write_packed
from bertjax.artifact.packed.pack import pack, packed_bytes, size_bytes_entropy, unpack
from bertjax.config import FLOAT, QuantizeConfig
from bertjax.model.layout import param_shapes
from bertjax.model.sizes import size_config
from bertjax.params import ENCODER_KERNELS, Params, count, nest, num_bytes, paths, select

SPARSITY = 0.6


def random_params() -> Params:
    """Normal weights; the smallest of each encoder kernel are zero."""
    draw = np.random.default_rng(0)
    shapes = param_shapes(size_config("base"))
    params = nest({path: 0.02 * draw.standard_normal(shape, np.float32) for path, shape in shapes.items()})
    pruned = paths(select(params, ENCODER_KERNELS))
    for path, weight in paths(params).items():
        if pruned[path]:
            size = np.abs(weight)
            weight[size < np.partition(size.reshape(-1), int(SPARSITY * size.size))[int(SPARSITY * size.size)]] = 0
    return params


def peak_bytes() -> int:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_pack(path: str, quantize: QuantizeConfig, entropy: bool) -> str:
    """A line about packing and writing, and one about what was written."""
    params = random_params()
    start = time.perf_counter()
    packed = pack(params, quantize, entropy=entropy)
    write_packed(path, packed, {})
    seconds = time.perf_counter() - start
    line = _line("packed", seconds, peak_bytes(), num_bytes(params))
    size = Path(path).stat().st_size
    of_parts = ", ".join(f"{part} {found.total:,}" for part, found in packed_bytes(packed).items())
    return (f"{line}\n{count(params):,} parameters in {size:,} bytes ({of_parts}; with empirical entropy "
            f"{size_bytes_entropy(packed):,})")


def measure_load(path: str) -> str:
    """A line about reading and restoring."""
    start = time.perf_counter()
    packed, _ = read_packed(path)
    params = unpack(packed)
    return _line("loaded", time.perf_counter() - start, peak_bytes(), num_bytes(params))


def main() -> None:
    """Prints three lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entropy", action="store_true")
    parser.add_argument("--float", action="store_true")
    options = parser.parse_args()
    quantize = FLOAT if options.float else QuantizeConfig()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.packed")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            print(pool.apply(measure_pack, (path, quantize, options.entropy)))
            print(pool.apply(measure_load, (path,)))


def _line(what: str, seconds: float, peak: int, weights: int) -> str:
    return f"{what} in {seconds:.1f} s, at most {peak / 1e6:,.0f} MB ({peak / weights:.2f} times the float32 weights)"


if __name__ == "__main__":
    main()
