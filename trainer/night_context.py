"""The second stage of a fold: a model that reads the night around each sleep epoch, on top of the trained network."""

import time
from dataclasses import replace

import numpy as np
from torch import Tensor

from data_loader.data_loaders import Batches, SleepEpochs
from data_loader.folds import Fold
from data_loader.windows import Windows
from parse_config import ConfigParser
from trainer.temperature import calibrate
from trainer.trainer import Trainer
from utils.experiment import CONTEXT, Predictions
from utils.logs import LOG, SUMMARY
from utils.seed import seed_train_epoch


def add_night_context(
    config: ConfigParser, fold: Fold, data: SleepEpochs, trainer: Trainer, predictions: Predictions
) -> Predictions:
    """Train the model of the night, or go on with it, and add its predictions of the test set.

    Parameters
    ----------
    config : ConfigParser
    fold : Fold
    data : SleepEpochs
        At least the recordings of `fold`.
    trainer : Trainer
        Of the network, which has the selected weights and a `summary`, see `model.model`.
    predictions : Predictions
        Of the network alone.

    Returns
    -------
    Predictions
        With `y_pred_context`, `probabilities_context` and `temperature_context`.
    """
    begin = time.perf_counter()
    summaries = summarise(trainer, data, [*fold.train, *fold.valid, *fold.test])
    LOG.log(SUMMARY, f"Night context: summaries of all sleep epochs in {time.perf_counter() - begin:.1f} s.")
    of_night = make_night_trainer(config, fold, data, trainer, summaries)
    of_night.resume()
    of_night.train()
    of_night.load_best()
    logits = of_night.outputs(Windows(data, summaries, fold.test, None, 1)).cpu()
    y_pred = logits.argmax(dim=1).numpy()
    seen = Windows(data, summaries, fold.valid or fold.train, None, 1)
    temperature = calibrate(of_night, seen, "Night context: temperature")
    LOG.log(
        SUMMARY,
        f"Night context: best pass {of_night.best()['train_epoch']} of {len(of_night.history)}, "
        f"test accuracy {(predictions.y_true == y_pred).mean():.4f}; {time.perf_counter() - begin:.1f} s in all.",
    )
    return replace(
        predictions,
        y_pred_context=y_pred,
        probabilities_context=logits.softmax(dim=1).numpy(),
        temperature_context=np.full(len(y_pred), temperature),
    )


def summarise(trainer: Trainer, data: SleepEpochs, recordings: list[str]) -> Tensor:
    """Compute the network's summary of each sleep epoch of some recordings.

    Returns
    -------
    Tensor of shape (n_sleep_epochs, C)
        Of all sleep epochs of `data`, in its order and on its device; 0 for those of other recordings.
    """
    indices = data.indices(recordings)
    batches = Batches(data, indices, trainer.train_batches.batch_size, shuffle=False)
    outputs = trainer.outputs(batches, trainer.evaluated.summary)  # type: ignore[arg-type]
    summaries = outputs.new_zeros(len(data.stages), outputs.shape[1])
    summaries[indices.to(outputs.device)] = outputs
    return summaries


def make_night_trainer(
    config: ConfigParser, fold: Fold, data: SleepEpochs, trainer: Trainer, summaries: Tensor
) -> Trainer:
    """Make model of the night, optimizer, loss and windows of a fold; it selects as the network was selected."""
    seed_train_epoch(config["seed"], 0)
    network = config.init_obj("context.model", n_inputs=summaries.shape[1]).to(data.device)
    if hasattr(network, "standardise"):
        network.standardise(summaries[data.indices(fold.train).to(data.device)])
    settings = config["context"]
    return Trainer(
        network,
        config.init_obj("context.optimizer", params=network.parameters()),
        None,
        criterion=trainer.criterion,
        metrics=trainer.metrics,
        train_batches=Windows(data, summaries, fold.train, settings["window"], settings["batch_size"]),
        evaluation_batches=Windows(data, summaries, fold.valid or fold.test, None, 1),
        evaluated_set=trainer.evaluated_set,
        precision="fp32",
        cuda_graph=False,
        directory=trainer.directory / CONTEXT,
        epochs=settings["epochs"],
        save_period=config["trainer.save_period"],
        monitor=config["trainer.monitor"],
        early_stop=None,
        averaging=config["trainer.averaging"],
        seed=config["seed"],
        about=trainer.about | {"n_inputs": summaries.shape[1]},
    )
