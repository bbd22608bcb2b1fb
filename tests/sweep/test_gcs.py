"""A sweep whose run directory is gs://..., against an emulator of Google Cloud Storage, in real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bertjax.study import StudyConfig
from bertjax.sweep.run import run_study
from tests.processes import ONE_DEVICE, finished, free_place, started
from tests.sweep.test_killed import assert_same, write_experiment
from tests.sweep.test_ray import contents

pytestmark = pytest.mark.gcs
URL = "gs://bucket/run"

EMULATOR = """
import sys, time
from gcp_storage_emulator.server import RequestHandler, create_server
RequestHandler.timeout = 5  # it serves one request at a time: one of a stopped process must not hold up the others
create_server("localhost", int(sys.argv[1]), in_memory=False, data_dir=sys.argv[2], default_bucket="bucket").start()
time.sleep(3600)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What makes gs:// an emulator's, for processes that tests start."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", EMULATOR, str(port), str(tmp_path / "emulator")],
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    place = f"http://localhost:{port}"
    while True:
        try:
            socket.create_connection(("localhost", port)).close()
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)
    yield {"STORAGE_EMULATOR_HOST": place, "TENSORSTORE_GCS_HTTP_URL": place,
           "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}  # it asks over gRPC, which the emulator does not speak
    server.kill()
    server.wait()


def start(experiment: Path, run_dir: str, environment: Mapping[str, str], machine: Path) -> subprocess.Popen[str]:
    """A sweep on a machine, which is the folder of its caches."""
    command = [sys.executable, "-m", "bertjax", "sweep", str(experiment), "--run-dir", run_dir, "--keep-models", "all",
               "--checkpoint-minutes", "0.005", "--mesh", ONE_DEVICE]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env=os.environ | dict(environment) | {"BERTJAX_CACHE": str(machine)})


def test_another_machine_goes_on_from_the_bucket(
    study: StudyConfig, tmp_path: Path, environment: dict[str, str]
) -> None:
    """After SIGTERM in the middle of the training; the results are those of a folder."""
    experiment = write_experiment(replace(study, methods=("none", "K")), tmp_path)
    with start(experiment, str(tmp_path / "local"), {}, tmp_path / "here") as process:
        _, log = process.communicate()
    assert process.returncode == 0, log
    with start(experiment, URL, environment, tmp_path / "one") as process:
        emulated = tmp_path / "emulator"
        while process.poll() is None and not list(emulated.rglob("*manifest.json")):
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)  # its training is shorter than the start of a second process
        with start(experiment, URL, environment, tmp_path / "two") as second:
            out, log = second.communicate()
        assert second.returncode == 75 and f"{URL} is in use by process {process.pid}" in log, log
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        _, log = process.communicate()
    assert process.returncode == 143, log
    with start(experiment, URL, environment, tmp_path / "two") as process:
        out, log = process.communicate()
    assert process.returncode == 0 and "goes on after step" in log, log
    assert f"results: {URL}/results.csv" in out
    program = "import fsspec, sys\nfsspec.filesystem('gs').get('bucket/run', sys.argv[1], recursive=True)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "fetched")], check=True,
                   env=os.environ | environment)
    ours, theirs = (pd.read_csv(tmp_path / name / "results.csv", dtype={"trial_id": str}).drop(columns="train_seconds")
                    for name in ("fetched", "local"))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    for path in (tmp_path / "local").glob("*/*/model/model.safetensors"):
        assert (tmp_path / "fetched" / path.relative_to(tmp_path / "local")).read_bytes() == path.read_bytes()
    assert (tmp_path / "fetched" / "report.html").exists() and not (tmp_path / "fetched" / "lock.json").exists()
    assert not list((tmp_path / "fetched").glob("checkpoints/*/program.json"))


def test_several_processes_share_a_bucket(
    study: StudyConfig, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two machines with their own caches; the second run goes on from the checkpoint of the first, in the bucket."""
    experiment, place = write_experiment(replace(study, methods=("none", "K")), tmp_path), free_place()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def commands(run_dir: str, count: int = 2, minutes: float = 10) -> list[list[object]]:
        several = ["--coordinator", place, "--num-processes", count, "--process-id"] if count > 1 else []
        return [["-c", f"import os, sys; os.environ['BERTJAX_CACHE'] = {str(tmp_path / f'cache{index}')!r}; "
                       "from bertjax.cli import main; main(sys.argv[1:])",
                 "sweep", experiment, "--run-dir", run_dir, "--keep-models", "all", "--mesh", "trial=2,data=2",
                 "--checkpoint-minutes", minutes, *several, *([index] if several else [])] for index in range(count)]

    finished(commands(str(tmp_path / "local"), 1))
    with started(commands(URL, minutes=0.02)) as running:
        while not [path for path in (tmp_path / "emulator").rglob("*manifest.json") if "checkpoints" in str(path)]:
            assert all(process.poll() is None for process in running), [process.communicate() for process in running]
            time.sleep(0.05)
        running[1].send_signal(signal.SIGTERM)
        logs = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [143, 143], logs
    logs = finished(commands(URL))
    assert "goes on after step" in logs[0]
    program = "import fsspec, sys\nfsspec.filesystem('gs').get('bucket/run', sys.argv[1], recursive=True)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "fetched")], check=True)
    assert_same(tmp_path / "fetched", tmp_path / "local")


@pytest.mark.ray
def test_tasks_of_ray_share_the_bucket(
    study: StudyConfig, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(study, methods=("none", "K", "P", "KP"), seeds=(0, 1), max_trials_per_program=2)
    run_study(asked, tmp_path / "whole", mesh=ONE_DEVICE)
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    for name, value in (environment | settings).items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    command = [sys.executable, "-m", "bertjax", "sweep", str(write_experiment(asked, tmp_path)), "--run-dir", URL,
               "--epochs", str(study.train.epochs), "--mesh", ONE_DEVICE, "--executor", "ray",
               "--ray-address", cluster.address]
    done = subprocess.run(command, capture_output=True, text=True)
    cluster.shutdown()
    assert done.returncode == 0, done.stderr
    program = "import fsspec, sys\nfsspec.filesystem('gs').get('bucket/run', sys.argv[1], recursive=True)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "fetched")], check=True)
    assert contents(tmp_path / "fetched") == contents(tmp_path / "whole")
    assert not list((Path(os.environ["BERTJAX_CACHE"]) / "runs").glob("*"))  # working copies are given up
