"""The eight subsets of {quantization, distillation, pruning} on real English, on any machine, in minutes.

Claim: the main result of arXiv:2208.09684 (figure 1) in small: compressions combine, and each subset has its own place
  between score and size.
Task: `gloss-class`, bundled: which of ten WordNet classes a dictionary gloss belongs to.
Teacher: a pretrained MiniLM with 6 layers, fine-tuned here. Students: its first 3 layers.
Command: `make demo`, or `bertjax sweep demo --run-dir runs/demo` (any model: `--model NAME_OR_FOLDER`).
Cost: at most 6 minutes on 2 CPU cores.
Expected: eight rows; the float student at least 20 points above the majority class (10 %) and under 100 %.
"""

from bertjax.config import DataConfig, TeacherConfig, TrainConfig
from bertjax.study import METHODS, StudyConfig

study = StudyConfig(
    name="demo",
    model="minilm",
    layers=(3,),
    tasks=("gloss-class",),
    methods=METHODS,
    sparsities=(0.6,),
    learning_rates=(3e-4,),
    seeds=(0,),
    teacher=TeacherConfig(epochs=2),
    # Two batch lengths: a third would compile for longer than it saves.
    data=DataConfig(max_train_examples=2000, max_length=20, max_buckets=2),
    # The checkpoint's pooler was never trained (its weights have a standard deviation of 0.009).
    train=TrainConfig(epochs=3, reinit_pooler=True),
)
