"""Hugging Face's `config.json` to `BertConfig` and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from bertjax.config import BertConfig, InputError, require

ProblemType = Literal["regression", "single_label_classification"]

_INTEGERS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
             "max_position_embeddings", "type_vocab_size", "pad_token_id")
_NUMBERS = ("layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout",
            "initializer_range")

_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
"""Fields that change what the model computes, with the values bertjax can run. Absent means the first one."""


def read_config(file: Path) -> BertConfig:
    """Reads a `config.json`; absent fields take `BertConfig`'s defaults, which are Hugging Face's.

    Raises:
        InputError: Not JSON, a value of the wrong type, or a model that bertjax does not run.
    """
    fields = _read_json(file)
    for name, values in _SUPPORTED.items():
        value = fields.get(name)
        require(value is None or value in values,
                f"{file}: {name} must be {json.dumps(values[0])}, got {json.dumps(value)}: "
                f"bertjax runs BERT encoders with absolute positions and exact gelu only")
    known: dict[str, Any] = {}
    for name in (*_INTEGERS, *_NUMBERS):
        if fields.get(name) is not None:
            known[name] = _number(file, name, fields[name], integer=name in _INTEGERS)
    try:
        return BertConfig(**known, num_labels=_num_labels(file, fields))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def read_label_names(file: Path) -> tuple[str, ...] | None:
    """The names of the head's outputs in order, or None where `config.json` has none or not one for each number."""
    id2label = _read_json(file).get("id2label")
    if not isinstance(id2label, dict) or not all(isinstance(name, str) for name in id2label.values()):
        return None
    numbers = [str(i) for i in range(len(id2label))]
    return tuple(id2label[i] for i in numbers) if numbers and set(id2label) == set(numbers) else None


def read_extras(file: Path) -> dict[str, Any]:
    """What `write_config` kept under "bertjax"; empty for a model from elsewhere."""
    extras = _read_json(file).get("bertjax", {})
    require(isinstance(extras, dict), f"{file}: bertjax must hold a JSON object, got {type(extras).__name__}")
    return extras


def write_config(
    file: Path, config: BertConfig, label_names: tuple[str, ...], problem_type: ProblemType,
    bertjax: Mapping[str, Any] | None = None,
) -> None:
    """Writes a `config.json` that Hugging Face's `BertForSequenceClassification` and `read_config` read.

    Without `label_names` the outputs are called LABEL_0, LABEL_1 and so on, as Hugging Face does. `bertjax` is kept
    under that name, for `read_extras`.
    """
    names = label_names or tuple(f"LABEL_{i}" for i in range(config.num_labels))
    require(len(names) == config.num_labels and len(set(names)) == len(names),
            f"label_names must be {config.num_labels} different names, got {names}")
    require(problem_type != "regression" or config.num_labels == 1,
            f"regression needs a head of 1 output, got {config.num_labels}")
    fields = {name: value for name, value in dataclasses.asdict(config).items() if name != "num_labels"}
    fields |= {name: values[0] for name, values in _SUPPORTED.items()}
    fields |= {"architectures": ["BertForSequenceClassification"], "problem_type": problem_type, "dtype": "float32",
               "id2label": {str(i): name for i, name in enumerate(names)},
               "label2id": {name: i for i, name in enumerate(names)}}
    fields |= {"bertjax": dict(bertjax)} if bertjax else {}
    file.write_text(json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: not JSON ({error.msg})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from None
    require(isinstance(fields, dict), f"{file}: must hold a JSON object, got {type(fields).__name__}")
    return fields


def _number(file: Path, name: str, value: Any, integer: bool) -> Any:
    kinds = (int,) if integer else (int, float)
    require(isinstance(value, kinds) and not isinstance(value, bool),
            f"{file}: {name} must be {'an integer' if integer else 'a number'}, got {json.dumps(value)}")
    return value if integer else float(value)


def _num_labels(file: Path, fields: dict[str, Any]) -> int:
    id2label = fields.get("id2label")
    if isinstance(id2label, dict) and id2label:
        return len(id2label)
    value = fields.get("num_labels")
    return 2 if value is None else _number(file, "num_labels", value, integer=True)
