"""The experiment's configuration: read, overridden, checked all at once, turned into objects."""

import difflib
import inspect
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from utils.config_fields import ARGUMENT_TYPES, FIELDS, OPTIONAL
from utils.errors import UserError
from utils.nested import merge, no_number, read_json

Problem = tuple[str, str]
"""A key of the configuration, and what is wrong there."""

HANDED = {
    "arch": ("fs", "n_sleep_epochs"),
    "optimizer": ("params",),
    "lr_scheduler": ("optimizer",),
    "loss": ("class_counts",),
    "context.model": ("n_inputs",),
    "context.optimizer": ("params",),
}
"""The components, and what the program hands to their classes besides `args`, if their constructors name it."""

_RELEASED_LOSS = "weighted_CrossEntropyLoss"


class ConfigParser:
    """A checked configuration. Keys that are not given have their published values.

    Parameters
    ----------
    path : Path
        JSON file. Its key `extends` names another one, relative to it, that it changes.
    overrides : sequence of str
        `key.path=value` each, the value as JSON or, failing that, as text.
    modules : mapping of str to sequence of modules
        For `metrics` and each key of HANDED: where to look the names up, in order.
    try_out : callable
        Is given this configuration and the top-level keys that have problems; makes the objects of the others, uses
        them once, and yields the problems.

    Attributes
    ----------
    values : dict
        The resolved configuration: plain JSON values.
    notes : list of str
        What was understood otherwise than it was written, a sentence each.

    Raises
    ------
    UserError
        All problems of the configuration at once, a line each.
    """

    def __init__(
        self,
        path: Path,
        overrides: Sequence[str],
        modules: Mapping[str, Sequence[ModuleType]],
        try_out: Callable[["ConfigParser", Collection[str]], Iterable[Problem]],
    ) -> None:
        self._modules = modules
        given, self.notes = _translate(merge(read_json(path), _nested(overrides)))
        absent = {block for block in OPTIONAL if given.get(block) is None}
        self.values = {key: value for key, value in merge(_published(absent), given).items() if key not in absent}
        problems = list(_problems(self.values))
        faulty = {key.split(".")[0] for key, _ in problems}
        named = [key for key in modules if key.split(".")[0] in self.values.keys() - faulty]
        problems += [problem for key in named for problem in self._name_problems(key)]
        problems += try_out(self, {key.split(".")[0] for key, _ in problems})
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
        """Sleep epochs in one input of the network: the one that is scored, and those before and after it."""
        return 1 + sum(self["data_loader.args.context"])

    def init_obj(self, key: str, **handed: Any) -> Any:
        """Make the object of component `key`, or None where the configuration says null.

        Parameters
        ----------
        key : str
            One of HANDED.
        **handed
            What HANDED names for this component. A class gets what its constructor names.
        """
        if self[key] is None:
            return None
        component = self._look_up(key, self[key]["type"])
        parameters = inspect.signature(component).parameters
        taken = {name: value for name, value in handed.items() if name in parameters}
        return component(**self[key].get("args", {}), **taken)

    def functions(self, key: str) -> dict[str, Callable[..., Any]]:
        """Functions that the list at `key` names, by name, in its order."""
        return {name: self._look_up(key, name) for name in self[key]}

    def _choices(self, key: str) -> list[str]:
        """List the names that may stand at `key`."""
        names = ((module, name) for module in self._modules[key] for name in getattr(module, "__all__", vars(module)))
        return [name for module, name in names if not name.startswith("_") and callable(getattr(module, name, None))]

    def _module_problems(self, key: str) -> Iterator[str]:
        """Name what stands in `__all__` of the project's modules and not in them."""
        for module in self._modules[key]:
            missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
            if missing and "__all__" in vars(module):
                yield f"{_file(module)} has no {', '.join(missing)}, which its __all__ names."

    def _hidden(self, key: str, name: str) -> str:
        """Name the file that defines the class `name` and does not list it in its `__all__`; empty if none does."""
        for module in self._modules[key]:
            found = vars(module).get(name)
            if "__all__" in vars(module) and inspect.isclass(found) and found.__module__ == module.__name__:
                return _file(module)
        return ""

    def _look_up(self, key: str, name: str) -> Any:
        return next(getattr(module, name) for module in self._modules[key] if hasattr(module, name))

    def _name_problems(self, key: str) -> Iterator[Problem]:
        """Say what is wrong with the names and arguments at `key`, where classes or functions are named."""
        value, choices = self[key], self._choices(key)
        names = value if isinstance(value, list) else [] if value is None else [value["type"]]
        unknown = [name for name in names if name not in choices]
        for problem in self._module_problems(key):
            yield key, problem
        for name in unknown:
            file = self._hidden(key, name)
            hint = f"it is in {file}, but not in its __all__. Add it there." if file else _meant(name, choices)
            yield key, f"nothing is named {name!r}{': ' if file else '.'}{hint}"
        if isinstance(value, dict) and not unknown:
            yield from _argument_problems(key, self._look_up(key, value["type"]), value.get("args", {}))
        monitor: Any = dict(_leaves(self.values)).get("trainer.monitor")
        if key == "metrics" and FIELDS["trainer.monitor"].accepts(monitor):
            if monitor.split()[1] not in [*value, "loss"]:
                listed = ", ".join(value)
                yield "trainer.monitor", f"{monitor.split()[1]!r} is neither one of metrics ({listed}) nor loss."


def _published(absent: Collection[str]) -> dict[str, Any]:
    """Nest the published values of all keys but those of blocks that are absent."""
    values: dict[str, Any] = {}
    for key, field in FIELDS.items():
        if key.split(".")[0] not in absent:
            values = merge(values, _at(key, field.published))
    return values


def _translate(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Understand what the released project's configuration, or an older one, says in other words."""
    values, notes = dict(given), []
    if isinstance(loss := values.get("loss"), str):
        name = "ClassAwareLoss" if loss == _RELEASED_LOSS else loss
        values["loss"] = {"type": name}
        notes.append(f'loss: "{loss}" is understood as the class {name}.')
    trainer = values.get("trainer")
    monitor = trainer.get("monitor") if isinstance(trainer, dict) else None
    if isinstance(monitor, str) and isinstance(trainer, dict) and " val_" in monitor:
        shorter = monitor.replace(" val_", " ")
        values["trainer"] = trainer | {"monitor": shorter}
        notes.append(f'trainer.monitor: "{monitor}" is understood as "{shorter}" of the set that is evaluated.')
    arch = values.get("arch")
    arguments = arch.get("args") if isinstance(arch, dict) else None
    if isinstance(arch, dict) and isinstance(arguments, dict) and "fs" in arguments:
        values["arch"] = arch | {"args": {name: value for name, value in arguments.items() if name != "fs"}}
        values = merge(values, _at("data_loader.args.fs", arguments["fs"]))
        notes.append(f"arch.args.fs: understood as data_loader.args.fs={json.dumps(arguments['fs'])}.")
    return values, notes


def _at(key: str, value: Any) -> dict[str, Any]:
    """Nest a value at a dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


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
        nested = merge(nested, _at(key, value))
    return nested


def _problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Say what is wrong with keys and values, as far as that needs no class."""
    given = dict(_leaves(values))
    absent = set(OPTIONAL) - values.keys()
    fields = {key: field for key, field in FIELDS.items() if key.split(".")[0] not in absent}
    for key in sorted(given.keys() - FIELDS.keys()):
        is_group = any(field.startswith(f"{key}.") for field in FIELDS)
        yield key, "will not do; it takes an object {...}." if is_group else f"unknown key.{_meant(key, fields)}"
    for key in (key for key in fields if key in given):
        if not fields[key].accepts(given[key]):
            yield key, f"{json.dumps(given[key])} will not do; it takes {fields[key].description}."
        elif key in HANDED and given[key] is not None:
            for extra in given[key].keys() - {"type", "args"}:
                yield f"{key}.{extra}", f"unknown key.{_meant(extra, ['type', 'args'])}"
            if not isinstance(given[key].get("args", {}), dict):
                yield f"{key}.args", f"{json.dumps(given[key]['args'])} will not do; it takes an object of arguments."


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values, down to the keys of FIELDS."""
    groups = {key.rsplit(".", depth)[0] for key in FIELDS for depth in range(1, key.count(".") + 1)}
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and dotted in groups:
            yield from _leaves(value, f"{dotted}.")
        else:
            yield dotted, value


def _argument_problems(key: str, component: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """Arguments that the class does not know, those it needs and does not get, and those of another type."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(component).parameters.items()
        if name not in HANDED[key] and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    }
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in sorted(arguments.keys() - parameters.keys()):
        if not takes_any:
            yield f"{key}.args.{name}", f"unknown key.{_meant(name, parameters)}"
    for name, parameter in parameters.items():
        annotation = parameter.annotation  # a class, or its name in modules that put off the evaluation
        accepts, what = ARGUMENT_TYPES.get(str(getattr(annotation, "__name__", annotation)), (None, ""))
        if name in arguments:
            value = arguments[name]
            if accepts and value is not parameter.default and not accepts(value):
                yield f"{key}.args.{name}", f"{json.dumps(value)} will not do; it takes {what}."
        elif parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            yield f"{key}.args.{name}", f"missing; {getattr(component, '__name__', key)} needs it."


def _meant(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name, or list the known ones."""
    choices = [choice for choice in known if not choice.startswith("_")]
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    near = near or [choice for choice in choices if choice.split(".")[-1] == name.split(".")[-1]][:1]
    listed = f" Known here: {', '.join(choices)}." if len(choices) <= 24 else ""
    return f" Did you mean {near[0]!r}?" if near else listed


def _file(module: ModuleType) -> str:
    """Name the file of a module of the project."""
    return f"{module.__name__.replace('.', '/')}.py"
