"""The eight subsets of {quantization, distillation, pruning} of your model on your task: a start for your own study.

Claim: none; it measures. Each subset's score and size on a dev set, mean and spread over three seeds.
Task and model: the bundled `gloss-class` and the installed MiniLM, until you name yours: `--model`,
  `--layers` (students of the first layers; all by default) and `--train-file --dev-file --text-columns --label-column`,
  or `--tasks` and `--data-dir` for GLUE.
Teacher: the same model with all its layers, fine-tuned here.
Command: `bertjax sweep subsets --run-dir runs/mine --model MODEL --train-file train.csv --dev-file dev.csv`
Cost: `bertjax plan subsets ...` says how many trials and steps.
Expected: 24 rows.
"""

from bertjax.config import TrainConfig
from bertjax.study import METHODS, StudyConfig

study = StudyConfig(
    name="subsets",
    model="minilm",
    tasks=("gloss-class",),
    methods=METHODS,
    sparsities=(0.6,),
    learning_rates=(5e-5,),
    seeds=(0, 1, 2),
    train=TrainConfig(epochs=3),
    # One program per seed: three stops to resume from, and the second and third find their compilations on disk.
    max_trials_per_program=8,
)
