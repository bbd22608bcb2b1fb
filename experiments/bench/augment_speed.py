"""Sentences per second of synonym augmentation on one core.

Claim: at least 10,000.
Command: `python experiments/bench/augment_speed.py --data-dir GLUE` (a folder in GLUE's original layout)
The first copy looks every word up once; the second finds them.
"""

from __future__ import annotations

import argparse
import time

from bertjax.config import AugmentConfig, DataConfig
from bertjax.data.augment import augment_texts, wordnet
from bertjax.data.sources import load_task

TASKS = ("sst2", "mrpc", "cola")


def main() -> None:
    """Prints a line for each task and copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    data = DataConfig(data_dir=parser.parse_args().data_dir)
    start = time.perf_counter()
    thesaurus = wordnet()
    print(f"the thesaurus: {time.perf_counter() - start:.2f} s")
    for task in TASKS:
        rows = load_task(task, data).train
        texts = [*rows.first, *(rows.second or ())]
        thesaurus.found.clear()
        for copy in (1, 2):
            start = time.perf_counter()
            made = augment_texts(texts, copy, AugmentConfig())
            seconds = time.perf_counter() - start
            changed = sum(a != b for a, b in zip(texts, made, strict=True)) / len(texts)
            print(f"{task}, copy {copy}: {len(texts) / seconds:,.0f} sentences/s, {100 * changed:.0f} % changed")


if __name__ == "__main__":
    main()
