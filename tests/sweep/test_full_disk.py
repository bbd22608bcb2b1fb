"""A disk that is full ends a sweep with one line that says what to do, and no trial counts as failed for it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bertjax.study import StudyConfig
from tests.sweep.test_killed import write_experiment

ON_A_SMALL_DISK = """
mount -t tmpfs -o "size=$1" none "$2" && shift 2 || exit 99
"$@"
code=$?
find . -name result.json -exec cat {} +
exit $code
"""

# The disk fills in the middle of a checkpoint, as if another program had written to it.
SWEEP = """
import sys
from types import SimpleNamespace
from bertjax.cli import main
from bertjax.train import checkpoint
checkpoint.shutil = SimpleNamespace(disk_usage=lambda folder: SimpleNamespace(free=2**40))
main(["sweep", *sys.argv[1:]])
"""


@pytest.mark.parametrize(("size", "said"), [
    pytest.param("16k", r"program\.json cannot be written \(No space left on device\)", marks=pytest.mark.slow),
    ("300k", r"the checkpoint of step \d+ could not be written, and the training goes on: .*No space left on device"),
])
def test_a_full_disk_is_said_in_a_line_that_says_what_to_do(
    study: StudyConfig, tmp_path: Path, size: str, said: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    experiment = write_experiment(replace(study, methods=("none", "P")), tmp_path)
    command = [sys.executable, "-c", SWEEP, experiment, "--run-dir", disk / "run", "--keep-models", "all",
               "--checkpoint-minutes", 0.001]
    try:
        done = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", ON_A_SMALL_DISK, "sh", size, disk, *map(str, command)],
            capture_output=True, text=True, cwd=tmp_path)
    except FileNotFoundError:
        pytest.skip("needs the command unshare")
    if done.returncode == 99 or done.stderr.startswith("unshare:"):
        pytest.skip(f"this user may mount no disk: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert re.search(said, done.stderr), done.stderr
    assert not re.search("Traceback|ERROR|Warning", done.stderr), done.stderr
    assert done.stderr.endswith("; what was written before stays: make room, and run the same command\n"), done.stderr
    assert done.stderr.count("\n") < 30 and '"failed"' not in done.stdout, done.stderr
