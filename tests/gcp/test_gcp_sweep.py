"""`gcp/sweep`, against a fake gcloud that really runs what is sent to its two hosts."""

from __future__ import annotations

import signal

from tests.gcp.cloud import COSTS, QUOTA, RESULTS, Cloud, wait_for


def test_sweep_does_it_all(cloud: Cloud) -> None:
    said = cloud("sweep", "subsets", "--text-columns", "a b")
    assert "the study is complete" in said and COSTS not in said
    arguments = ["sweep", "subsets", "--text-columns", "a b", "--run-dir", "gs://bucket/tpu"]
    assert cloud.started() == {"w-0.1": arguments, "w-1.1": arguments}
    assert (cloud.fake / "home/results.csv").exists() and (cloud.fake / "home/logs/w-1.log").exists()
    assert not cloud.exists()


def test_sweep_goes_on_after_a_preemption_with_the_same_wheel(cloud: Cloud) -> None:
    cloud.job('[ "$attempt" -gt 1 ] || { echo changed > "$FAKE/bertjax-1-py3-none-any.whl"; hold; }')
    cloud.fault("worker.sh.* state", skip=2, preempt=1)
    said = cloud("sweep", "subsets", "--run-dir=gs://bucket/tpu", RETRIES="0")  # a preemption is no failure
    assert "the TPU is GONE; once it is ready again" in said
    assert len(cloud.calls("queued-resources create")) == 2
    assert set(map(tuple, cloud.started().values())) == {("sweep", "subsets", "--run-dir=gs://bucket/tpu")}
    assert set(cloud.started()) == {"w-0.1", "w-0.2", "w-1.1", "w-1.2"}
    wheels = [path.read_text() for path in cloud.fake.glob("former-*/hosts/*/bertjax/*.whl")]
    assert wheels == ["wheel"] * 4
    assert not cloud.exists()


def test_sweep_stops_at_once_and_deletes_when_the_command_is_wrong(cloud: Cloud) -> None:
    cloud.job("echo 'bertjax: there is no experiment subset' >&2; exit 2")
    said = cloud("sweep", "subset", code=2)
    assert "there is no experiment subset" in said
    assert len(cloud.started()) == 2 and not cloud.exists()


def test_sweep_waits_for_the_lock_of_a_process_that_is_gone(cloud: Cloud) -> None:
    cloud.job('[ "$attempt" -gt 4 ] || { echo "bertjax: gs://bucket/tpu is in use by process 7 on w-0" >&2; exit 75; }')
    said = cloud("sweep", "subsets")
    assert said.count("the run directory is in use, perhaps by a process that is gone") == 4
    assert "of at most" not in said  # no failure was counted
    assert "the study is complete" in said and len(cloud.started()) == 10 and not cloud.exists()


def test_sweep_gives_up_where_the_lock_is_held_for_long(cloud: Cloud) -> None:
    cloud.job("exit 75")
    said = cloud("sweep", "subsets", code=1, LOCK_SECONDS="0")
    assert "was still in use after 0 s (LOCK_SECONDS) (3 of at most 2 times)" in said and "gave up" in said
    assert len(cloud.started()) == 6 and not cloud.exists()


def test_sweep_starts_a_job_again_that_ended_in_an_error_without_a_failed_trial(cloud: Cloud) -> None:
    (cloud.fake / "bucket/bucket/tpu/results.csv").write_text(RESULTS.replace("failed", "done"))
    cloud.job('[ "$attempt" -gt 1 ] || { echo "ValueError: what?" >&2; exit 1; }')
    said = cloud("sweep", "subsets")
    assert "ValueError: what?" in said and "no trial is marked as failed (1 of at most 2 times)" in said
    assert "the study is complete" in said and len(cloud.started()) == 4


def test_sweep_names_the_trials_that_failed(cloud: Cloud) -> None:
    cloud.job("exit 1")
    said = cloud("sweep", "--keep", "subsets", code=1)
    assert "1 trial(s) failed:\n  bbbb rte tiny QKP 1 failed" in said
    assert COSTS in said and cloud.exists()
    cloud.job("exit 0")
    cloud("sweep", "subsets")  # an exit code of a former job ends no sweep
    assert len(cloud.started()) == 4 and not cloud.exists()


def test_sweep_starts_a_job_again_that_was_ended_and_gives_up_in_the_end(cloud: Cloud) -> None:
    cloud.job('[ "$attempt$HOSTNAME" != 1w-1 ] || exit 134')
    cloud("sweep", "subsets")
    assert len(cloud.started()) == 4
    cloud.job("exit 143")
    assert "gave up" in cloud("sweep", "subsets", code=1, RETRIES="0")
    assert len(cloud.started()) == 6 and not cloud.exists()


def test_sweep_repeats_a_setup_that_failed_on_one_host(cloud: Cloud) -> None:
    cloud.fault("worker.sh install", host=1)
    assert "could not be set up (1 of at most 2 times)" in cloud("sweep", "subsets")
    assert len(cloud.started()) == 2


def test_sweep_gives_up_without_quota(cloud: Cloud) -> None:
    cloud.fault("queued-resources create", times=9, message=QUOTA)
    assert "no quota or capacity" in cloud("sweep", "subsets", code=1)
    assert not cloud.exists()


def test_sweep_checks_its_files_before_anything_costs_money(cloud: Cloud) -> None:
    cloud("sweep", "subsets", code=2, DATA_DIR="missing")
    cloud("sweep", "subsets", "--run-dir", "here", code=2)
    assert not cloud.calls()


def test_an_interrupted_sweep_is_taken_up_again(cloud: Cloud) -> None:
    cloud.job("hold")
    process = cloud.start("sweep", "subsets")
    cloud.started(2)
    process.send_signal(signal.SIGTERM)
    assert COSTS in process.communicate(timeout=60)[1]
    assert process.returncode == 143 and cloud.exists()
    assert "nothing was started" in cloud("sweep", "demo", code=2) and cloud.exists()
    process = cloud.start("sweep", "subsets")
    wait_for(lambda: cloud.calls("worker.sh start", "subsets")[1:])
    looks = len(cloud.calls("worker.sh\\ state"))
    wait_for(lambda: cloud.calls("worker.sh\\ state")[looks:])  # every host has said that the job runs
    cloud.go()
    assert process.communicate(timeout=60) and process.returncode == 0
    assert len(cloud.started()) == 2 and not cloud.exists()
