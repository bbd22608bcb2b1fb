"""The numbers of arXiv:2208.09684, in the form of our own tables, so that both can stand side by side.

The files lie in `experiments/published/`; their first lines say where the numbers come from and how exact they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bertjax.artifact.size import size_bytes_fp32, size_bytes_paper
from bertjax.model.sizes import encoder_linear_count, param_count, size_config
from bertjax.report.tables import clean
from bertjax.sweep.experiments import installed_folder
from bertjax.sweep.results import RESULT_COLUMNS

PAPER = "arXiv:2208.09684"
PUBLISHED_TASK = "mean over eight GLUE tasks"
"""The one pseudo-task that the published means make: single tasks were not published."""


def published_file(name: str) -> Path:
    """A file of published numbers, in a checkout or in an installed wheel."""
    return installed_folder() / "published" / name


def figure_one() -> pd.DataFrame:
    """Figure 1, digitised: size, methods, sparsity, score (points), size_mb (rounded), approx (0 or 1)."""
    return _read("movva2022_figure1.csv")


def published_table_one() -> pd.DataFrame:
    """Table 1 as printed: name (the size), size_mb, methods, factor."""
    return _read("movva2022_table1.csv").rename(columns={"size": "name"})


def figure_one_results() -> pd.DataFrame:
    """Figure 1 as rows of `tables.clean`: one pseudo-task, one seed, sizes by the paper's formula from exact counts."""
    rows = []
    for point in figure_one().to_dict("records"):
        config = size_config(point["size"])
        total, linear = param_count(config), encoder_linear_count(config)
        bits = 8 if "Q" in point["methods"] else None
        rows.append(dict.fromkeys(RESULT_COLUMNS) | {
            "trial_id": f"{PAPER} {point['size']} {point['methods']} {point['sparsity']:g}", "task": PUBLISHED_TASK,
            "model": PAPER, "size": point["size"], "num_hidden_layers": config.num_hidden_layers,
            "methods": point["methods"], "sparsity": point["sparsity"], "weight_bits": bits, "activation_bits": bits,
            "seed": 0, "status": "done", "score": point["score"], "score_movva": point["score"], "params": total,
            "learning_rate": np.nan, "size_bytes_fp32": size_bytes_fp32(total),
            "size_bytes_paper": size_bytes_paper(total, linear, bits, point["sparsity"]),
        })
    return clean(pd.DataFrame(rows))


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(published_file(name), comment="#", keep_default_na=False)
