"""A Google Cloud in a folder, for the scripts of gcp/."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GCP = HERE.parents[1] / "gcp"
RESULTS = "trial_id,task,model,methods,seed,status\naaaa,rte,tiny,Q,0,done\nbbbb,rte,tiny,QKP,1,failed\n"
QUOTA = "Quota 'TPUV5sPreemptibleLitepodPerProjectPerZoneForTPUAPI' exhausted. Limit 16 in zone z"
STOCKOUT = '{ "code": 8, "message": "There is no more capacity in the zone" }'
COSTS = "costs money for as long as it exists: gcp/delete removes it"


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


class Cloud:
    """A folder that the fake gcloud keeps its state in, and the environment in which the scripts find it."""

    def __init__(self, fake: Path) -> None:
        self.fake = fake
        self.processes: list[subprocess.Popen[str]] = []
        for name in ("bin", "faults", "started", "bucket/bucket/tpu/report", "bucket/bucket/tpu/trials/aaaa"):
            (fake / name).mkdir(parents=True)
        (fake / "bin" / "gcloud").symlink_to(HERE / "fake_gcloud.sh")
        (fake / "remote-bin").symlink_to(HERE / "fake_host")
        for name, text in (("bertjax-1-py3-none-any.whl", "wheel"), ("constraints.txt", "jax==0.10.2"), ("job.sh", ""),
                           ("bucket/bucket/tpu/results.csv", RESULTS), ("bucket/bucket/tpu/report/table.csv", "table"),
                           ("bucket/bucket/tpu/trials/aaaa/config.json", "{}")):
            (fake / name).write_text(text)
        self.environment = {
            "PATH": f"{fake / 'bin'}:{os.environ['PATH']}", "HOME": str(fake), "FAKE": str(fake), "PROJECT": "project",
            "ZONE": "zone", "BUCKET": "bucket", "TPU_NAME": "tpu", "WHEEL": str(fake / "bertjax-1-py3-none-any.whl"),
            "CONSTRAINTS": str(fake / "constraints.txt"), "FETCH_DIR": str(fake / "home"), "POLL_SECONDS": "0",
            "RETRY_SECONDS": "0", "RETRIES": "2"}

    def start(self, verb: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        self.processes.append(subprocess.Popen(
            [GCP / verb, *arguments], env=self.environment | settings, cwd=self.fake, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return self.processes[-1]

    def __call__(self, verb: str, *arguments: str, code: int = 0, **settings: str) -> str:
        """Runs a verb, checks its exit code and returns what it says."""
        process = self.start(verb, *arguments, **settings)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        return out + errors

    def fault(self, match: str, **how: object) -> None:
        """See `find_fault` of the fake gcloud."""
        lines = [f"{name}={shlex.quote(str(value))}" for name, value in {"match": match, **how}.items()]
        (self.fake / "faults" / f"{len(list(self.fake.glob('faults/*.sh')))}.sh").write_text("\n".join(lines))

    def job(self, script: str) -> None:
        """What bertjax does on a host; `attempt` counts its starts there, `hold` waits for `go`."""
        (self.fake / "job.sh").write_text(script)

    def go(self) -> None:
        (self.fake / "go").touch()

    def calls(self, *words: str) -> list[list[str]]:
        path = self.fake / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if all(word in " ".join(call) for word in words)]

    def started(self, count: int = 0) -> dict[str, list[str]]:
        """The arguments of every start of bertjax, by host and attempt, once there are so many."""
        wait_for(lambda: len(list(self.fake.glob("started/*"))) >= count)
        return {path.name: path.read_text().split("\0")[:-1] for path in sorted(self.fake.glob("started/*"))}

    def home(self, index: int) -> Path:
        return self.fake / "hosts" / str(index) / "bertjax"

    def exists(self) -> bool:
        return (self.fake / "queued").exists()


    def end(self) -> None:
        """Waits for whatever still runs."""
        self.go()
        for process in self.processes:
            process.communicate(timeout=60)
        jobs = [Path(folder) for folder, _, files in os.walk(self.fake) if "command" in files]
        wait_for(lambda: all((job / "exit_code").exists() for job in jobs))
