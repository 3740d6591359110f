"""The keys of a configuration: what each may hold, and its published value."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from utils.files import MAX_NAME_BYTES, WRITING, is_printable
from utils.subjects import is_pattern

WORKBOOK_END = "_classification_report.xlsx"
"""What follows the experiment's name in that of the report's workbook."""


class Field(NamedTuple):
    """What a key of the configuration may hold.

    Attributes
    ----------
    published : Any
        The value of a key that is not given.
    accepts : callable
        Tells whether a value will do.
    description : str
        What will do, in words.
    """

    published: Any
    accepts: Callable[[Any], bool]
    description: str


def _whole(published: int, low: int, high: int | None = None) -> Field:
    """Accept a whole number within bounds."""
    text = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Field(published, lambda value: type(value) is int and low <= value and (high is None or value <= high), text)


def _flag(published: bool) -> Field:
    """Accept true or false."""
    return Field(published, lambda value: type(value) is bool, "true or false")


def _component(class_name: str, **arguments: Any) -> Field:
    """Accept the name of a class with its arguments."""
    return Field(
        {"type": class_name, "args": arguments},
        lambda value: isinstance(value, dict) and isinstance(value.get("type"), str),
        'an object {"type": class name, "args": {...}}',
    )


def _one_of(*values: str) -> Field:
    """Accept one of some texts, the first of them published."""
    return Field(values[0], lambda value: value in values, " or ".join(f'"{value}"' for value in values))


def _or_null(field: Field, published: Any = None) -> Field:
    """Accept null as well."""
    return Field(published, lambda value: value is None or field.accepts(value), f"{field.description}, or null")


_MAX_SIZE = 100_000
"""Largest batch, window, or number of folds: far more than anybody uses, and no number that torch cannot take."""


def _is_name(value: object) -> bool:
    """Tell whether a value can name an experiment: its folder, and the files whose names begin with it."""
    return (
        isinstance(value, str)
        and value not in {"", ".", ".."}
        and not re.search(r'[\\/:*?"<>|]', value)
        and is_printable(value)
        and len(value.encode()) <= _MAX_NAME_BYTES
    )


def is_neighbours(value: object) -> bool:
    """Tell whether a value can be `data_loader.args.context`: two whole numbers from 0 to 20."""
    return isinstance(value, list) and len(value) == 2 and all(type(n) is int and 0 <= n <= 20 for n in value)


_MAX_NAME_BYTES = MAX_NAME_BYTES - len(f"{WRITING}{WORKBOOK_END}")

_MULTI_STEP = _component("MultiStepLR", milestones=[10], gamma=0.1)

FIELDS: dict[str, Field] = {
    "name": Field("Exp1", _is_name, f"a name that a folder can have, of at most {_MAX_NAME_BYTES} bytes"),
    "n_gpu": _whole(1, low=0),
    "seed": _whole(123, low=0),
    "arch": _component(
        "AttnSleep",
        n_heads=5,
        n_tce_layers=2,
        d_ff=120,
        dropout_mrcnn=0.5,
        dropout_tce=0.1,
        activation="gelu",
        afr=True,
        tce=True,
    ),
    "data_loader.args.fs": Field(100, lambda value: type(value) is int and 1 <= value <= 10_000, "a rate in Hz"),
    "data_loader.args.batch_size": _whole(128, 1, _MAX_SIZE),
    "data_loader.args.num_folds": _whole(20, 2, _MAX_SIZE),
    "data_loader.args.subject_pattern": _or_null(Field(None, is_pattern, "a regular expression with one group")),
    "data_loader.args.context": Field(
        [0, 0], is_neighbours, "two whole numbers from 0 to 20: sleep epochs before and after the one that is scored"
    ),
    "data_loader.args.resident": _or_null(_flag(True)),
    "optimizer": _component("Adam", lr=0.001, weight_decay=0.001, amsgrad=True, fused=True),
    "lr_scheduler": _or_null(_MULTI_STEP, published=_MULTI_STEP.published),
    "loss": _component("ClassAwareLoss", a=1.0, b=1.5, c=2.0),
    "evaluation.protocol": _one_of("released", "holdout"),
    "evaluation.valid_subjects": Field(
        0.1,
        lambda value: (type(value) is int and value >= 1) or (type(value) is float and 0 < value < 1),
        "a number of subjects from 1, or a fraction between 0 and 1",
    ),
    "metrics": Field(
        ["accuracy", "macro_f1", "kappa", "mgm"],
        lambda value: isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value),
        "a list of at least one name of a function",
    ),
    "trainer.epochs": _whole(100, 1, 100_000),
    "trainer.save_dir": Field("saved/", lambda value: isinstance(value, str) and value != "", "a folder"),
    "trainer.save_period": _whole(30, low=1),
    "trainer.verbosity": _whole(2, 0, 2),
    "trainer.monitor": Field(
        "max accuracy",
        lambda value: isinstance(value, str) and re.fullmatch(r"(max|min) \w+", value) is not None,
        '"max" or "min" and a metric or "loss", such as "max accuracy"',
    ),
    "trainer.early_stop": _or_null(_whole(1, low=1)),
    "trainer.averaging": _or_null(
        Field(0.999, lambda value: type(value) is float and 0 < value < 1, "a decay between 0 and 1, such as 0.999")
    ),
    "trainer.precision": _one_of("fp32", "tf32", "bf16"),
    "trainer.cuda_graph": _flag(True),
    "trainer.compile": _flag(False),
    "trainer.tensorboard": _flag(False),
    "context.model": _component("NightGRU", width=64, n_layers=1, dropout=0.3),
    "context.epochs": _whole(8, 1, 100_000),
    "context.window": _whole(50, 1, _MAX_SIZE),
    "context.batch_size": _whole(32, 1, _MAX_SIZE),
    "context.optimizer": _component("Adam", lr=0.002),
    "initial.checkpoint": Field(
        None,
        lambda value: isinstance(value, str) and value != "" and "\0" not in value,
        "a checkpoint, the folder of a fold, or that of an experiment",
    ),
    "initial.layers": _one_of("all", "head"),
    "initial.lr_factor": Field(
        1.0, lambda value: type(value) in {int, float} and 0 < value <= 1, "a number above 0, up to 1"
    ),
    "initial.trained_on": _or_null(Field(None, lambda value: isinstance(value, str) and value.strip() != "", "a text")),
}
"""Every key of a configuration. The `args` of a component are checked against the signature of its class."""

OPTIONAL = ("context", "initial")
"""The blocks that may be missing or null as a whole: the night context, and the weights that training begins with."""

ARGUMENT_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "bool": (lambda value: type(value) is bool, "true or false"),
    "int": (lambda value: type(value) is int, "a whole number"),
    "float": (lambda value: type(value) in {int, float} and math.isfinite(value), "a number"),
    "str": (lambda value: type(value) is str, "a text"),
}
"""What an argument may hold that a class annotates with one of these types."""
