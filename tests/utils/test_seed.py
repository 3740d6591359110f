import random

import numpy as np
import pytest
import torch

from utils.seed import seed_train_epoch


def draws(seed, train_epoch):
    seed_train_epoch(seed, train_epoch)
    return random.random(), float(np.random.random()), torch.rand(1).item()  # noqa: NPY002


def test_the_same_two_numbers_give_the_same_draws_of_every_generator():
    first = draws(123, 4)
    torch.rand(100)
    assert draws(123, 4) == first


@pytest.mark.parametrize("generator", range(3))
def test_every_seed_and_training_epoch_draws_other_numbers(generator):
    assert len({draws(seed, train_epoch)[generator] for seed in range(10) for train_epoch in range(10)}) == 100


def test_the_generators_draw_different_numbers():
    seed_train_epoch(1, 1)
    assert len({random.getrandbits(32), int(np.random.randint(2**32)), int(torch.randint(2**32, ()))}) == 3  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 2**32, 2**80])
def test_any_seed_from_zero_up_will_do(seed):
    assert draws(seed, 0) == draws(seed, 0)
