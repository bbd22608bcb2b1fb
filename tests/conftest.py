"""Settings of every test: four CPU devices, exact matrix products, no network, caches that leave with the test run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is slow now and then: how long an example takes is no property of the code.
settings.register_profile("bertjax", deadline=None)
settings.load_profile("bertjax")

# Before the first import of JAX, and for the processes that tests start. Four devices hold every mesh that the laws
# compare (1x1, 2x2, 4x1, 1x4); more only cost start-up time.
# Programs here run for milliseconds and compile for seconds: without LLVM's optimizations in half the time. XLA's own
# passes are the same, and a flag that is set already wins.
_FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{_FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

_CACHE = tempfile.TemporaryDirectory(prefix="bertjax-tests-")
os.environ["BERTJAX_CACHE"] = _CACHE.name
# Tests compile the same small programs again and again. Workers share what they compiled, in the folder of the process
# that started them; with a limit to its size JAX takes a lock of it, so that none reads what another one is writing.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(_CACHE.name) / "xla")
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**34)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["HF_DATASETS_CACHE"] = str(Path(_CACHE.name) / "datasets")


@pytest.fixture(scope="session", autouse=True)
def cache_dir() -> Iterator[Path]:
    """The cache root of this test process, empty at its start and removed at its end."""
    yield Path(_CACHE.name)
    _CACHE.cleanup()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with `glue/` and `models/` that `BERTJAX_TEST_DATA` names; skips the test without one."""
    folder = os.environ.get("BERTJAX_TEST_DATA")
    if not folder:
        pytest.skip("BERTJAX_TEST_DATA names no folder of real data")
    if not (Path(folder) / "glue").is_dir():
        pytest.fail(f"BERTJAX_TEST_DATA must be a folder with glue/ and models/, got {folder}")
    return Path(folder).resolve()  # tests link to what lies in it
