"""Experiments beside each other, and two of them subject by subject."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from report import statistics
from report.results import Results, is_experiment, pooled, read_results, subjects_of
from report.tables import in_percent, with_interval
from utils.errors import UserError
from utils.experiment import Predictions
from utils.logs import LOG
from utils.stages import STAGE_NAMES

TITLES = {"accuracy": "accuracy %", "macro_f1": "macro F1 %", "kappa": "kappa", "mgm": "MGm %"}


def read_experiments(folders: Sequence[Path]) -> list[Results]:
    """Read the experiments among some folders; what is none, or has no finished fold, is passed over and said.

    Raises
    ------
    UserError
        There is none, or a file of one is damaged.
    """
    experiments = []
    for folder in folders:
        if not is_experiment(folder):
            LOG.warning(f"{folder}: passed over, no experiment there (no fold_*/config.json).")
        elif not any(folder.glob("fold_*/predictions.npz")):
            LOG.warning(f"{folder}: passed over, no fold is finished.")
        else:
            experiments.append(read_results(folder))
    if not experiments:
        raise UserError("No experiment with a finished fold. Pass folders such as saved/Exp1 saved/Exp2.")
    return experiments


def experiments_table(experiments: Sequence[Results]) -> str:
    """Lay experiments out as a table: each one's own protocol first, then their last training epochs.

    Parameters
    ----------
    experiments : sequence of Results

    Returns
    -------
    str
        A header and two lines for each, of equal width; metrics in percent but for kappa.
    """
    header = ["experiment", "protocol", "folds", "n", "accuracy %", "macro F1 %", "kappa", "MGm %"]
    header += [*(f"F1 {stage}" for stage in STAGE_NAMES), "s per fold"]
    names = _names(experiments)
    everything = [pooled(list(results.folds.values())) for results in experiments]
    rows = [
        [name, protocol, f"{len(results.folds)}/{results.num_folds}", str(len(predictions.y_true))]
        + _figures(results, predictions.recording, predictions.y_true, y_pred)
        + [f"{np.mean(list(results.seconds.values())):.0f}" if results.seconds else "-"]
        for own in (True, False)
        for name, results, predictions in zip(names, experiments, everything, strict=True)
        for protocol, y_pred in [_choose(results, predictions, own)]
    ]
    note = f"In brackets: {statistics.LEVEL} % intervals, by bootstrap over subjects."
    return f"{_text_table(header, rows, n_left=2)}\n{note}"


def compare(first: Results, second: Results) -> dict[str, Any]:
    """Compare two experiments on the recordings that they share.

    Parameters
    ----------
    first, second : Results

    Returns
    -------
    dict
        `n_recordings`, `n_subjects`, and by `own` (each one's own protocol) and `last_epoch`: `protocols`, the two
        names; `first` and `second`, the metrics on all shared sleep epochs pooled; `difference`, second - first, for
        each metric as `statistics.paired_difference` gives it.

    Raises
    ------
    UserError
        They share no recording, or a shared one has other sleep epochs or other true stages in the second, or other
        nights belong to one subject.
    """
    recordings, one, other = _shared(first, second)
    subjects = subjects_of(one.recording, first.subject_pattern)
    _check_subjects(subjects, subjects_of(other.recording, second.subject_pattern))
    result: dict[str, Any] = {"n_recordings": len(recordings), "n_subjects": len(np.unique(subjects))}
    for key in ("own", "last_epoch"):
        chosen = [_choose(first, one, key == "own"), _choose(second, other, key == "own")]
        matrices = [statistics.matrices_by_group(subjects, one.y_true, y_pred)[1] for _, y_pred in chosen]
        result[key] = {
            "protocols": [protocol for protocol, _ in chosen],
            **{
                side: {name: statistics.scores(by_subject.sum(0))[name].item() for name in statistics.HEADLINE}
                for side, by_subject in zip(("first", "second"), matrices, strict=True)
            },
            "difference": statistics.differences_by_subject(subjects, one.y_true, *(y_pred for _, y_pred in chosen)),
        }
    return result


def comparison(first: Results, second: Results) -> str:
    """Say in text what `compare` finds; it raises what that does."""
    found = compare(first, second)
    one, other = _names([first, second])
    lines = [
        f"A = {one}, B = {other}: {found['n_recordings']} shared recordings of {found['n_subjects']} subjects.",
        "A and B: all shared sleep epochs pooled. B - A: mean of the subjects' differences, "
        f"its {statistics.LEVEL} % interval by bootstrap over subjects, p of the Wilcoxon signed-rank test.",
    ]
    if found["n_subjects"] < 2:
        lines.append("With one subject there is neither interval nor p.")
    for key in ("own", "last_epoch"):
        protocols = found[key]["protocols"]
        same = protocols[0] == protocols[1]
        lines += ["", f"Protocol {protocols[0]}" if same else f"Protocol {protocols[0]} of A, {protocols[1]} of B"]
        if not same:
            lines.append("These select in different ways; the last epochs below compare like with like.")
        lines.append(_comparison_table(found[key]))
    return "\n".join(lines)


def _figures(results: Results, recording: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray) -> list[str]:
    """Metrics of one line of the table; accuracy and macro F1 with intervals."""
    subjects = subjects_of(recording, results.subject_pattern)
    matrices = statistics.matrices_by_group(subjects, y_true, y_pred)[1]
    found, between = statistics.scores(matrices.sum(0)), statistics.intervals(matrices) or {}
    return [
        in_percent(found["accuracy"].item(), between.get("accuracy")),
        in_percent(found["macro_f1"].item(), between.get("macro_f1")),
        f"{found['kappa']:.3f}",
        in_percent(found["mgm"].item()),
        *("-" if np.isnan(f1) else in_percent(f1) for f1 in found["f1"].tolist()),
    ]


def _choose(results: Results, predictions: Predictions, own: bool) -> tuple[str, np.ndarray]:
    """Pick the protocol and its predictions; an experiment's own are those with the night around, if it has them."""
    if own and predictions.y_pred_context is not None:
        return f"{results.protocol}, context", predictions.y_pred_context
    return (results.protocol, predictions.y_pred) if own else ("last_epoch", predictions.y_pred_last_epoch)


def _shared(first: Results, second: Results) -> tuple[list[str], Predictions, Predictions]:
    """Find the recordings that both have, and the predictions of each for them, in the same order."""
    one, other = (pooled(list(results.folds.values())) for results in (first, second))
    recordings = np.intersect1d(one.recording, other.recording).tolist()
    if not recordings:
        raise UserError(
            f"{first.experiment} and {second.experiment} share no recording: there is nothing to compare. "
            f"The one has {one.recording[0]} and others, the other {other.recording[0]} and others."
        )
    one, other = _in_order(one, recordings), _in_order(other, recordings)
    for recording in recordings:
        mine, theirs = one.recording == recording, other.recording == recording
        for name, what in (("sleep_epoch", "sleep epochs"), ("y_true", "true stages")):
            if not np.array_equal(getattr(one, name)[mine], getattr(other, name)[theirs]):
                raise UserError(
                    f"{recording}: other {what} in {second.experiment} than in {first.experiment}. "
                    "They were trained on different preparations of it; prepare and train one of them again."
                )
    return recordings, one, other


def _in_order(predictions: Predictions, recordings: Sequence[str]) -> Predictions:
    """Take the sleep epochs of `recordings`, sorted by recording and position."""
    chosen = np.flatnonzero(np.isin(predictions.recording, recordings))
    chosen = chosen[np.lexsort((predictions.sleep_epoch[chosen], predictions.recording[chosen]))]
    return Predictions(**{name: values[chosen] for name, values in predictions.arrays.items()})


def _check_subjects(one: np.ndarray, other: np.ndarray) -> None:
    """Refuse two ways of telling whose night it is that do not group the nights alike."""
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    if not len(pairs) == len(np.unique(one)) == len(np.unique(other)):
        raise UserError(
            "data_loader.args.subject_pattern of the two experiments gives one subject other recordings: "
            "they cannot be compared subject by subject."
        )


def _comparison_table(found: Mapping[str, Any]) -> str:
    """Lay one protocol's comparison out, a line for each metric."""
    rows = []
    for name, difference in found["difference"].items():
        scale, form = (1, ".3f") if name == "kappa" else (100, ".1f")
        between = difference["interval"] and [scale * end for end in difference["interval"]]
        rows.append(
            [
                TITLES[name],
                f"{scale * found['first'][name]:{form}}",
                f"{scale * found['second'][name]:{form}}",
                with_interval(scale * difference["mean"], between, f"+{form}"),
                "-" if difference["p_value"] is None else f"{difference['p_value']:.3g}",
            ]
        )
    return _text_table(["", "A", "B", "B - A", "p"], rows, n_left=1)


def _text_table(header: Sequence[str], rows: Sequence[Sequence[str]], n_left: int) -> str:
    """Align columns, the first `n_left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < n_left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    )


def _names(experiments: Sequence[Results]) -> list[str]:
    """Names of experiments, or their paths where two have the same name."""
    names = [results.name for results in experiments]
    return names if len(set(names)) == len(names) else [str(results.experiment) for results in experiments]
