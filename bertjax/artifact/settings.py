"""How a trained model is run, as its files tell: read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from bertjax.config import FLOAT, Dtype, InputError, QuantizeConfig, require
from bertjax.model.hf_config import read_extras


class Settings(NamedTuple):
    """What a model's folder says beyond Hugging Face's fields; of a model from elsewhere the defaults."""

    quantize: QuantizeConfig
    max_length: int | None
    """Tokens of the longest text that it was trained on."""
    origin: Mapping[str, Any]
    dtype: Dtype


KINDS: dict[str, tuple[type, str]] = {
    "quantize": (dict, "a JSON object"), "origin": (dict, "a JSON object"), "max_length": (int, "an integer"),
    "dtype": (str, "a string"),
}
"""Fields that this version knows."""


def read_settings(file: Path) -> Settings:
    """The settings in a `config.json`.

    Raises:
        InputError: Not JSON, or a setting that this version does not know: a newer one wrote it, or it is damaged.
    """
    own = read_extras(file)
    newer = "a newer version of bertjax may have written it: upgrade"
    require(own.keys() <= KINDS.keys(), f"{file}: of bertjax this version knows {', '.join(KINDS)}, got "
                                        f"{', '.join(sorted(own.keys() - KINDS.keys()))}; {newer}")
    for name, value in own.items():
        kind, words = KINDS[name]
        require(isinstance(value, kind) and not isinstance(value, bool),
                f"{file}: bertjax.{name} must be {words}, got {type(value).__name__}")
    try:
        quantize = QuantizeConfig(**own["quantize"]) if "quantize" in own else FLOAT
    except (TypeError, InputError) as error:
        raise InputError(f"{file}: bertjax.quantize must hold settings of quantization ({error}); {newer}") from None
    return Settings(quantize, own.get("max_length"), own.get("origin", {}),
                    checked_dtype(str(file), own.get("dtype", "float32")))


def checked_dtype(where: str, dtype: Any) -> Dtype:
    """`dtype`. Raises `InputError` unless it is a compute type."""
    require(dtype in get_args(Dtype), f"{where}: dtype must be one of {', '.join(get_args(Dtype))}, got {dtype!r}")
    return dtype
