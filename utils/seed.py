"""All random numbers of a training epoch from the experiment's seed."""

import random
from typing import Any

import numpy as np
import torch


def seed_train_epoch(seed: int, train_epoch: int) -> None:
    """Seed every generator for one training epoch.

    Since order and dropout of a training epoch follow from these two numbers alone, a run that was interrupted
    and goes on at the beginning of a training epoch draws the same numbers as one that was not.

    Parameters
    ----------
    seed : int
        The experiment's.
    train_epoch : int
        1-based; 0 for the network's first weights.
    """
    state = np.random.SeedSequence([seed, train_epoch]).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))  # noqa: NPY002 (a loss or metric of the user's may draw from it)
    torch.manual_seed(int(state[2]))


def random_states() -> dict[str, Any]:
    """Tell where in their numbers the generators are, in tensors and plain values, for `restore_random_states`."""
    _, key, *position = np.random.get_state()  # noqa: NPY002 (see above)
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(key), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Make every generator go on from what `random_states` gave; those of GPUs that are not here are left out."""
    random.setstate(states["python"])
    key, *position = states["numpy"]
    np.random.set_state(("MT19937", key.numpy(), *position))  # noqa: NPY002 (see above)
    torch.set_rng_state(states["torch"])
    for number, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, number)
    if states["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
