"""What a task asks of a node, by the user's word or by what nodes have, and what its process starts with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bertjax.config import InputError
from bertjax.heap import TUNABLES
from bertjax.sweep.resources import (
    default_resources,
    fits,
    in_words,
    parse_resources,
    platform_of,
    process_environment,
)


@pytest.mark.parametrize(("text", "found", "platform"), [
    ("TPU=4", {"TPU": 4}, "tpu"), ("GPU=1, CPU=8", {"GPU": 1, "CPU": 8}, "gpu"), ("CPU=16", {"CPU": 16}, "cpu")])
def test_what_is_asked_for_is_read(text: str, found: dict[str, int], platform: str) -> None:
    assert parse_resources(text) == found == parse_resources(in_words(found)) and platform_of(found) == platform


@pytest.mark.parametrize("text", ["", "TPU", "TPU=0", "GPU=0.5", "tpu=4", "memory=4", "CPU=1,CPU=2", "CPU=1,"])
def test_what_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="must read like TPU=4 or GPU=1,CPU=8, got ") as raised:
        parse_resources(text)
    assert repr(text) in str(raised.value)


def test_a_task_computes_on_one_kind() -> None:
    with pytest.raises(InputError, match="must name TPU or GPU, got both"):
        parse_resources("TPU=4,GPU=1")


def test_by_default_a_task_takes_what_every_node_of_the_best_kind_has() -> None:
    head, small, large = {"memory": 1e9}, {"CPU": 4.0}, {"CPU": 16.0}
    gpus, slices = {"CPU": 32.0, "GPU": 8.0}, {"CPU": 8.0, "TPU": 4.0}
    assert default_resources([head, large, small]) == {"CPU": 4}
    assert default_resources([head, gpus, small]) == {"GPU": 1}
    assert default_resources([head, slices, {"TPU": 8.0}, gpus]) == {"TPU": 4}
    with pytest.raises(InputError, match="--resources-per-task TPU=4 --ray-wait 30"):
        default_resources([head])


def test_a_node_fits_by_all_that_it_has() -> None:
    assert fits({"GPU": 1, "CPU": 8}, {"GPU": 2.0, "CPU": 8.0})
    assert not fits({"GPU": 1, "CPU": 9}, {"GPU": 2.0, "CPU": 8.0}) and not fits({"TPU": 1}, {"CPU": 8.0})


def test_a_process_gets_our_settings_and_no_secret() -> None:
    ours = {"HF_HOME": "h", "HF_TOKEN": "secret", "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": "c",
            "XLA_FLAGS": "x", "PATH": "p"}
    passed = {"HF_HOME": "h", "JAX_COMPILATION_CACHE_DIR": "c", "XLA_FLAGS": "x", "GLIBC_TUNABLES": TUNABLES}
    assert process_environment({"TPU": 4, "CPU": 8}, ours) == passed | {"JAX_PLATFORMS": ""}
    assert process_environment({"CPU": 8}, ours) == passed | {"JAX_PLATFORMS": "cpu", "NPROC": "8"}
    assert process_environment({"CPU": 8}, {"GLIBC_TUNABLES": "mine"})["GLIBC_TUNABLES"] == "mine"


THREADS = """
import pathlib, jax
jax.devices()
print(sum("XLAEigen" in path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_xla_computes_with_as_many_threads_as_a_task_has_cpus() -> None:
    for cpus in (1, 3):
        environment = {**os.environ, **process_environment({"CPU": cpus}, {"JAX_PLATFORMS": "cpu"}), "XLA_FLAGS": ""}
        done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True,
                              check=True)
        assert int(done.stdout) == cpus
