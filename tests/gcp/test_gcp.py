"""The verbs of gcp/ but `sweep`, against a fake gcloud that really runs what is sent to its two hosts."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest

from tests.gcp.cloud import COSTS, GCP, QUOTA, RESULTS, STOCKOUT, Cloud, wait_for

VERBS = ("create", "setup", "run", "status", "fetch", "delete", "sweep")


@pytest.mark.parametrize("verb", VERBS)
def test_help_dry_run_and_settings_call_nothing(cloud: Cloud, verb: str) -> None:
    arguments = {"run": ("sweep", "subsets"), "sweep": ("subsets",)}.get(verb, ())
    assert cloud(verb, "--help").startswith(f"gcp/{verb} [--dry-run]")
    said = cloud(verb, *arguments, code=2, PROJECT="", BUCKET="")
    assert said == f"gcp/{verb}: set PROJECT BUCKET in gcp/env.sh or in the environment\n"
    said = cloud(verb, "--dry-run", *arguments, WHEEL="")
    wanted = {"create": "queued-resources create tpu", "setup": "make -C", "run": "worker.sh\\ start",
              "status": "worker.sh\\ keep-log", "fetch": "storage rsync", "delete": "queued-resources delete tpu"}
    for text in wanted.values() if verb == "sweep" else [wanted[verb]]:
        assert any(line.startswith("+ ") and text in line for line in said.splitlines()), text
    assert not cloud.calls()
    assert not (cloud.fake / "home").exists()


def test_options_and_settings_are_checked(cloud: Cloud) -> None:
    assert "unknown option --keep" in cloud("create", "--keep", code=2)
    assert "takes no argument, got spot" in cloud("create", "spot", code=2)
    assert "PROVISIONING must be spot or on-demand" in cloud("create", code=2, PROVISIONING="cheap")
    for name in ("POLL_SECONDS", "RETRY_SECONDS", "RETRIES", "LOCK_SECONDS"):
        for value in ("abc", "1.5", "08"):
            said = cloud("create", "--dry-run", code=2, **{name: value})
            assert said == f"gcp/create: {name} must be a whole number, got {value}\n"


def test_create_waits_until_the_tpu_is_ready_and_makes_no_second_one(cloud: Cloud) -> None:
    said = cloud("create", SERVICE_ACCOUNT="sweep@project", CREATE_FLAGS="--network=n --internal-ips")
    assert COSTS in said
    request, = cloud.calls("queued-resources create")
    assert set(request) >= {"--node-id=tpu", "--project=project", "--zone=zone", "--accelerator-type=v5litepod-16",
                            "--runtime-version=v2-alpha-tpuv5-lite", "--spot", "--service-account=sweep@project",
                            "--valid-until-duration=6h", "--network=n", "--internal-ips"}
    for call in cloud.calls():  # every command is said
        assert any(shlex.split(line[2:]) == ["gcloud", *call] for line in said.splitlines() if line.startswith("+ "))
    cloud("create")
    assert len(cloud.calls("queued-resources create")) == 1
    cloud("delete")
    assert "--spot" not in cloud("create", PROVISIONING="on-demand")


@pytest.mark.parametrize("message", [QUOTA, STOCKOUT])
def test_create_repeats_what_quota_and_capacity_refuse(cloud: Cloud, message: str) -> None:
    cloud.fault("queued-resources create", times=2, message=message)
    cloud("create")
    assert len(cloud.calls("queued-resources create")) == 3
    cloud("delete")
    cloud.fault("queued-resources create", times=9, message=message)
    said = cloud("create", code=1)
    assert "no quota or capacity for v5litepod-16 (spot) in zone: try another ZONE" in said
    assert len(cloud.calls("queued-resources create")) == 6


def test_create_does_not_repeat_what_is_refused_for_good(cloud: Cloud) -> None:
    cloud.fault("queued-resources create", times=9, message="PERMISSION_DENIED: tpu.nodes.create")
    cloud("create", code=1)
    assert len(cloud.calls("queued-resources create")) == 1
    cloud.fault("storage ls", message="bucket not found")
    assert "BUCKET must be a bucket" in cloud("create", code=2)
    assert len(cloud.calls("queued-resources create")) == 1


@pytest.mark.parametrize(("file", "state"), [("queued", "FAILED"), ("queued", "SUSPENDED"), ("node", "PREEMPTED")])
def test_create_replaces_what_was_taken_away_or_failed(ready: Cloud, file: str, state: str) -> None:
    (ready.fake / file).write_text(state)
    ready("create")
    assert len(ready.calls("queued-resources delete", "--force")) == len(ready.calls("queued-resources create")) == 1
    assert (ready.fake / "node").read_text() == "READY\n"


def test_setup_installs_the_wheel_with_the_constraints_on_every_host_once(ready: Cloud) -> None:
    for index in (0, 1):
        log = (ready.home(index).parent / "uv.log").read_text()
        assert log == ("pip install --quiet --python venv/bin/python --constraint constraints.txt "
                       "./bertjax-1-py3-none-any.whl[tpu,gcs] jax[tpu]\n")
    assert "is installed" in ready("setup")
    Path(ready.environment["WHEEL"]).write_text("another build of the same version")
    ready("setup", EXTRAS="tpu,ray")
    assert (ready.home(1).parent / "uv.log").read_text().count("\n") == 2
    assert "must exist" in ready("setup", code=2, WHEEL="missing.whl")


@pytest.mark.parametrize("step", ["tpu-vm scp", "worker.sh install"])
def test_setup_that_fails_on_one_host_says_so_and_can_be_repeated(cloud: Cloud, step: str) -> None:
    cloud("create")
    cloud.fault(step, host=1)
    said = cloud("setup", code=1)
    assert "worker 1 failed with exit status 1" in said and COSTS in said
    cloud("setup")
    assert (cloud.home(0) / "installed").exists() and (cloud.home(1) / "installed").exists()


def test_a_broken_connection_is_tried_again(cloud: Cloud) -> None:
    cloud("create")
    cloud.fault("worker.sh install", host=1, code=255)
    cloud.fault("tpu-vm scp", message="[/usr/bin/scp] exited with return code [255].")
    assert cloud("setup").count("this may pass") == 2
    cloud.fault("tpu-vm ssh", times=9, host=0, code=255)
    assert "gave up after 2 repetitions" in cloud("setup", code=255)


def test_setup_copies_the_data_folder(cloud: Cloud) -> None:
    (cloud.fake / "my data" / "rte").mkdir(parents=True)
    (cloud.fake / "my data" / "rte" / "train.tsv").write_text("rows")
    cloud("create")
    cloud("setup", DATA_DIR="my data")
    assert [(cloud.home(index) / "data/rte/train.tsv").read_text() for index in (0, 1)] == ["rows", "rows"]


def test_run_passes_arguments_as_they_are_and_keeps_exit_code_and_log(ready: Cloud) -> None:
    ready.job('echo "to the log"; echo and errors >&2; exit 7')
    arguments = ["bench", "two words", "it's", 'a "quote"', "$HOME `id` \\ * ;", "", "line\nbreak", "ünïcode", "[1]"]
    ready("run", *arguments)
    assert ready.started(2) == {"w-0.1": arguments, "w-1.1": arguments}
    wait_for(lambda: len(list(ready.fake.glob("bucket/bucket/tpu-logs/*.log"))) == 2)
    log = (ready.fake / "bucket/bucket/tpu-logs/w-1.log").read_text()
    assert "to the log" in log and "and errors" in log and log.endswith("exit code 7\n")
    wait_for(lambda: "w-0 exit 7" in ready("status"))


def test_run_adds_the_run_directory_and_takes_no_local_one(ready: Cloud) -> None:
    ready("run", "sweep", "subsets")
    assert ready.started(2)["w-0.1"] == ["sweep", "subsets", "--run-dir", "gs://bucket/tpu"]
    assert "--run-dir must be in a bucket" in ready("run", "sweep", "subsets", "--run-dir", "runs/mine", code=2)
    assert "--run-dir must be in a bucket" in ready("run", "train", "--run-dir=runs/mine", code=2)
    assert "needs the arguments" in ready("run", code=2)
    assert len(ready.started()) == 2


def test_a_job_is_detached_and_no_second_one_starts(ready: Cloud) -> None:
    ready.job("hold")
    ready("run", "sweep", "subsets")
    wait_for(lambda: "attempt 1" in (ready.home(0) / "log").read_text())
    assert "w-0 running | attempt 1" in (said := ready("status")) and "w-1 running" in said
    assert "already running" in ready("run", "sweep", "subsets")
    assert "another job is running" in ready("run", "sweep", "demo", code=2)
    assert "nothing was installed" in ready("setup", code=1)
    ready.go()
    wait_for(lambda: ready("status").count("exit 0") == 2)
    assert set(ready.started()) == {"w-0.1", "w-1.1"}
    ready("run", "sweep", "demo")
    assert set(ready.started(4)) == {"w-0.1", "w-0.2", "w-1.1", "w-1.2"}


def test_run_that_started_on_one_host_only_starts_the_other(ready: Cloud) -> None:
    ready.job("hold")
    ready.fault("worker.sh.*start", host=1)
    assert "does not run on every worker" in ready("run", "sweep", "subsets", code=1)
    ready("run", "sweep", "subsets")
    assert set(ready.started(2)) == {"w-0.1", "w-1.1"}


def test_a_host_that_shuts_down_leaves_the_exit_code_and_one_that_dies_is_lost(ready: Cloud) -> None:
    ready.job('trap "exit 143" TERM; echo "$PPID $$" > "$HOME/pids"; hold')
    ready("run", "sweep", "subsets")
    for index, sent in ((0, signal.SIGTERM), (1, signal.SIGKILL)):
        pids = ready.home(index).parent / "pids"
        wait_for(lambda pids=pids: pids.exists() and pids.read_text().endswith("\n"))
        for pid in pids.read_text().split():
            os.kill(int(pid), sent)
    wait_for(lambda: "w-0 exit 143" in (said := ready("status")) and "w-1 lost" in said)
    (ready.home(1) / "command").unlink()


def test_run_needs_setup(cloud: Cloud) -> None:
    cloud("create")
    cloud("run", "sweep", "subsets", code=127)
    cloud.home(0).mkdir()
    shutil.copy(GCP / "worker.sh", cloud.home(0))
    assert "gcp/setup does that" in cloud("run", "sweep", "subsets", code=127)


def test_status_and_fetch_and_delete_without_a_tpu(cloud: Cloud) -> None:
    assert "tpu: NONE" in cloud("status")
    cloud("fetch")
    assert (cloud.fake / "home/results.csv").read_text() == RESULTS
    assert COSTS not in cloud("delete")


def test_fetch_takes_tables_report_and_logs_and_models_when_asked(ready: Cloud) -> None:
    ready.job("echo words; hold")
    ready("run", "sweep", "subsets")
    ready("fetch")
    assert {str(path.relative_to(ready.fake / "home")) for path in ready.fake.glob("home/**/*") if path.is_file()} == {
        "results.csv", "report/table.csv", "logs/w-0.log", "logs/w-1.log"}
    ready("fetch", "--all")
    assert (ready.fake / "home/trials/aaaa/config.json").exists()


def test_delete_repeats_what_failed(ready: Cloud) -> None:
    ready.fault("queued-resources delete", times=2, message="FAILED_PRECONDITION: not in this state")
    ready("delete")
    assert not ready.exists()
    ready("create")
    ready.fault("queued-resources delete", times=9, message="FAILED_PRECONDITION: not in this state")
    assert COSTS in ready("delete", code=1)
