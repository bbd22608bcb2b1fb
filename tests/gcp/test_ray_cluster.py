"""The Ray cluster of TPU slices, as far as it can be tried without a cloud."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bertjax import cli
from bertjax.cli_args import Sweep
from bertjax.sweep.resources import fits, parse_resources
from tests.gcp.cloud import GCP

FILE = GCP / "ray-cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_the_cluster_has_a_head_and_tpu_hosts_and_mounts_files_that_exist(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert cluster["provider"]["type"] == "gcp" and "machineType" in head["node_config"]
    for worker in types.values():
        assert worker["resources"]["TPU"] > 0 and "acceleratorType" in worker["node_config"]
    mounted = [path for path in cluster["file_mounts"].values() if not path.startswith("~") and path != "dist"]
    assert mounted and all((GCP.parent / path).exists() for path in mounted)


def test_the_sweep_that_it_shows_has_room_on_a_slice_and_not_on_the_head(cluster: dict[str, Any]) -> None:
    text = FILE.read_text().replace("\\\n#", "")
    (line,) = (line for line in text.splitlines() if "bertjax sweep" in line and "venv" in line)
    argv = shlex.split(shlex.split(line.removeprefix("#"))[3])
    command = cli.parse(argv[argv.index("venv/bin/bertjax") + 1:])
    assert isinstance(command, Sweep) and command.executor == "ray" and command.ray_wait and command.resources_per_task
    asked = parse_resources(command.resources_per_task)
    types = cluster["available_node_types"]
    assert fits(asked, types["tpu"]["resources"]) and not fits(asked, types["head"]["resources"])


WORKER = """
cd "${BASH_SOURCE[0]%/*}"
[ "$1" = install ] && [ -f "$2" ] && [ -f "$3" ] && echo "${@:4}"
"""


@pytest.mark.parametrize(("commands", "extras"), [("head_setup_commands", "ray,gcs"),
                                                  ("worker_setup_commands", "ray,tpu,gcs")])
def test_setup_finds_the_wheel_that_is_mounted(
    commands: str, extras: str, cluster: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "bertjax" / "dist").mkdir(parents=True)
    for name, text in (("dist/bertjax-1-py3-none-any.whl", ""), ("constraints.txt", ""), ("worker.sh", WORKER)):
        (tmp_path / "bertjax" / name).write_text(text)
    (command,) = cluster[commands]
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{extras} 3.11 ray[default] ")


@pytest.mark.ray
def test_ray_takes_the_file(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config
    made = prepare_config(cluster)
    validate_config(made)
    assert made["available_node_types"]["tpu"]["resources"] == {"CPU": 8, "TPU": 4}
