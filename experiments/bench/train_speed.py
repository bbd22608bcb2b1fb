"""Training speed of the eight-subset sweep on SST-2 text, against Hugging Face + PyTorch, in turns on one machine.

Claim: at least 3 times the trial-examples per second of the peer with length-grouped batches, 8 times without; with
3-layer students (`--layers 3`, of a 6-layer teacher) at least 4 times the first.
Command: `python experiments/bench/train_speed.py --model FOLDER --data-dir GLUE` (the MiniLM, all 6 layers)
  `--bfloat16`: both sides multiply in bfloat16, ours by `bfloat16_products`, the peer by `torch.autocast`.
  `--compile`: the length-grouped peer with `torch.compile` too.
  `--study`: 4 trials with K, Q and P (at most 1.03, 1.10, 1.02 times the time) and 4 plain ones, on the same batches.
  `--ablate`: the sweep with one part of its step left out, to see where the time goes (two batch lengths).
  `--alternatives`: the sweep with one part of its step made in another way that was tried and not taken.
  `--profile`: the same by the device's own trace: the share of each part of the step.
  `--checkpoints`: the sweep with a checkpoint every 30 s; what one costs is at most 3 % of 10 minutes, the default.
Each side is a process of its own that waits while the other measures; all train once per round on the same rows, the
first `--rows` of the task: ours is the sweep of a task that has no more.
Compilation, evaluation and loading are not timed; compilation and the teacher's outputs are reported apart. All must do
the same work: the losses on the labels in the last quarter of each subset's steps have to agree within LOSS_NOISE.
Writes the rounds and their ratios as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bertjax.heap import TUNABLES

METHODS = ("none", "Q", "K", "P", "QK", "QP", "KP", "QKP")
GOALS = {"peer, grouped": 3.0, "peer, ungrouped": 8.0, "K": 1.03, "Q": 1.10, "P": 1.02}
GOAL_OF_FEWER_LAYERS = {"peer, grouped": 4.0}
ABLATIONS = ("backward", "optimizer", "dropout", "attention dropout", "exact gelu", "embedding gradients",
             "mask application", "mask updates", "quantization")
ALTERNATIVES = ("trials in a loop", "trials unrolled", "layers in a loop", "whole batches", "one vector",
                "whole vocabulary", "threefry dropout", "rbg dropout", "erfc gelu", "attention dropout",
                "dot_product_attention", "bfloat16", "bfloat16 products")
"""Attention's dropout is left out of one, to compare with the next, which has none."""
FLAGS = {"vectors of 512 bits": "--xla_cpu_prefer_vector_width=512", "XNNPACK": "--xla_cpu_use_xnnpack=true",
         "oneDNN": "--xla_cpu_use_onednn=true"}
"""Of XLA, by what they ask for."""
BATCH_SIZE = 32

CHECKPOINT_SECONDS, DEFAULT_SECONDS = 30, 600
"""Between two checkpoints: as they are measured, and in a sweep."""

LOSS_NOISE = 0.1
"""Between the losses of two sides at the end of a pass: heads, dropout and the order of the rows differ."""

QUIET_LOAD = 0.3
"""Processes that ran at the same time during the last minute, at most."""

Round = dict[str, dict[str, Any]]
"""What each side measured, by its name."""


class Side:
    """A process that measures once for every line it is sent."""

    def __init__(self, script: str, *arguments: object, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **(env or {})})

    def measure(self, **what: Any) -> dict[str, Any]:
        """One measurement, with the machine's load just before it."""
        assert self.process.stdin and self.process.stdout
        load = os.getloadavg()[0]
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended with exit code {self.process.wait()}")
        return {**json.loads(line), "load_before": round(load, 2)}

    def end(self) -> None:
        """Gives its memory back."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def compare_with_peer(args: argparse.Namespace) -> Iterator[Round]:
    """The sweep and its peers, in turns."""
    ours = our_side(args)
    tsv = args.task / "SST-2" / "train.tsv"
    peer = ["--serve", *model_arguments(args), "--tsv", tsv, "--threads", args.threads]
    if args.bfloat16:
        peer.append("--bfloat16")
    peers = {"peer, grouped": Side("peer_torch.py", *peer, "--group"), "peer, ungrouped": Side("peer_torch.py", *peer)}
    if args.compile:
        peers["peer, grouped, compiled"] = Side("peer_torch.py", *peer, "--group", "--compile")
    for number in range(args.rounds):
        variant = "bfloat16 products" if args.bfloat16 else None
        made = {"ours": ours.measure(methods=METHODS, seeds=[0], variant=variant),
                **{name: side.measure() for name, side in peers.items()}}
        rates = ", ".join(f"{name} {one['trial_examples_per_s']:.1f}" for name, one in made.items())
        say(f"round {number + 1}: {rates} trial-examples/s (load {made['ours']['load_before']})")
        if number == 0:
            one = made["ours"]
            say(f"not counted: {one['compilations']} lengths compiled in {one['compile_seconds']:.0f} s; "
                f"teacher outputs {one['teacher_rows_per_s']:.0f} rows/s, {one['teacher_seconds']:.1f} s a study")
        yield made
        check_losses(made)


def check_losses(made: Round) -> None:
    """Stops where two sides do not learn the same: then they do not do the same work either.

    The peer prunes all at once, and so has had more steps at the end to make up for it than ours, which prunes by and
    by: its losses with P are shown, not compared.
    """
    losses = {name: one["last_losses"] for name, one in made.items()}
    for methods in METHODS:
        of_sides = {name: of_side[methods] for name, of_side in losses.items()}
        say(f"loss at the end, {methods}: " + "; ".join(f"{name} {loss:.3f}" for name, loss in of_sides.items()))
        apart = max(of_sides.values()) - min(of_sides.values())
        if "P" not in methods and apart > LOSS_NOISE:
            raise SystemExit(f"the sides' losses must agree within {LOSS_NOISE}, got {apart:.3f} of {methods}: they do "
                             "not do the same work")


def compare_studies(args: argparse.Namespace) -> Iterator[Round]:
    """Studies of 4 trials of one kind, in turns; every second round backwards, so that a drift cancels."""
    ours = our_side(args)
    for number in range(args.rounds):
        order = ("none", "K", "Q", "P")[:: -1 if number % 2 else 1]
        made = {methods: ours.measure(methods=[methods], seeds=[0, 1, 2, 3]) for methods in order}
        say(f"round {number + 1}: " + ", ".join(f"{name} {made[name]['seconds']:.2f} s" for name in sorted(made)))
        yield made


def ablate(args: argparse.Namespace) -> Iterator[Round]:
    """The sweep with each part left out."""
    ours = our_side(args, "--buckets", 2)
    for name in ABLATIONS:
        yield from with_the_whole(ours, name, partial(ours.measure, methods=METHODS, seeds=[0], variant=name), args)
    yield from with_the_whole(ours, "one plain trial", partial(ours.measure, methods=["none"], seeds=[0]), args)


def alternatives(args: argparse.Namespace) -> Iterator[Round]:
    """The sweep with each part made in another way."""
    ours = our_side(args, "--buckets", 2)
    for name in ALTERNATIVES:
        yield from with_the_whole(ours, name, partial(ours.measure, methods=METHODS, seeds=[0], variant=name), args)
    for name, flags in FLAGS.items():
        flagged = our_side(args, "--buckets", 2, flags=flags)
        yield from with_the_whole(ours, name, partial(flagged.measure, methods=METHODS, seeds=[0]), args)
        flagged.end()


def with_the_whole(
    ours: Side, name: str, other: Callable[[], dict[str, Any]], args: argparse.Namespace
) -> Iterator[Round]:
    """The sweep as it is and another measurement, in turns."""
    for _ in range(args.rounds):
        whole, made = ours.measure(methods=METHODS, seeds=[0]), other()
        say(f"{100 * made['seconds'] / whole['seconds']:6.1f} % of {whole['seconds']:.2f} s, compiled in "
            f"{100 * made['compile_seconds'] / whole['compile_seconds']:4.0f} % of {whole['compile_seconds']:.0f} s"
            f"  {name}")
        yield {"whole": whole, name: made}


def profile(args: argparse.Namespace) -> Iterator[Round]:
    """The share of each part of the sweep's step in the time of its operations."""
    ours = our_side(args, "--buckets", 2)
    for number in range(args.rounds):
        made = ours.measure(methods=METHODS, seeds=[0], profile=True)
        total = sum(made["parts"].values())
        say(f"round {number + 1}: {made['seconds']:.2f} s; operations take {total:.2f} s on {made['cores']} cores")
        for part, seconds in made["parts"].items():
            say(f"{100 * seconds / total:6.1f} %  {part}")
        yield {"whole": made}


def checkpoints(args: argparse.Namespace) -> Iterator[Round]:
    """The sweep without checkpoints and with far more than it takes by default, in turns."""
    ours = our_side(args, "--buckets", 2)
    for number in range(args.rounds):
        made = {"without": ours.measure(methods=METHODS, seeds=[0]),
                "with": ours.measure(methods=METHODS, seeds=[0], checkpoint_seconds=CHECKPOINT_SECONDS)}
        without, written = made["without"]["seconds"], made["with"]["checkpoints"]
        cost = (made["with"]["seconds"] - without) / max(written, 1)
        made["with"]["seconds_each"] = round(cost, 2)
        say(f"round {number + 1}: {without:.1f} s; with {written} checkpoints of {made['with']['checkpoint_bytes']:,} "
            f"bytes {made['with']['seconds']:.1f} s: {cost:.2f} s each, {100 * cost / DEFAULT_SECONDS:.2f} % of the "
            f"{DEFAULT_SECONDS} s between two")
        yield made


def our_side(args: argparse.Namespace, *more: object, flags: str = "") -> Side:
    """bertjax's server, with the heap that `bertjax sweep` gives itself, and flags for XLA."""
    tuned = {"GLIBC_TUNABLES": TUNABLES, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    return Side("our_sweep.py", *model_arguments(args), "--data-dir", args.task, *more, env=tuned)


def shortened(data_dir: Path, rows: int, folder: Path) -> Path:
    """A GLUE folder whose SST-2 has only the first `rows` rows to train on."""
    task = folder / "SST-2"
    task.mkdir()
    with (data_dir / "SST-2" / "train.tsv").open(encoding="utf-8", newline="") as whole:
        lines = list(islice(whole, rows + 1))  # with the header
    if len(lines) <= rows:
        raise SystemExit(f"--rows must be at most {len(lines) - 1}, the rows of {whole.name}; got {rows}")
    (task / "train.tsv").write_text("".join(lines), encoding="utf-8", newline="")
    shutil.copy(data_dir / "SST-2" / "dev.tsv", task)
    return folder


def model_arguments(args: argparse.Namespace) -> list[object]:
    """What all sides are told."""
    layers = [] if args.layers is None else ["--layers", args.layers]
    return ["--model", args.model, "--rows", args.rows, *layers]


def ratios(rounds: Sequence[Round], base: str, field: str) -> dict[str, dict[str, float]]:
    """Of every other side: `field` of `base` over its own (rates), or the reverse (seconds), over its rounds."""
    made = {}
    for name in dict.fromkeys(name for one in rounds for name in one):
        if name != base:
            values = [one[base][field] / one[name][field] for one in rounds if name in one]
            if field == "seconds":
                values = [1 / value for value in values]
            summary = {"min": min(values), "median": statistics.median(values), "max": max(values)}
            made[name] = {key: round(value, 3) for key, value in summary.items()}
    return made


def machine(threads: int) -> dict[str, Any]:
    """What the numbers were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines()
             if line.startswith("model name")] if cpuinfo.is_file() else []
    return {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(), "threads": threads,
            "python": platform.python_version(), "date": time.strftime("%Y-%m-%d")}


def main() -> None:
    """Measures, prints and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a BERT, such as the MiniLM")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with SST-2/train.tsv in GLUE's layout")
    parser.add_argument("--layers", type=int, default=None, help="keep the first layers only")
    parser.add_argument("--rounds", type=int, default=3, help="at least 1; the JSON is written after each")
    parser.add_argument("--rows", type=int, default=1024, help=f"rows per round, a multiple of {BATCH_SIZE}")
    parser.add_argument("--threads", type=int, default=2, help="cores that each side may use")
    parser.add_argument("--out", type=Path, default=None, help="default: experiments/results/<mode>.json")
    parser.add_argument("--bfloat16", action="store_true", help="products in bfloat16, on both sides")
    parser.add_argument("--compile", action="store_true", help="a peer with torch.compile too")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--study", action="store_true", help="4 trials with K, Q or P against 4 plain ones")
    mode.add_argument("--ablate", action="store_true", help="the sweep with parts of the step left out")
    mode.add_argument("--alternatives", action="store_true", help="the sweep with parts made in another way")
    mode.add_argument("--profile", action="store_true", help="the share of each part of the step")
    mode.add_argument("--checkpoints", action="store_true", help="the sweep with many checkpoints against none")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    if args.rows < BATCH_SIZE or args.rows % BATCH_SIZE:
        parser.error(f"--rows must be a positive multiple of {BATCH_SIZE}, got {args.rows}")
    # Inherited by every side: XLA starts as many threads as there are cores that it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if (load := os.getloadavg()[0]) > QUIET_LOAD:
        say(f"the machine is not quiet (load {load:.1f}): PyTorch's threads wait for each other after every operation "
            "and lose several times more by it than XLA's, so the ratios will be too good")
    name, measure, base, field = (
        ("study_cost", compare_studies, "none", "seconds") if args.study else
        ("ablation", ablate, "whole", "seconds") if args.ablate else
        ("alternatives", alternatives, "whole", "seconds") if args.alternatives else
        ("profile", profile, "whole", "seconds") if args.profile else
        ("checkpoint_cost", checkpoints, "without", "seconds") if args.checkpoints else
        ("train_speed", compare_with_peer, "ours", "trial_examples_per_s")
    )
    out = args.out or Path(__file__).parents[1] / "results" / f"{name}.json"
    rounds: list[Round] = []
    made: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        args.task = shortened(args.data_dir, args.rows, Path(folder))
        for one in measure(args):
            rounds.append(one)
            made = ratios(rounds, base, field)
            write(out, {"machine": machine(args.threads), "layers": args.layers, "rows": args.rows, "ratios": made,
                        "rounds": rounds})
    for other, summary in made.items():
        goals = GOALS if args.layers is None else GOAL_OF_FEWER_LAYERS
        goal = f" (goal {goals[other]})" if other in goals else ""
        what = f"{other}, seconds over those of {base}" if field == "seconds" else f"{base} over {other}"
        say(f"{what}: min {summary['min']:.2f}, median {summary['median']:.2f}, max {summary['max']:.2f}{goal}")
    say(f"written to {out}")


def write(out: Path, report: dict[str, Any]) -> None:
    """Replaces the file at once."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, out)


if __name__ == "__main__":
    main()
