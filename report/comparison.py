"""Experiments side by side, and two of them compared subject by subject."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model import metric
from report import statistics
from report.results import OTHER_NIGHTS, Results, read_results
from report.wording import title_of, with_interval, written
from utils.errors import UserError
from utils.experiment import EVALUATION, Predictions
from utils.logs import LOG
from utils.plural import number_of
from utils.stages import STAGE_NAMES


def read_experiments(folders: Sequence[Path]) -> list[Results]:
    """Read the experiments among some folders; warn of a folder that is none, or has no finished fold."""
    experiments = []
    for folder in folders:
        if (folder / EVALUATION).is_file():
            experiments.append(read_results(folder))
        elif not any(folder.glob("fold_*/config.json")):
            LOG.warning(f"{folder}: passed over, no experiment there (no fold_*/config.json).")
        elif not any(folder.glob("fold_*/predictions.npz")):
            LOG.warning(f"{folder}: passed over, no fold is finished.")
        else:
            experiments.append(read_results(folder))
    if not experiments:
        raise UserError("No experiment with a finished fold. Pass folders such as saved/Exp1 saved/Exp2.")
    return experiments


def experiments_table(experiments: Sequence[Results]) -> str:
    """Make a table of experiments: a line for each one's own protocol, then one for each last training epoch."""
    metrics = {name: function for results in experiments for name, function in results.metrics.items()}
    header = ["experiment", "protocol", "folds", "n", "subjects", *map(title_of, metrics)]
    header += [*(f"F1 {stage}" for stage in STAGE_NAMES), "s per fold"]
    names = _names(experiments)
    rows, wholes, n_subjects = [], [], []
    for own in (True, False):
        for name, results in zip(names, experiments, strict=True):
            if not own and results.evaluation is not None:
                continue
            predictions = results.predictions
            protocol, y_pred = _choose(results, predictions, own)
            counts = statistics.counts_by_group(predictions.subject, predictions.y_true, y_pred)[1]
            whole = counts.sum(0)
            figures, limits = statistics.evaluated(metrics, whole), statistics.intervals(metrics, counts)
            f1 = zip(metric.per_class(whole)["f1"].tolist(), metric.occurs(whole).tolist(), strict=True)
            rows.append(
                [name, protocol, f"{len(results.folds)}/{results.num_folds}", str(whole.sum()), str(len(counts))]
                + [with_interval(figures[name], limits[name], title_of(name)) for name in metrics]
                + [f"{100 * value:.1f}" if occurs else "-" for value, occurs in f1]
                + [f"{np.mean(list(results.seconds.values())):.0f}" if results.seconds else "-"]
            )
            wholes.append(whole)
            n_subjects.append(len(counts))
    statistics.warn_of_failures(metrics, wholes)
    lines = [_text_table(header, rows, n_left=2)]
    lines.append(f"In brackets: {statistics.LEVEL} % intervals, by bootstrap over subjects.")
    lines.append(statistics.few_subjects(min((n for n in n_subjects if n > 1), default=1)))
    return "\n".join(filter(None, lines))


def compare(first: Results, second: Results) -> dict[str, Any]:
    """Compare two experiments on the recordings that they share.

    Returns
    -------
    dict
        `n_recordings`, `n_subjects`, and by `own` (each one's own protocol) and `last_epoch`: `protocols`, the two
        names; `first` and `second`, the metrics on all shared sleep epochs pooled; `difference`, second - first, for
        each metric as `statistics.paired_difference` gives it. Where one is an evaluation on other nights, which has no
        last training epoch, `own` alone.

    Raises
    ------
    UserError
        They share no recording, or a shared recording differs in its sleep epochs, true stages or subject.
    """
    metrics = first.metrics | second.metrics
    one, other = _shared(first, second)
    result: dict[str, Any] = {"n_recordings": len(np.unique(one.recording)), "n_subjects": len(np.unique(one.subject))}
    for key in ["own"] if OTHER_NIGHTS in (first.protocol, second.protocol) else ["own", "last_epoch"]:
        chosen = [_choose(first, one, key == "own"), _choose(second, other, key == "own")]
        counts = [statistics.counts_by_group(one.subject, one.y_true, y_pred)[1] for _, y_pred in chosen]
        result[key] = {
            "protocols": [protocol for protocol, _ in chosen],
            "first": statistics.evaluated(metrics, counts[0].sum(0)),
            "second": statistics.evaluated(metrics, counts[1].sum(0)),
            "difference": statistics.differences_by_subject(metrics, *counts),
        }
    return result


def comparison(first: Results, second: Results) -> str:
    """Write the result of `compare` as text; it raises what that does."""
    compared = compare(first, second)
    one, other = _names([first, second])
    lines = [
        f"A = {one}, B = {other}: "
        f"{number_of(compared['n_recordings'], 'shared recording')} of {number_of(compared['n_subjects'], 'subject')}.",
        "A and B: all shared sleep epochs pooled. B - A: mean of the subjects' differences, "
        f"its {statistics.LEVEL} % interval by bootstrap over subjects, p of the Wilcoxon signed-rank test.",
    ]
    n = compared["n_subjects"]
    if n < 2:
        lines.append("With one subject there is neither interval nor p.")
    elif note := statistics.few_subjects(n):
        lines.append(note)
    lines += filter(None, [statistics.smallest_p(n)])
    for key in (key for key in ("own", "last_epoch") if key in compared):
        a, b = compared[key]["protocols"]
        lines += ["", f"Protocol {a}" if a == b else f"Protocol {a} of A, {b} of B"]
        if a != b and "last_epoch" in compared:
            lines.append(_on_last_epochs(first, second))
        lines.append(_comparison_table(compared[key]))
        lines += _disagreements(compared[key])
    return "\n".join(lines)


def _on_last_epochs(first: Results, second: Results) -> str:
    """Say whether the last training epochs compare like with like where the experiments' own protocols do not."""
    differences = [
        f"{what}: {one} in A, {other} in B"
        for what, one, other in (
            ("folds", first.num_folds, second.num_folds),
            ("share of subjects set aside for validation", _valid_share(first), _valid_share(second)),
            ("training epochs", _train_epochs(first), _train_epochs(second)),
        )
        if one != other
    ]
    has_context = [results.predictions.y_pred_context is not None for results in (first, second)]
    reasons = ["in how the weights are selected"] * (first.protocol != second.protocol)
    reasons += ["in the night context, which one of them has"] * (has_context[0] != has_context[1])
    own = f"These two differ {' and '.join(reasons)}"
    if not differences:
        return f"{own}; the last epochs below compare like with like."
    return f"{own}. The last epochs below select nothing, but do not compare like with like: {'; '.join(differences)}."


def _valid_share(results: Results) -> float:
    """Share of the training subjects that is set aside for validation."""
    return results.config["evaluation"]["valid_subjects"] if results.protocol == "holdout" else 0


def _train_epochs(results: Results) -> str:
    """Write how many training epochs the folds had: `100`, or `20 to 31`."""
    lengths = [len(history) for history in results.histories.values()]
    return str(min(lengths)) if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"


def _choose(results: Results, predictions: Predictions, own: bool) -> tuple[str, np.ndarray]:
    """Choose a protocol and its predictions; an experiment's own are those with the night context, if it has them."""
    if own and predictions.y_pred_context is not None:
        return f"{results.protocol}, context", predictions.y_pred_context
    return (results.protocol, predictions.y_pred) if own else ("last_epoch", predictions.y_pred_last_epoch)


def _shared(first: Results, second: Results) -> tuple[Predictions, Predictions]:
    """Take the predictions of the recordings that both have, sorted by recording and sleep epoch."""
    one, other = first.predictions, second.predictions
    recordings = np.intersect1d(one.recording, other.recording)
    if len(recordings) == 0:
        raise UserError(
            f"{first.experiment} and {second.experiment} share no recording: there is nothing to compare. "
            f"The one has {one.recording[0]} and others, the other {other.recording[0]} and others."
        )
    one, other = (each.take(np.isin(each.recording, recordings)) for each in (one, other))
    one, other = (each.take(np.lexsort((each.sleep_epoch, each.recording))) for each in (one, other))
    nights = one.nights(), other.nights()
    for recording in recordings.tolist():
        mine, theirs = one.take(nights[0][recording]), other.take(nights[1][recording])
        for name, what in (("sleep_epoch", "sleep epochs"), ("y_true", "true stages"), ("subject", "subject")):
            if not np.array_equal(mine.arrays[name], theirs.arrays[name]):
                raise UserError(
                    f"{recording}: other {what} in {second.experiment} than in {first.experiment}. They are "
                    "of different preparations, or with different subject_pattern; train or evaluate one of them again."
                )
    return one, other


def _comparison_table(compared: Mapping[str, Any]) -> str:
    """Make the table of one protocol, a line for each metric."""
    rows = []
    for name, difference in compared["difference"].items():
        title, p = title_of(name), difference["p_value"]
        figures = [written(compared[side][name], title) for side in ("first", "second")]
        gain = with_interval(difference["mean"], difference["interval"], title, signed=True)
        rows.append([title, *figures, gain, "-" if p is None else f"{p:.3g}"])
    return _text_table(["", "A", "B", "B - A", "p"], rows, n_left=1)


def _disagreements(compared: Mapping[str, Any]) -> list[str]:
    """Name the metrics of one protocol whose interval leaves out 0 while p is not small, or the other way round."""
    titles = []
    for name, difference in compared["difference"].items():
        if difference["interval"] is not None:
            low, high = difference["interval"]
            if (low > 0 or high < 0) != (difference["p_value"] < 1 - statistics.LEVEL / 100):
                titles.append(title_of(name))
    if not titles:
        return []
    why = "The interval is about the mean of the differences, p about their ranks."
    return [f"Interval and p disagree on whether there is a difference: {', '.join(titles)}. {why}"]


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
    """Names of experiments; their paths if two have the same name."""
    names = [results.name for results in experiments]
    return names if len(set(names)) == len(names) else [str(results.experiment) for results in experiments]
