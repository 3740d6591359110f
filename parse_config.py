"""The experiment's configuration: read, overridden, checked all at once, turned into objects."""

import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from utils.config_fields import ARGUMENT_FIELDS, FIELDS, OPTIONAL
from utils.errors import UserError
from utils.nested import merge, no_number, read_json
from utils.stages import N_STAGES

Problem = tuple[str, str]
"""A key of the configuration, and what is wrong there."""

Trial = Callable[[Mapping[str, Any], int], Iterable[Problem]]

RUNTIME_ARGUMENTS = {
    "arch": "n_sleep_epochs",
    "optimizer": "params",
    "lr_scheduler": "optimizer",
    "loss": "class_counts",
    "context.model": "n_inputs",
    "context.optimizer": "params",
}
"""What a component is handed by the program, besides its `args`."""


class ConfigParser:
    """A checked configuration.

    Parameters
    ----------
    path : Path
        JSON file. Its key `extends` names another one, relative to it, that it changes.
    overrides : sequence of str
        `key.path=value` each, the value as JSON or, failing that, as text.
    modules : mapping of str to sequence of modules
        For `metrics` and each key of RUNTIME_ARGUMENTS: where to look the names up, in order.
    trial : callable
        Is given the objects that could be made, by key, and the number of training epochs; yields problems of use.

    Attributes
    ----------
    values : dict
        The resolved configuration: plain JSON values.

    Raises
    ------
    UserError
        All problems of the configuration at once, a line each.
    """

    def __init__(
        self, path: Path, overrides: Sequence[str], modules: Mapping[str, Sequence[ModuleType]], trial: Trial
    ) -> None:
        self._modules, self._trial = modules, trial
        self.values = merge(read_json(path), _nested(overrides))
        if self.values.get(OPTIONAL, {}) is None:
            del self.values[OPTIONAL]
        problems = list(_problems(self.values))
        problems += [problem for key in self._sound(problems) for problem in self._name_problems(key)]
        problems += self._object_problems(self._sound(problems))
        if problems:
            raise UserError("\n".join([f"{path}:", *(f"  {key}: {text}" for key, text in problems)]))

    def __getitem__(self, key: str) -> Any:
        """Value at a dotted key such as `trainer.epochs`."""
        value: Any = self.values
        for part in key.split("."):
            value = value[part]
        return value

    @property
    def experiment_dir(self) -> Path:
        """Folder of the experiment, `<save_dir>/<name>`."""
        return Path(self["trainer.save_dir"]) / self["name"]

    @property
    def n_sleep_epochs(self) -> int:
        """Sleep epochs in one input of the network: the one that is scored and its context."""
        return 1 + sum(self["data_loader.args.context"])

    def init_obj(self, key: str, runtime_argument: object = None) -> Any:
        """Make the object of component `key`, or None where the configuration says null.

        Parameters
        ----------
        key : str
            One of RUNTIME_ARGUMENTS.
        runtime_argument : object
            What RUNTIME_ARGUMENTS names for this component; a class that does not ask for it does not get it.
        """
        if self[key] is None:
            return None
        made = self._look_up(key, self[key]["type"])
        arguments = dict(self[key].get("args", {}))
        name = RUNTIME_ARGUMENTS.get(key)
        if name in inspect.signature(made).parameters:
            arguments[str(name)] = runtime_argument
        return made(**arguments)

    def argument(self, key: str, name: str) -> Any:
        """Argument `name` of component `key`: the configuration's, else the default of its class, else None."""
        parameter = inspect.signature(self._look_up(key, self[key]["type"])).parameters.get(name)
        return self[key].get("args", {}).get(name, parameter.default if parameter else None)

    def functions(self, key: str) -> dict[str, Callable[..., Any]]:
        """Functions that the list at `key` names, by name, in its order."""
        return {name: self._look_up(key, name) for name in self[key]}

    def _sound(self, problems: Sequence[Problem]) -> list[str]:
        """List the keys with names to look up that are there and in which no problem was found so far."""
        sound = self.values.keys() - {key.split(".")[0] for key, _ in problems}
        return [key for key in self._modules if key.split(".")[0] in sound]

    def _choices(self, key: str) -> list[str]:
        names = ((module, name) for module in self._modules[key] for name in getattr(module, "__all__", vars(module)))
        return [name for module, name in names if not name.startswith("_") and callable(getattr(module, name))]

    def _look_up(self, key: str, name: str) -> Any:
        return next(getattr(module, name) for module in self._modules[key] if hasattr(module, name))

    def _name_problems(self, key: str) -> Iterable[Problem]:
        """Say what is wrong with the names and arguments at `key`, where classes and functions are named."""
        value, choices = self[key], self._choices(key)
        names = value if isinstance(value, list) else [] if value is None else [value["type"]]
        unknown = [name for name in names if name not in choices]
        for name in unknown:
            yield key, f"nothing is named {name!r}.{_meant(name, choices)}"
        if isinstance(value, dict) and not unknown:
            yield from _argument_problems(key, self._look_up(key, value["type"]), value.get("args", {}))
        monitor: Any = dict(_leaves(self.values)).get("trainer.monitor")
        if (
            key == "metrics"
            and FIELDS["trainer.monitor"].accepts(monitor)
            and monitor.split()[1] not in [*value, "loss"]
        ):
            yield "trainer.monitor", f"{monitor.split()[1]!r} is neither one of metrics ({', '.join(value)}) nor loss."

    def _object_problems(self, keys: Sequence[str]) -> Iterable[Problem]:
        """Make the objects of `keys` once and say what their classes have against their arguments."""
        made: dict[str, Any] = {}
        handed = {
            "arch": lambda: self.n_sleep_epochs,
            "optimizer": lambda: made["arch"].parameters(),
            "lr_scheduler": lambda: made["optimizer"],
            "loss": lambda: [1] * N_STAGES,
            "context.model": lambda: N_STAGES,
            "context.optimizer": lambda: made["context.model"].parameters(),
        }
        for key in (key for key in handed if key in keys):
            try:
                runtime_argument = handed[key]()
            except (KeyError, TypeError):
                continue  # what it needs could not be made, or is among the problems already
            try:
                made[key] = self.init_obj(key, runtime_argument)
            except Exception as error:  # classes of torch raise many kinds on odd arguments
                yield key, str(error)
        train_epochs: Any = dict(_leaves(self.values)).get("trainer.epochs")
        yield from self._trial(made, train_epochs if FIELDS["trainer.epochs"].accepts(train_epochs) else 0)


def _nested(overrides: Sequence[str]) -> dict[str, Any]:
    """`["trainer.epochs=5"]` as `{"trainer": {"epochs": 5}}`."""
    nested: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not key or not equals:
            raise UserError(f"--set {override}: write key.path=value, such as --set trainer.epochs=5.")
        try:
            value = json.loads(text, parse_constant=no_number)
        except (ValueError, RecursionError):
            value = text
        if key in FIELDS and FIELDS[key].accepts(text) and not FIELDS[key].accepts(value):
            value = text  # a name such as 2026
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    return nested


def _problems(values: Mapping[str, Any]) -> Iterable[Problem]:
    """Say what is wrong with keys and values, as far as it shows without the classes that they name."""
    given = dict(_leaves(values))
    fields = {key: field for key, field in FIELDS.items() if key.split(".")[0] != OPTIONAL or OPTIONAL in values}
    for key in sorted(given.keys() - FIELDS.keys()):
        yield key, f"unknown key.{_meant(key, fields)}"
    for key, field in fields.items():
        if key not in given:
            yield key, f'missing; it takes {field.description}. With "extends": "config.json" it need not be there.'
        elif not field.accepts(given[key]):
            yield key, f"{json.dumps(given[key])} will not do; it takes {field.description}."
        elif key in RUNTIME_ARGUMENTS and given[key] is not None:
            for extra in given[key].keys() - {"type", "args"}:
                yield f"{key}.{extra}", f"unknown key.{_meant(extra, ['type', 'args'])}"
            if not isinstance(given[key].get("args", {}), dict):
                yield f"{key}.args", f"{json.dumps(given[key]['args'])} will not do; it takes an object of arguments."


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted keys with their values, down to the keys of FIELDS."""
    groups = {key.rsplit(".", depth)[0] for key in FIELDS for depth in range(1, key.count(".") + 1)}
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and dotted in groups:
            yield from _leaves(value, f"{dotted}.")
        else:
            yield dotted, value


def _argument_problems(key: str, made: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterable[Problem]:
    """Arguments that the class does not know, and those it needs and does not get."""
    parameters = inspect.signature(made).parameters
    handed = RUNTIME_ARGUMENTS.get(key)
    known = [name for name in parameters if name != handed]
    for name in sorted(arguments.keys() - known):
        yield f"{key}.args.{name}", f"unknown key.{_meant(name, known)}"
    for name in known:
        annotation = parameters[name].annotation  # a class, or a text in modules that put off its evaluation
        field = ARGUMENT_FIELDS.get(getattr(annotation, "__name__", annotation))
        value = arguments.get(name, parameters[name].default)
        if field and name in arguments and value is not parameters[name].default and not field.accepts(value):
            yield f"{key}.args.{name}", f"{json.dumps(value)} will not do; it takes {field.description}."
        needed = parameters[name].default is inspect.Parameter.empty and parameters[name].kind.name not in {
            "VAR_KEYWORD",
            "VAR_POSITIONAL",
        }
        if needed and name not in arguments:
            yield f"{key}.args.{name}", f"missing; {getattr(made, '__name__', key)} needs it."


def _meant(name: str, known: Iterable[str]) -> str:
    """End of a sentence: what was probably meant, or what there is."""
    choices = [choice for choice in known if not choice.startswith("_")]
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    near = near or [choice for choice in choices if choice.split(".")[-1] == name.split(".")[-1]][:1]
    listed = f" Known here: {', '.join(choices)}." if len(choices) <= 24 else ""
    return f" Did you mean {near[0]!r}?" if near else listed
