"""What each key of a configuration may hold."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from utils.subjects import is_pattern


class Field(NamedTuple):
    """What a key of the configuration may hold."""

    accepts: Callable[[Any], bool]
    description: str


def _whole(low: int, high: int | None = None) -> Field:
    """Accept a whole number within bounds."""
    text = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Field(lambda value: type(value) is int and low <= value and (high is None or value <= high), text)


def _or_null(field: Field) -> Field:
    """Accept null as well."""
    return Field(lambda value: value is None or field.accepts(value), f"{field.description}, or null")


COMPONENT = Field(
    lambda value: isinstance(value, dict) and isinstance(value.get("type"), str),
    'an object {"type": class name, "args": {...}}',
)
_FILE_NAME = Field(
    lambda value: (
        isinstance(value, str) and value not in {"", ".", ".."} and not re.search(r'[\\/\x00-\x1f:*?"<>|]', value)
    ),
    "a name that can be a folder's",
)

_FLAG = Field(lambda value: type(value) is bool, "true or false")

FIELDS: dict[str, Field] = {
    "name": _FILE_NAME,
    "n_gpu": _whole(0),
    "seed": _whole(0),
    "arch": COMPONENT,
    "data_loader.args.batch_size": _whole(1),
    "data_loader.args.num_folds": _whole(2),
    "data_loader.args.subject_pattern": _or_null(Field(is_pattern, "a regular expression with one group")),
    "data_loader.args.context": Field(
        lambda value: isinstance(value, list) and len(value) == 2 and all(_whole(0, 20).accepts(n) for n in value),
        "two whole numbers from 0 to 20: sleep epochs before and after the one that is scored",
    ),
    "data_loader.args.resident": _or_null(_FLAG),
    "optimizer": COMPONENT,
    "lr_scheduler": _or_null(COMPONENT),
    "loss": COMPONENT,
    "evaluation.protocol": Field(lambda value: value in ("released", "holdout"), '"released" or "holdout"'),
    "evaluation.valid_subjects": Field(
        lambda value: _whole(1).accepts(value) or (type(value) is float and 0 < value < 1),
        "a number of subjects from 1, or a fraction between 0 and 1",
    ),
    "metrics": Field(
        lambda value: isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value),
        "a list of names of functions",
    ),
    "trainer.epochs": _whole(1, 100_000),
    "trainer.save_dir": Field(lambda value: isinstance(value, str) and value != "", "a folder"),
    "trainer.save_period": _whole(1),
    "trainer.verbosity": _whole(0, 2),
    "trainer.monitor": Field(
        lambda value: isinstance(value, str) and re.fullmatch(r"(max|min) \w+", value) is not None,
        '"max" or "min" and a metric or "loss", such as "max accuracy"',
    ),
    "trainer.precision": Field(lambda value: value in ("fp32", "bf16"), '"fp32" or "bf16"'),
    "trainer.compile": _FLAG,
    "trainer.tensorboard": _FLAG,
    "trainer.early_stop": _or_null(_whole(1)),
    "context.model": COMPONENT,
    "context.epochs": _whole(1, 100_000),
    "context.window": _whole(1),
    "context.batch_size": _whole(1),
    "context.optimizer": COMPONENT,
}
"""Every key of a configuration. A component's `args` are checked against the signature of its class."""

OPTIONAL = "context"
"""The block that may be missing, or null, with all its keys."""

ARGUMENT_FIELDS = {
    "bool": Field(lambda value: type(value) is bool, "true or false"),
    "int": Field(lambda value: type(value) is int, "a whole number"),
    "float": Field(lambda value: type(value) in {int, float} and math.isfinite(value), "a number"),
    "str": Field(lambda value: type(value) is str, "a text"),
}
"""What an argument that a class annotates with one of these types may hold."""
