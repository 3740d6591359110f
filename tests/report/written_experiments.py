"""Small experiments, written as training writes them."""

import json

import numpy as np

from utils.experiment import Predictions, fold_directory, write_predictions


def predictions(nights, y_pred_last_epoch=None, probabilities=None):
    """Predictions for nights given as {recording: (y_true, y_pred)}; without others, the last epoch's are the same."""
    y_true, y_pred = (np.concatenate([np.asarray(night[side]) for night in nights.values()]) for side in (0, 1))
    last = y_pred if y_pred_last_epoch is None else np.asarray(y_pred_last_epoch)
    return Predictions(
        recording=np.repeat(list(nights), [len(night[0]) for night in nights.values()]),
        sleep_epoch=np.concatenate([np.arange(len(night[0]), dtype=np.int32) for night in nights.values()]),
        y_true=y_true,
        y_pred=y_pred,
        probabilities=np.eye(5, dtype=np.float32)[y_pred] if probabilities is None else probabilities,
        y_pred_last_epoch=last,
        probabilities_last_epoch=np.eye(5, dtype=np.float32)[last],
    )


def write_experiment(experiment, folds, num_folds=None, protocol=None, pattern=None, seconds=None):
    """Write folds given as {fold: Predictions}; `seconds`, {fold: of each training epoch}, makes `metrics.csv`."""
    config = {"data_loader": {"args": {"num_folds": num_folds or len(folds), "subject_pattern": pattern}}}
    if protocol is not None:
        config["evaluation"] = {"protocol": protocol}
    for fold, values in folds.items():
        directory = fold_directory(experiment, fold)
        write_predictions(directory, values)
        (directory / "config.json").write_text(json.dumps(config))
        if seconds and fold in seconds:
            rows = [f"{epoch},{value}" for epoch, value in enumerate(seconds[fold], 1)]
            (directory / "metrics.csv").write_text("\n".join(["train_epoch,seconds", *rows]) + "\n")
    return experiment
