"""Small experiments, in memory and as training writes them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from model import metric
from report.report import make_report
from report.results import Results
from report.wording import METRICS
from utils.experiment import Predictions, fold_directory, write_predictions
from utils.subjects import subject_of

NIGHT = [0, 0, 1, 2, 3, 3, 2, 4, 4, 0]
"""Stages of a night that has them all."""


FIGURES = ("confusion_matrix", "learning_curves", "f1", "hypnogram", "bland_altman", "reliability", "review")


def predictions(nights, y_pred_last_epoch=None, probabilities=None, pattern=None, selected=1, start_time=""):
    """Predictions for nights given as {recording: (y_true, y_pred)}; without others, the last epoch's are the same."""
    y_true, y_pred = (np.concatenate([np.asarray(night[side]) for night in nights.values()]) for side in (0, 1))
    last = y_pred if y_pred_last_epoch is None else np.asarray(y_pred_last_epoch)
    lengths = [len(night[0]) for night in nights.values()]
    return Predictions(
        recording=np.repeat(list(nights), lengths),
        subject=np.repeat([subject_of(name, pattern) for name in nights], lengths),
        start_time=np.full(sum(lengths), start_time),
        sleep_epoch=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        y_true=y_true,
        y_pred=y_pred,
        probabilities=np.eye(5, dtype=np.float32)[y_pred] if probabilities is None else probabilities,
        y_pred_last_epoch=last,
        probabilities_last_epoch=np.eye(5, dtype=np.float32)[last],
        selected_train_epoch=selected,
    )


def history(fold=0, seconds=(1.0,), evaluated_set="test"):
    """Training history of a fold; the loss of training epoch e of fold f is f + 1 / e."""
    e = np.arange(1, len(seconds) + 1)
    figures = {"loss": fold + 1 / e, "accuracy": 1 - 0.5 / e, "macro_f1": 1 - 0.7 / e}
    columns = {f"{part}_{name}": values for part in ("train", evaluated_set) for name, values in figures.items()}
    return pd.DataFrame({"train_epoch": e, "seconds": seconds, **columns})


def config_of(num_folds, protocol="released", metrics=(), name="Exp1"):
    return {
        "name": name,
        "seed": 123,
        "data_loader": {"args": {"num_folds": num_folds}},
        "evaluation": {"protocol": protocol, "valid_subjects": 0.1},
        "metrics": list(metrics),
    }


def results(folds, protocol="released", seconds=None, num_folds=None, metrics=(), name="Exp1"):
    """Results of folds given as {fold: Predictions}; `seconds` are {fold: of each training epoch}."""
    histories = {fold: history(fold, (seconds or {}).get(fold, [1.0])) for fold in folds}
    return Results(
        Path(name),
        config_of(num_folds or len(folds), protocol, metrics, name),
        {name: getattr(metric, name) for name in [*METRICS, *metrics]},
        folds,
        histories,
        histories if next(iter(folds.values())).y_pred_context is not None else {},
        {fold: of_fold["seconds"].sum().item() for fold, of_fold in histories.items()},
    )


def report_of(folds, *arguments, **settings):
    return make_report(results(folds, *arguments, **settings))


def write_experiment(experiment, folds, num_folds=None, protocol="released", seconds=None, metrics=()):
    """Write the same as training does."""
    config = config_of(num_folds or len(folds), protocol, metrics, experiment.name)
    for fold, values in folds.items():
        directory = fold_directory(experiment, fold)
        write_predictions(directory, values)
        (directory / "config.json").write_text(json.dumps(config))
        history(fold, (seconds or {}).get(fold, [1.0])).to_csv(directory / "metrics.csv", index=False)
    return experiment


def night_predictions(nights, seed=0):
    """Predictions of a fold for each of {recording: stages}.

    One sleep epoch in four is wrong, and the sixth and seventh were dropped.
    """
    rng = np.random.default_rng(seed)
    folds = {}
    for fold, (name, stages) in enumerate(nights.items()):
        n, y_true = len(stages), np.asarray(stages)
        y_pred = np.where(np.arange(n) % 4 == 3, rng.choice(y_true, n), y_true)
        probabilities = rng.dirichlet(np.ones(5), n) * 0.4
        probabilities[np.arange(n), y_pred] += 0.6
        folds[fold] = predictions({name: (y_true, y_pred)}, probabilities=probabilities.astype(np.float32))
        folds[fold].sleep_epoch[:] = 20 + np.arange(n) + 2 * (np.arange(n) >= 5)
    return folds


def with_context(folds):
    """Add a model of the night that is always right and always sure."""
    return {
        number: replace(
            fold, y_pred_context=fold.y_true, probabilities_context=np.eye(5, dtype=np.float32)[fold.y_true]
        )
        for number, fold in folds.items()
    }


def with_temperatures(folds):
    """Give each fold the temperatures 1.25, 1.5, ..., and a night context twice that."""
    given = {}
    for number, fold in folds.items():
        temperature = np.full(len(fold.y_true), 1.25 + 0.25 * number)
        given[number] = replace(fold, temperature=temperature)
        if fold.y_pred_context is not None:
            given[number] = replace(given[number], temperature_context=2 * temperature)
    return given


def blank_figures(directory):
    """Empty pictures under the names of all figures."""
    directory.mkdir()
    paths = {name: directory / f"{name}.svg" for name in FIGURES}
    for path in paths.values():
        path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return paths
