"""What belongs to one fold besides its training: its recordings, its log, its plan, its predictions."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_loader.data_loaders import Batches, SleepEpochs, channels_of, class_counts
from data_loader.folds import Fold, make_folds, set_aside, subjects_of
from parse_config import ConfigParser
from trainer.temperature import calibrate
from trainer.trainer import Trainer
from utils import ranks
from utils.device import device_errors
from utils.errors import UserError
from utils.experiment import LOG_FILE, Predictions, fold_directory, is_finished
from utils.lock import held
from utils.logs import LOG, SUMMARY, log_to_file
from utils.microvolts import without_signal_remark
from utils.plural import number_of
from utils.recording import Outline
from utils.stages import STAGE_NAMES
from utils.stopping import Stopped
from utils.subjects import nights_pattern, subject_of


def folds_of(config: ConfigParser, outlines: Sequence[Outline]) -> list[Fold]:
    """Cut the subjects of all recordings into folds as the configuration says."""
    settings, seed = config["data_loader.args"], config["seed"]
    pattern, names = settings["subject_pattern"], [outline.name for outline in outlines]
    by_themselves = pattern is None and [subject_of(name) for name in names] == names
    if by_themselves and (nights := nights_pattern(names)):
        LOG.warning(
            f"{names[0]}, {names[1]} and others look like several nights of a subject, but count as different "
            f"subjects. If they are one: --set data_loader.args.subject_pattern={shlex.quote(nights)}"
        )
    _refuse_divided_subjects(outlines, pattern)
    folds = make_folds(names, settings["num_folds"], seed, pattern)
    if config["evaluation.protocol"] == "holdout":
        return [set_aside(fold, config["evaluation.valid_subjects"], seed, pattern) for fold in folds]
    return folds


def _refuse_divided_subjects(outlines: Sequence[Outline], pattern: str | None) -> None:
    """Refuse nights of one subject, by what they say of themselves, that count as nights of several."""
    nights: dict[str, dict[str, str]] = {}  # by subject of the npz: names, and the subject that each counts as
    for outline in outlines:
        if outline.subject:
            nights.setdefault(outline.subject, {})[outline.name] = subject_of(outline.name, pattern)
    for subject, counted_as in nights.items():
        if len(set(counted_as.values())) > 1:
            raise UserError(
                f"{', '.join(list(counted_as)[:3])} are nights of the subject {subject!r}, as they were prepared, but "
                "would count as different subjects. Pass the pattern of the preparation: "
                "--set data_loader.args.subject_pattern=..."
            )


def unfinished_folds(config: ConfigParser, folds: Sequence[Fold]) -> list[Fold]:
    """List the folds that are not finished; log which ones are."""
    finished = [fold for fold in folds if is_finished(fold_directory(config.experiment_dir, fold.number))]
    if finished:
        LOG.log(SUMMARY, f"Finished already and skipped: fold {', '.join(str(fold.number) for fold in finished)}.")
    return [fold for fold in folds if fold not in finished]


@contextmanager
def logged(fold: Fold, directory: Path) -> Iterator[None]:
    """Hold the folder of a fold and write its log there; only rank 0 does so.

    Raises
    ------
    SystemExit
        The fold failed, and the log says why.
    UserError
        Another process is at work on the fold.
    Stopped
        The process is asked to end, and the log says so.
    """
    if ranks.rank() > 0:
        yield
        return
    with held(directory / LOG_FILE), log_to_file(directory / LOG_FILE):
        try:
            with device_errors():
                yield
        except (UserError, OSError) as error:
            LOG.error(f"Fold {fold.number} failed. {error}")
            raise SystemExit(1) from error
        except Stopped as stop:
            LOG.warning(f"Fold {fold.number} stopped by {stop}.")
            raise


def introduce(fold: Fold, config: ConfigParser, data: SleepEpochs) -> None:
    """Log what a fold trains, selects and tests on."""
    subjects = subjects_of(fold, config["data_loader.args.subject_pattern"])
    uses = ((fold.train, "train", "train on"), (fold.valid, "valid", "select on"), (fold.test, "test", "test on"))
    LOG.log(
        SUMMARY,
        f"Fold {fold.number} of {config['data_loader.args.num_folds']}: "
        + ", ".join(
            f"{number_of(len(names), 'recording')} of {number_of(len(subjects[of]), 'subject')} to {use}"
            for names, of, use in uses
            if names
        )
        + f"; on {data.device}.",
    )
    if len(channels := channels_of(data.outlines.values())) > 1:
        parts = (
            f"{channel!r} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" for channel, names in channels.items()
        )
        LOG.warning(f"The recordings are of different channels: {', '.join(parts)}.")
    if n_empty := sum(data.n_empty.values()):
        names = [name for name, n in data.n_empty.items() if n]
        where = f"{', '.join(names[:3])}{', ...' * (len(names) > 3)}"
        LOG.warning(f"{without_signal_remark(n_empty, len(data.stages))}, and used like all others: in {where}.")
    for recordings, _, use in uses:
        counts = data.class_counts(recordings) if recordings else []
        missing = [stage for stage, n in zip(STAGE_NAMES, counts, strict=bool(counts)) if n == 0]
        if missing:
            LOG.warning(f"No {', '.join(missing)} in the recordings to {use}.")


def counted(fold: Fold) -> list[str]:
    """Name the recordings whose stages the class-aware loss counts.

    Under the released protocol, which has no validation set, these are the training and the test set, as in the
    released code; under holdout the training set alone.
    """
    return [*fold.train] if fold.valid else [*fold.train, *fold.test]


def predict_test_set(trainer: Trainer, fold: Fold, data: SleepEpochs, subject_pattern: str | None) -> Predictions:
    """Predict with the weights after the last training epoch, and with those that the monitor selected.

    The selected weights get their temperature here, which their checkpoint keeps.
    """
    batches = Batches(data, data.indices(fold.test), trainer.train_batches.batch_size, shuffle=False)
    last_epoch = trainer.outputs(batches).cpu()
    selected_train_epoch = trainer.load_best()
    selected = trainer.outputs(batches).cpu()
    seen = Batches(data, data.indices(fold.valid or fold.train), batches.batch_size, shuffle=False)
    temperature = calibrate(trainer, seen)
    test = [data.outlines[name] for name in fold.test]
    lengths = [len(outline.stages) for outline in test]
    return Predictions(
        recording=np.repeat([outline.name for outline in test], lengths),
        subject=np.repeat([subject_of(outline.name, subject_pattern) for outline in test], lengths),
        start_time=np.repeat([outline.start_time for outline in test], lengths),
        sleep_epoch=np.concatenate([outline.sleep_epoch for outline in test]),
        y_true=np.concatenate([outline.stages for outline in test]),
        y_pred=selected.argmax(dim=1).numpy(),
        probabilities=selected.softmax(dim=1).numpy(),
        y_pred_last_epoch=last_epoch.argmax(dim=1).numpy(),
        probabilities_last_epoch=last_epoch.softmax(dim=1).numpy(),
        selected_train_epoch=selected_train_epoch,
        temperature=np.full(sum(lengths), temperature),
    )


def plan(config: ConfigParser, fold: Fold, outlines: Sequence[Outline], device: str) -> dict[str, Any]:
    """Say in plain values what training a fold would do."""
    names = counted(fold)
    counts = class_counts([outline for outline in outlines if outline.name in names])
    weight = getattr(config.init_obj("loss", class_counts=counts), "weight", None)
    network = config.init_obj("arch", fs=config["data_loader.args.fs"], n_sleep_epochs=config.n_sleep_epochs)
    return {
        "fold": fold.number,
        "train": fold.train,
        "valid": fold.valid,
        "test": fold.test,
        "subjects": subjects_of(fold, config["data_loader.args.subject_pattern"]),
        "class_counts": counts,
        "class_weights": None if weight is None else [round(value, 6) for value in weight.tolist()],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "device": device,
        "config": config.values,
    }
