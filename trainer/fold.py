"""Training one fold: from its configuration and data to its predictions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

import model.loss
import model.metric
import model.model
import model.night_context
from data_loader.data_loaders import Batches, SleepEpochs, class_counts
from data_loader.folds import Fold, choose_folds, make_folds, set_aside
from parse_config import ConfigParser
from trainer.night_context import add_context
from trainer.trainer import Trainer
from trainer.trials import try_out
from utils import ranks
from utils.errors import UserError
from utils.experiment import LOG_FILE, Predictions, fold_directory, write_predictions
from utils.lock import held
from utils.logs import LOG, SUMMARY, log_to_file
from utils.recording import Outline
from utils.seed import seed_train_epoch
from utils.stages import STAGE_NAMES
from utils.stopping import Stopped
from utils.subjects import subject_of


def read_config(path: Path, overrides: Sequence[str]) -> ConfigParser:
    """Read and check a configuration whose names are those of this project and of torch.

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
    modules: dict[str, list[ModuleType]] = {
        "arch": [model.model],
        "optimizer": [torch.optim],
        "lr_scheduler": [torch.optim.lr_scheduler],
        "loss": [model.loss, torch.nn],
        "metrics": [model.metric],
        "context.model": [model.night_context],
        "context.optimizer": [torch.optim],
    }
    return ConfigParser(path, overrides, modules, try_out)


def folds_of(config: ConfigParser, outlines: Sequence[Outline], wanted: str) -> list[Fold]:
    """Cut the subjects into folds as the configuration says.

    Parameters
    ----------
    config : ConfigParser
    outlines : sequence of Outline
        All recordings.
    wanted : str
        Number of a fold, or `all`.
    """
    settings, seed = config["data_loader.args"], config["seed"]
    pattern = settings["subject_pattern"]
    folds = make_folds([outline.name for outline in outlines], settings["num_folds"], seed, pattern)
    folds = choose_folds(folds, wanted)
    if config["evaluation.protocol"] == "holdout":
        return [set_aside(fold, config["evaluation.valid_subjects"], seed, pattern) for fold in folds]
    return folds


def train_in_turn(
    config: ConfigParser, folds: Sequence[Fold], data: SleepEpochs, remarks: Sequence[str], checkpoint: Path | None
) -> None:
    """Train folds one after the other, each with its log, which the remarks open, in its folder; see `train_fold`.

    Raises
    ------
    SystemExit
        A fold failed, and the log says why. Those after it are not trained.
    UserError
        Another process is at work on a fold.
    Stopped
        The process is asked to end, and the log says so.
    """
    for fold in folds:
        with _logged(fold_directory(config.experiment_dir, fold.number) / LOG_FILE, remarks):
            try:
                with ranks.a_loss_told():
                    train_fold(config, fold, data, checkpoint)
            except (UserError, OSError) as error:
                LOG.error(f"Fold {fold.number} failed. {error}")
                raise SystemExit(1) from error
            except Stopped as stop:
                LOG.warning(f"Fold {fold.number} stopped by {stop}.")
                raise


@contextmanager
def _logged(log: Path, remarks: Sequence[str]) -> Iterator[None]:
    """Hold a fold and write its log; of the ranks that train it together, the first does."""
    if ranks.rank() == 0:
        with held(log), log_to_file(log, remarks):
            yield
    else:
        yield


def train_fold(config: ConfigParser, fold: Fold, data: SleepEpochs, checkpoint: Path | None) -> None:
    """Train one fold, or go on with it, and write its predictions.

    Parameters
    ----------
    config : ConfigParser
    fold : Fold
    data : SleepEpochs
        At least the recordings of `fold`.
    checkpoint : Path or None
        Where to go on; None: from the newest checkpoint of the fold, if there is one.
    """
    directory = fold_directory(config.experiment_dir, fold.number)
    LOG.log(
        SUMMARY,
        f"Fold {fold.number} of {config['data_loader.args.num_folds']}: {len(fold.train)} recordings to train on, "
        + (f"{len(fold.valid)} to select on, " if fold.valid else "")
        + f"{len(fold.test)} to test on; on {data.device}.",
    )
    for name, use in (("train", "train on"), ("valid", "select on"), ("test", "test on")):
        counts = data.class_counts(recordings) if (recordings := getattr(fold, name)) else []
        missing = [stage for stage, n in zip(STAGE_NAMES, counts, strict=bool(counts)) if n == 0]
        if missing:
            LOG.warning(f"No {', '.join(missing)} in the recordings to {use}.")
    trainer = make_trainer(config, fold, data, directory)
    trainer.resume(checkpoint)
    trainer.train()
    predictions = predict_test_set(trainer, fold, data, config["data_loader.args.subject_pattern"])
    ranks.on_first(lambda: _finish(config, fold, data, trainer, predictions))


def _finish(config: ConfigParser, fold: Fold, data: SleepEpochs, trainer: Trainer, predictions: Predictions) -> None:
    """Add the night context, if the configuration has one, and write the predictions."""
    if "context" in config.values:
        predictions = add_context(config, fold, data, trainer, predictions)
    write_predictions(trainer.directory, predictions)
    LOG.log(
        SUMMARY,
        f"Fold {fold.number} is finished: best training epoch {trainer.best()['train_epoch']} of "
        f"{len(trainer.history)} ({config['trainer.monitor']}), "
        f"test accuracy {(predictions.y_true == predictions.y_pred).mean():.4f}.",
    )


def make_trainer(config: ConfigParser, fold: Fold, data: SleepEpochs, directory: Path) -> Trainer:
    """Make network, optimizer, loss and batches of a fold from the configuration."""
    seed_train_epoch(config["seed"], 0)
    network = ranks.synchronised(config.init_obj("arch", config.n_sleep_epochs).to(data.device))
    if config["trainer.compile"]:
        network.compile()
    optimizer = config.init_obj("optimizer", network.parameters())
    batch_size = config["data_loader.args.batch_size"]
    first = next(iter(data.outlines.values()))
    return Trainer(
        network,
        optimizer,
        config.init_obj("lr_scheduler", optimizer),
        criterion=config.init_obj("loss", data.class_counts(counted(fold))).to(data.device),
        metrics=config.functions("metrics"),
        train_batches=Batches(data, data.indices(fold.train), batch_size, shuffle=True),
        evaluation_batches=Batches(data, data.indices(fold.valid or fold.test), batch_size, shuffle=False),
        evaluated_set="valid" if fold.valid else "test",
        bf16=config["trainer.precision"] == "bf16",
        directory=directory,
        epochs=config["trainer.epochs"],
        save_period=config["trainer.save_period"],
        monitor=config["trainer.monitor"],
        early_stop=config["trainer.early_stop"],
        seed=config["seed"],
        tensorboard=config["trainer.tensorboard"],
        about={
            "fs": first.fs,
            "channel": first.channel,
            "units": "uV",
            "stage_names": list(STAGE_NAMES),
            "fold": fold.number,
            "context": list(config["data_loader.args.context"]),
            "config": config.values,
        },
    )


def predict_test_set(trainer: Trainer, fold: Fold, data: SleepEpochs, subject_pattern: str | None) -> Predictions:
    """Predict with the weights after the last training epoch, and with those that the monitor selected."""
    batches = Batches(data, data.indices(fold.test), trainer.train_batches.batch_size, shuffle=False)
    last_epoch = trainer.logits(batches)
    trainer.load_best()
    selected = trainer.logits(batches)
    test = [data.outlines[name] for name in fold.test]
    lengths = [len(outline.stages) for outline in test]
    return Predictions(
        recording=np.repeat([outline.name for outline in test], lengths),
        subject=np.repeat([subject_of(outline.name, subject_pattern) for outline in test], lengths),
        sleep_epoch=np.concatenate([outline.sleep_epoch for outline in test]),
        y_true=np.concatenate([outline.stages for outline in test]),
        y_pred=selected.argmax(dim=1).numpy(),
        probabilities=selected.softmax(dim=1).numpy(),
        y_pred_last_epoch=last_epoch.argmax(dim=1).numpy(),
        probabilities_last_epoch=last_epoch.softmax(dim=1).numpy(),
        selected_train_epoch=int(trainer.best()["train_epoch"]),
    )


def plan(config: ConfigParser, fold: Fold, outlines: Sequence[Outline], team: Sequence[torch.device]) -> dict[str, Any]:
    """Say what training a fold would do, without doing it, in plain values."""
    counts = class_counts([outline for outline in outlines if outline.name in counted(fold)])
    weight = getattr(config.init_obj("loss", counts), "weight", None)
    return {
        "fold": fold.number,
        "train": fold.train,
        "valid": fold.valid,
        "test": fold.test,
        "class_counts": counts,
        "class_weights": None if weight is None else [round(value, 6) for value in weight.tolist()],
        "parameters": sum(
            parameter.numel() for parameter in config.init_obj("arch", config.n_sleep_epochs).parameters()
        ),
        "device": ", ".join(map(str, team)),
        "config": config.values,
    }


def counted(fold: Fold) -> set[str]:
    """Name the recordings whose stages the class-aware loss counts.

    Under the released protocol, which has no validation set, these are the training and the test set, as in the
    released code; under holdout the training set alone.
    """
    return set(fold.train) if fold.valid else {*fold.train, *fold.test}


def checksums(fold: Fold, outlines: Sequence[Outline]) -> dict[str, dict[str, str]]:
    """Checksum of each recording of a fold, by set and name."""
    by_name = {outline.name: outline.checksum for outline in outlines}
    return {part: {name: by_name[name] for name in getattr(fold, part)} for part in ("train", "valid", "test")}
