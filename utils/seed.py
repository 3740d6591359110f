"""All random numbers of a training epoch, from the experiment's seed."""

import random

import numpy as np
import torch

from utils.ranks import rank


def seed_train_epoch(seed: int, train_epoch: int) -> None:
    """Seed every generator for one training epoch.

    Order and dropout of a training epoch follow from these two numbers alone. So a run that was stopped and goes on
    after a training epoch draws the same numbers as one that was not stopped. Ranks that train together draw different
    dropout, and rank 0 that of a process alone.

    Parameters
    ----------
    seed : int
        The experiment's.
    train_epoch : int
        1-based; 0 for the first weights of the network.
    """
    state = np.random.SeedSequence([seed, train_epoch, *([rank()] if rank() else [])]).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))  # noqa: NPY002 (a loss or metric of the user's may draw from it)
    torch.manual_seed(int(state[2]))
