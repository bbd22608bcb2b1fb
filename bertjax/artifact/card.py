"""The model card of a packed model: what it is, what it scores, what it weighs, how to use it."""

from __future__ import annotations

from bertjax.artifact.named_sizes import named_sizes
from bertjax.artifact.packed.model import PACKED_FILE, PackedModel
from bertjax.data.tasks import TASKS
from bertjax.model.sizes import encoder_linear_count

CARD = "README.md"

NO_SCORES = "Not measured for this file."


def packed_card(model: PackedModel, num_bytes: int, scores: str | None = None) -> str:
    """The README.md of a packed model's folder, in Markdown.

    Args:
        model: The model.
        num_bytes: Of its file.
        scores: What it scores and how that was measured; None says that nothing was.
    """
    origin, config = model.origin, model.config
    task, base = origin.get("task"), origin.get("base_model")
    title = f"{config.num_hidden_layers}-layer BERT for {task or 'text classification'}"
    answers = "one number for a text or a pair" if model.regression else f"classes: {', '.join(model.label_names)}"
    made = f" (trial `{origin['trial_id']}`)" if "trial_id" in origin else ""
    sizes = "\n".join(f"| {name} | {text} | {convention} |"
                      for name, text, convention in named_sizes(model, num_bytes))
    data = f"--task {task}" if task in TASKS else "--dev-file dev.csv"
    licence = f"The licence of the base model, {base}, applies" if base else \
        "The licence of the model that it was made from applies"
    return f"""# {title}

A compressed BERT, trained and packed by bertjax{made}. Hidden size {config.hidden_size}, at most {model.max_length} \
tokens; {answers}. `{PACKED_FILE}` is a safetensors file with a checksum.

- **Base model**: {base or 'not known'}
- **Task**: {task or 'not known'}
- **Methods**: {methods_in_words(model)}

## Scores

{scores or NO_SCORES} `bertjax evaluate` below measures it.

## Sizes

| size | | what counts |
|---|---|---|
{sizes}

## Use

```
bertjax predict  . "a text"                 # of pairs the second text: --second "another text"
bertjax evaluate . {data}
bertjax export   . --format onnx --output exported
```

In Python, `bertjax.load(".").predict(["a text"])`.

## Licence

{licence} to these weights too.
"""


def methods_in_words(model: PackedModel) -> str:
    """What was done to the model: the methods of its trial, or what can be seen of a model from elsewhere."""
    quantize, zeros = model.quantize, 100 * model.dropped / encoder_linear_count(model.config)
    letters = model.origin.get("methods") or ("Q" if quantize.weight_bits else "") + ("P" if zeros > 1 else "")
    words = {
        "Q": f"quantization-aware training (encoder weights {quantize.weight_bits}, activations "
             f"{quantize.activation_bits}, embeddings {quantize.embedding_bits or 'float, 32'} bits)",
        "K": "knowledge distillation from a fine-tuned teacher",
        "P": f"magnitude pruning ({zeros:.1f} % of the encoder's weights are zero)",
        "A": "augmented training texts with their hard labels",
    }
    used = "; ".join(words[letter] for letter in letters if letter in words)
    return f"{letters}: {used}" if used else "none (no compression)"
