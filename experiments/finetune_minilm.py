"""Plain fine-tuning of the 6-layer MiniLM, against Hugging Face PyTorch at the same settings.

Claim: bertjax's uncompressed baseline is as good as the reference implementation's, so that what compression costs is
  measured from the right place.
Settings: AdamW, weight decay 0.01 but not on biases and LayerNorm, linear decay after 10 % warm-up, batch 32, clipping
  at 1.0, pooler drawn anew, learning rate 1e-4, 3 epochs, score after the last, seeds 0, 1, 2.
Command: `bertjax sweep finetune_minilm --data-dir GLUE --run-dir runs/finetune_minilm --keep-models none`
Cost: about 40 minutes on 2 CPU cores.
Expected, mean of 3 seeds, as measured with Hugging Face PyTorch (its seeds): CoLA MCC 26.2 (23.7, 27.2, 27.7) within 3;
  MRPC mean of accuracy and F1 83.1 (81.5, 83.9, 83.9) within 2; STS-B mean of Pearson and Spearman 85.9 (86.1, 86.2,
  85.3) within 1.5.
Found: `experiments/results/finetune_minilm.csv`: CoLA 24.8 (21.7, 28.6, 24.2), MRPC 83.2 (84.0, 82.8, 82.9),
  STS-B 85.9 (85.7, 86.0, 85.9). The rows of CoLA and MRPC are of a version that drew three trials' batches from fewer
  buckets.
"""

from bertjax.config import DataConfig, TrainConfig
from bertjax.study import StudyConfig

study = StudyConfig(
    name="finetune_minilm",
    model="minilm",
    tasks=("cola", "mrpc", "stsb"),
    methods=("none",),
    learning_rates=(1e-4,),
    seeds=(0, 1, 2),
    data=DataConfig(),
    # The checkpoint's pooler was never trained (its weights have a standard deviation of 0.009).
    train=TrainConfig(epochs=3, reinit_pooler=True),
)
