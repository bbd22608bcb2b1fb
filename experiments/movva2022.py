"""The whole study of Movva et al. 2022, "Combining Compressions for Multiplicative Size Scaling on Natural Language
Tasks" (arXiv:2208.09684): 6 BERT sizes, 8 GLUE tasks, the 8 subsets of {Q, K, P}, 2 sparsities, 3 seeds.

Claim: Table 1 and Figure 1 of the paper: quantization and distillation help more than pruning, and their size
  reductions multiply, but for pruning with quantization.
Stated by the paper or read off its figure: the sizes, tasks and subsets; sparsities of 40 % and 60 % of the encoder's
  weights with dense embeddings; a linear pruning schedule after warm-up; int8 weights with 8-bit embeddings; K on text
  with synonyms, 3 epochs.
Not published, so chosen here: the teacher (BERT-large, fine-tuned on the task), one augmented copy of each row,
  temperature 2 and equal weights of both losses, batch 32, three seeds, two learning rates of which a slice of the
  training rows picks one for each subset. Each is a flag of `bertjax sweep`.
Source of data and models: the hub (nyu-mll/glue, google/bert_uncased_*, google-bert/bert-*-uncased), or `--data-dir`
  and `--model FOLDER/{size}`.
Command: `bertjax sweep movva2022 --run-dir runs/movva2022` (on a TPU slice or GPUs)
Cost: `bertjax plan movva2022 --device v5e:4x4` says it without a download.
Expected: `experiments/published/`; the report puts both side by side.
"""

from bertjax.config import SIZES, TrainConfig
from bertjax.study import METHODS, StudyConfig

study = StudyConfig(
    name="movva2022",
    sizes=SIZES,
    tasks=("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"),
    methods=METHODS,
    copies=(1,),
    budget="augmented_epochs",
    sparsities=(0.4, 0.6),
    learning_rates=(5e-5, 2e-4),
    seeds=(0, 1, 2),
    train=TrainConfig(epochs=3, dtype="bfloat16"),
)
