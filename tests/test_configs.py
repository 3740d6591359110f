"""Every experiment in configs/ builds its network, of the size that is written here, and takes a training step."""

from pathlib import Path

import pytest
import torch

from trainer.configuration import read_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PUBLISHED = 509_825
PARAMETERS = dict.fromkeys(
    """demo fine_tune sleep_edf_78 holdout night_context
    mrcnn_afr_tce relu leaky_relu heads_1 heads_2 heads_4 heads_8 heads_10
    loss_0p5_1_1p5 loss_1_1_1 loss_1_2_3 loss_2_2p5_3""".split(),
    PUBLISHED,
) | {"shhs": 505_249, "three_epochs": 706_675, "mrcnn": 449_925, "mrcnn_afr": 419_605, "mrcnn_tce": 1_191_061}


def test_every_experiment_has_its_figure():
    assert {path.stem for path in CONFIGS.glob("*.json")} == PARAMETERS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_experiment_has_its_parameters_and_takes_a_training_step(name):
    config = read_config(CONFIGS / f"{name}.json", [])
    torch.manual_seed(0)
    fs, n_sleep_epochs = config["data_loader.args.fs"], config.n_sleep_epochs
    network = config.init_obj("arch", fs=fs, n_sleep_epochs=n_sleep_epochs).train()
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    optimizer = config.init_obj("optimizer", params=network.parameters())
    criterion = config.init_obj("loss", class_counts=[10, 5, 20, 8, 9])
    before = [parameter.clone() for parameter in network.parameters()]
    loss = criterion(network(20 * torch.randn(2, 1, 30 * fs * n_sleep_epochs)), torch.tensor([1, 4]))
    loss.backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
