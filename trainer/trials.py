"""Trying loss, optimizer and scheduler of a configuration once, on next to nothing, before any data is read."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from utils.stages import N_STAGES


def try_out(made: Mapping[str, Any], train_epochs: int) -> Iterator[tuple[str, str]]:
    """Use what a configuration made as training does.

    Parameters
    ----------
    made : mapping of str to object
        `loss`, `optimizer`, `context.optimizer` and `lr_scheduler`, as far as they are there.
    train_epochs : int
        How many there will be.

    Yields
    ------
    key : str
    problem : str
    """
    of_scheduler = partial(_use_scheduler, train_epochs=train_epochs)
    trials: dict[str, tuple[Callable[[Any], None], str, str]] = {
        "loss": (_use_loss, "be a loss of logits (B, 5) and stages (B,)", "ClassAwareLoss and CrossEntropyLoss can"),
        "optimizer": (_use_optimizer, "take a step of training", "Adam and SGD can"),
        "context.optimizer": (_use_optimizer, "take a step of training", "Adam and SGD can"),
        "lr_scheduler": (of_scheduler, f"go through {train_epochs} training epochs", "MultiStepLR and null can"),
    }
    for key, (use, what, remedy) in trials.items():
        if made.get(key) is None:
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                use(made[key])
        except Exception as error:  # classes of torch raise many kinds where they do not fit
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            yield key, f"{type(made[key]).__name__} cannot {what} ({reason}). {remedy}."


def _use_loss(loss: nn.Module) -> None:
    """Compute the loss, and its gradient, of logits that are right."""
    stages = torch.arange(2 * N_STAGES) % N_STAGES
    logits = (10 * nn.functional.one_hot(stages, N_STAGES)).float().requires_grad_()
    value = loss(logits, stages)
    value.backward()
    if value < -1:  # NLLLoss, which takes logarithms of probabilities
        raise ValueError(f"it is {value:g} where every stage is right, so it takes something else than logits")


def _use_optimizer(optimizer: Optimizer) -> None:
    """Take a step along no gradient."""
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def _use_scheduler(scheduler: LRScheduler, train_epochs: int) -> None:
    """Step as often as training will."""
    for _ in range(train_epochs):
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(0.0)
        else:
            scheduler.step()
