"""Read a configuration, and try each object that it names once, on random data."""

import copy
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

import model.loss
import model.metric
import model.model
import model.night_context
from model.metric import RESERVED, Metric, number
from parse_config import ConfigParser, Problem
from trainer.initial import head_of
from utils.config_fields import OPTIONAL
from utils.errors import UserError
from utils.stages import N_STAGES, SLEEP_EPOCH_S

MODULES: dict[str, list[ModuleType]] = {
    "arch": [model.model],
    "optimizer": [torch.optim],
    "lr_scheduler": [torch.optim.lr_scheduler],
    "loss": [model.loss, torch.nn],
    "metrics": [model.metric],
    "context.model": [model.night_context],
    "context.optimizer": [torch.optim],
}
"""Where the names in a configuration are looked up, in order."""

Made = dict[str, Any]
"""The objects that were made so far, by their keys."""


def read_config(path: Path, overrides: Sequence[str]) -> ConfigParser:
    """Read a configuration and check it, the use of what it makes included.

    Parameters
    ----------
    path : Path
    overrides : sequence of str
        `key.path=value` each.

    Raises
    ------
    UserError
        All problems at once.
    """
    return ConfigParser(path, overrides, MODULES, try_out)


def try_out(config: ConfigParser, faulty: Collection[str]) -> Iterator[Problem]:
    """Make the objects of a configuration and use each once, as training does.

    Parameters
    ----------
    config : ConfigParser
    faulty : collection of str
        Top-level keys that have problems already; what needs them is not tried.

    Yields
    ------
    key : str
    problem : str
    """
    if "metrics" not in faulty:
        for name, metric in config.functions("metrics").items():
            if name in RESERVED:
                yield "metrics", f"{name!r} is a name that the report uses for something else. Rename the metric."
            elif problem := metric_problem(metric):
                yield "metrics", problem
    if "trainer" not in faulty and config["trainer.tensorboard"] and find_spec("tensorboard") is None:
        yield "trainer.tensorboard", "the package tensorboard is not installed. Run: pip install tensorboard."
    made: Made = {}
    failed = set(faulty) | (set(OPTIONAL) - config.values.keys())
    for key, (needed, trial) in TRIALS.items():
        if needed & failed:
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                made[key] = trial(config, made)
        except Exception as error:  # classes of torch and of users raise many kinds
            failed.add(key)
            yield key, " ".join(str(error).split()).rstrip(".") + "." if str(error) else f"{type(error).__name__}."


def metric_problem(metric: Metric) -> str:
    """Say why a function cannot be a metric; empty if it can."""
    y_true, y_pred = np.arange(4 * N_STAGES) % N_STAGES, np.arange(4 * N_STAGES) // 4
    try:
        order = np.random.default_rng(0).permutation(len(y_true))
        value, shuffled = number(metric, y_true, y_pred), number(metric, y_true[order], y_pred[order])
    except UserError as error:
        return str(error)
    if not np.isclose(value, shuffled, rtol=1e-9, atol=1e-12):
        return (
            f"Metric {getattr(metric, '__name__', metric)} depends on the order of the sleep epochs "
            f"({value:g}, shuffled {shuffled:g}), which a metric must not."
        )
    return ""


def _try_network(config: ConfigParser, made: Made) -> nn.Module:
    """Go forward and backward once on two sleep epochs; see the contract in `model.model`."""
    fs, n_sleep_epochs = config["data_loader.args.fs"], config.n_sleep_epochs
    network = config.init_obj("arch", fs=fs, n_sleep_epochs=n_sleep_epochs)
    shape = (2, 1, SLEEP_EPOCH_S * fs * n_sleep_epochs)
    name, signal = type(network).__name__, torch.randn(shape)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"{name} has no parameter to train")
    try:
        logits = network(signal)
    except Exception as error:
        raise ValueError(f"{name} cannot take a signal of shape {shape}: {error}") from error
    _require_logits(logits, 2, f"{name} on a signal of shape {shape}")
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    without = [key for key, value in network.named_parameters() if value.requires_grad and value.grad is None]
    if without:
        raise ValueError(
            f"no gradient reaches {', '.join(without[:3])} of {name}. Use it in forward, or set requires_grad to False."
        )
    with torch.no_grad():
        _require_logits(network.eval()(signal[:1]), 1, f"{name} in evaluation on one signal")
    return network.train()


def _require_logits(logits: object, n: int, source: str) -> None:
    """Refuse what is not the finite logits of `n` sleep epochs."""
    if not isinstance(logits, Tensor) or logits.shape != (n, N_STAGES):
        what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(f"{source} gives {what}, not logits of shape ({n}, {N_STAGES})")
    if not logits.isfinite().all():
        raise ValueError(f"{source} gives logits that are not finite")


def _try_averaging(config: ConfigParser, made: Made) -> None:
    """Copy the network, as averaging does."""
    if config["trainer.averaging"] is None:
        return
    try:
        copy.deepcopy(made["arch"])
    except Exception as error:
        raise ValueError(f"{type(made['arch']).__name__} cannot be copied ({error}). Set it to null") from error


def _try_night_context(config: ConfigParser, made: Made) -> nn.Module:
    """Read the network's summary of two sleep epochs as the night context does."""
    network, name = made["arch"], type(made["arch"]).__name__
    if not hasattr(network, "summary"):
        raise ValueError(
            f"the night context reads summary(signal), which {name} does not have. Add it (see model/model.py), or "
            "leave the context out"
        )
    with torch.no_grad():
        signal = torch.randn(2, 1, SLEEP_EPOCH_S * config["data_loader.args.fs"] * config.n_sleep_epochs)
        summary = network.eval().summary(signal)  # (2, C)
        if not isinstance(summary, Tensor) or summary.ndim != 2 or len(summary) != 2:
            raise ValueError(f"the summary of {name} is not of shape (B, C)")
        model_of_night = config.init_obj("context.model", n_inputs=summary.shape[1])
        _require_logits(model_of_night(pack_sequence([summary])), 2, type(model_of_night).__name__)
    return model_of_night


def _try_loss(config: ConfigParser, made: Made) -> None:
    """Compute the loss, and its gradient, of logits that are right."""
    loss = config.init_obj("loss", class_counts=[1] * N_STAGES)
    buffers = [buffer.clone() for buffer in loss.buffers()]
    if any(parameter.requires_grad for parameter in loss.parameters()):
        raise ValueError(f"{type(loss).__name__} has parameters to train, which no optimizer gets")
    stages = torch.arange(2 * N_STAGES) % N_STAGES
    logits = (10 * nn.functional.one_hot(stages, N_STAGES)).float().requires_grad_()
    try:
        value = loss(logits, stages)
        value.backward()
        if value < -1:  # NLLLoss, which takes logarithms of probabilities
            raise ValueError(f"it is {value:g} where every stage is right, so it takes something else than logits")
    except Exception as error:
        name, reason = type(loss).__name__, str(error).rstrip(".")
        raise ValueError(
            f"{name} cannot be a loss of logits (B, 5) and stages (B,) ({reason}). "
            "ClassAwareLoss and CrossEntropyLoss can"
        ) from error
    if not all(torch.equal(*both) for both in zip(buffers, loss.buffers(), strict=True)):
        raise ValueError(f"{type(loss).__name__} changes its buffers in forward, which checkpoints do not hold")


def _try_initial(config: ConfigParser, made: Made) -> None:
    """See that there is a head, if it is to train alone."""
    name, head = type(made["arch"]).__name__, head_of(made["arch"])
    if config["initial.layers"] == "head" and head is None:
        raise ValueError(f'layers "head" trains the layer that is named head, which {name} does not have. Name it so')


def _try_optimizer(config: ConfigParser, made: Made) -> Optimizer:
    """Take a step with the optimizer of the network, in groups as training on from other weights has them."""
    weights = list(made["arch"].parameters())
    if "initial" not in config.values or config["initial.lr_factor"] == 1:
        return _take_step(config.init_obj("optimizer", params=weights))
    optimizer = _take_step(config.init_obj("optimizer", params=[{"params": weights[:1]}, {"params": weights[1:]}]))
    optimizer.param_groups[1]["lr"] *= config["initial.lr_factor"]
    return optimizer


def _try_context_optimizer(config: ConfigParser, made: Made) -> Optimizer:
    """Take a step with the optimizer of the night context."""
    return _take_step(config.init_obj("context.optimizer", params=made["context.model"].parameters()))


def _take_step(optimizer: Optimizer) -> Optimizer:
    """Take one step with zero gradients."""
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step()
    except Exception as error:
        name = type(optimizer).__name__
        raise ValueError(f"{name} cannot take a step of training ({error}). Adam and SGD can.") from error
    return optimizer


def _try_scheduler(config: ConfigParser, made: Made) -> None:
    """Step as often as training will."""
    scheduler: LRScheduler | None = config.init_obj("lr_scheduler", optimizer=made["optimizer"])
    train_epochs = config["trainer.epochs"]
    full, *lower = [group["lr"] for group in made["optimizer"].param_groups]
    if lower and not math.isclose(lower[0], full * config["initial.lr_factor"]):
        raise ValueError(f"{type(scheduler).__name__} sets learning rates of its own, whatever initial.lr_factor is")
    try:
        for _ in range(train_epochs if scheduler else 0):
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(0.0)
            elif scheduler:
                scheduler.step()
    except Exception as error:
        raise ValueError(
            f"{type(scheduler).__name__} cannot go through {train_epochs} training epochs ({error}). MultiStepLR and "
            "null can."
        ) from error


TRIALS: dict[str, tuple[set[str], Callable[[ConfigParser, Made], Any]]] = {
    "arch": ({"arch", "data_loader"}, _try_network),
    "initial": ({"arch", "data_loader", "initial"}, _try_initial),
    "optimizer": ({"arch", "data_loader", "optimizer"}, _try_optimizer),
    "lr_scheduler": ({"arch", "data_loader", "optimizer", "trainer", "lr_scheduler"}, _try_scheduler),
    "loss": ({"loss"}, _try_loss),
    "trainer.averaging": ({"arch", "data_loader", "trainer"}, _try_averaging),
    "context.model": ({"arch", "data_loader", "context"}, _try_night_context),
    "context.optimizer": ({"arch", "data_loader", "context", "context.model"}, _try_context_optimizer),
}
"""For each component, in order: keys that must have no problem, and how it is made and used once."""
