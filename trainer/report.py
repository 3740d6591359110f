"""All folds of an experiment: pooled metrics, tables, the classification report.

python -m trainer.report saved/Exp1
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model import metric
from trainer.experiment import Predictions, fold_directory, is_finished, read_predictions
from utils.errors import UserError
from utils.files import replacing, write_text
from utils.lock import locked
from utils.logs import LOG, SUMMARY, log_to_console, log_to_file
from utils.stages import STAGE_NAMES

PROTOCOLS = {
    "released": "selected on the test fold, optimistic",
    "last_epoch": "the last training epoch, which selects nothing",
}
"""What each protocol's figures are."""

HEADLINE = {"accuracy": metric.accuracy, "macro_f1": metric.macro_f1, "kappa": metric.kappa, "mgm": metric.mgm}


def write_report_if_complete(experiment: Path, num_folds: int) -> None:
    """Write the report into the last fold's folder if all folds are finished."""
    last = fold_directory(experiment, num_folds - 1)
    if all(is_finished(fold_directory(experiment, fold)) for fold in range(num_folds)):
        # Folds that are trained side by side may finish at the same time.
        with locked(last / "info.log"), log_to_file(last / "info.log"):
            write_report(experiment, range(num_folds))


def write_report(experiment: Path, folds: Sequence[int]) -> dict[str, Any]:
    """Write the classification report of some folds into the folder of the last of them, and log its headline.

    Parameters
    ----------
    experiment : Path
        `<save_dir>/<name>`.
    folds : sequence of int
        Finished folds, ascending.

    Returns
    -------
    dict
        What `report.json` holds.
    """
    report = make_report({fold: read_predictions(fold_directory(experiment, fold)) for fold in folds})
    directory = fold_directory(experiment, folds[-1])
    workbook = directory / f"{experiment.resolve().name}_classification_report.xlsx"
    write_text(directory / "report.json", json.dumps(report, indent=2) + "\n")
    with replacing(workbook) as temporary, pd.ExcelWriter(temporary, engine="openpyxl") as writer:
        for sheet, table in tables(report).items():
            table.to_excel(writer, sheet_name=sheet)
            _fit_columns(writer.sheets[sheet])
    LOG.log(SUMMARY, summary(report))
    LOG.log(SUMMARY, f"Report: {workbook}\n        {directory / 'report.json'}")
    return report


def make_report(folds: Mapping[int, Predictions]) -> dict[str, Any]:
    """Compute the metrics on the pooled predictions of all folds, per fold, and per recording.

    Parameters
    ----------
    folds : mapping of int to Predictions
        By number of the fold.

    Returns
    -------
    dict
        Plain values, fractions from 0 to 1: `protocols`, `per_fold`, `per_recording`.
    """
    y_true, recording = _pooled(folds, "y_true"), _pooled(folds, "recording")
    predicted = {"released": _pooled(folds, "y_pred"), "last_epoch": _pooled(folds, "y_pred_last_epoch")}
    fold = np.repeat(list(folds), [len(predictions.y_true) for predictions in folds.values()])

    def rows(groups: np.ndarray, column: str) -> list[dict[str, Any]]:
        """One row for each value of `groups`."""
        return [
            {column: group.item(), "n": int((groups == group).sum())}
            | {
                protocol: _headline(y_true[groups == group], y_pred[groups == group])
                for protocol, y_pred in predicted.items()
            }
            for group in np.unique(groups)
        ]

    return {
        "protocols": {protocol: _scores(protocol, y_true, y_pred) for protocol, y_pred in predicted.items()},
        "per_fold": rows(fold, "fold"),
        "per_recording": rows(recording, "recording"),
    }


def tables(report: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Turn a report into the sheets of the workbook, by title; metrics in percent but for kappa."""
    protocols = report["protocols"]
    overall = pd.DataFrame({_label(name): _in_percent(scores) for name, scores in protocols.items()}).T
    per_class = pd.concat(
        {_label(name): pd.DataFrame(scores["per_class"]).T for name, scores in protocols.items()},
        names=["protocol", "stage"],
    )
    per_class[["precision", "recall", "f1", "g_mean"]] *= 100
    per_class["support"] = per_class["support"].astype(int)
    return {
        "overall": overall.rename_axis("protocol"),
        "per class": per_class.rename(columns=_title),
        "confusion matrix": pd.concat(
            {_label(name): _confusion_table(scores["confusion_matrix"]) for name, scores in protocols.items()},
            names=["protocol", "true stage"],
        ),
        "per fold": _rows_table(report["per_fold"], "fold"),
        "per recording": _rows_table(report["per_recording"], "recording"),
    }


def summary(report: Mapping[str, Any]) -> str:
    """Say the headline of a report in a few lines of text."""
    lines = []
    for name, scores in report["protocols"].items():
        lines.append(f"Protocol {_label(name)}: {scores['n']} sleep epochs")
        lines.append(
            f"  accuracy {100 * scores['accuracy']:.1f} %   macro F1 {100 * scores['macro_f1']:.1f} %   "
            f"kappa {scores['kappa']:.3f}   MGm {100 * scores['mgm']:.1f} %"
        )
        f1 = (f"{stage} {100 * scores['per_class'][stage]['f1']:.1f}" for stage in STAGE_NAMES)
        lines.append(f"  F1 in percent: {'   '.join(f1)}")
    return "\n".join(lines)


def _scores(protocol: str, y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, Any]:
    """All figures of one protocol, on everything pooled."""
    by_class = metric.per_class(y_true, y_pred)
    return {
        "label": PROTOCOLS[protocol],
        **_headline(y_true, y_pred),
        "n": len(y_true),
        "confusion_matrix": metric.confusion_matrix(y_true, y_pred).tolist(),
        "per_class": {
            stage: {name: values[position].item() for name, values in by_class.items()}
            for position, stage in enumerate(STAGE_NAMES)
        },
    }


def _headline(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    return {name: function(y_true, y_pred) for name, function in HEADLINE.items()}


def _pooled(folds: Mapping[int, Predictions], attribute: str) -> np.ndarray:
    return np.concatenate([getattr(predictions, attribute) for predictions in folds.values()])


def _label(protocol: str) -> str:
    return f"{protocol} ({PROTOCOLS[protocol]})"


def _title(column: str) -> str:
    """Name a column for people."""
    titles = {"f1": "F1 %", "macro_f1": "macro F1 %", "mgm": "MGm %", "g_mean": "G-mean %"}
    plain = {"n", "kappa", "support", "fold", "recording"}
    return column if column in plain else titles.get(column, f"{column} %")


def _in_percent(scores: Mapping[str, Any]) -> dict[str, float]:
    """Headline figures under their titles."""
    return {
        _title(name): value if name in {"kappa", "n"} else 100 * value
        for name, value in scores.items()
        if name in {*HEADLINE, "n"}
    }


def _confusion_table(matrix: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Lay the counts beside the percent of the true stage."""
    counts = pd.DataFrame(matrix, index=list(STAGE_NAMES), columns=[f"{stage} (count)" for stage in STAGE_NAMES])
    percent = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    percent.columns = pd.Index([f"{stage} (% of row)" for stage in STAGE_NAMES])
    return counts.join(percent)


def _rows_table(rows: Iterable[Mapping[str, Any]], key: str) -> pd.DataFrame:
    """One row per fold or recording, the figures of each protocol side by side."""
    return (
        pd.DataFrame(
            {
                row[key]: {"n": row["n"]}
                | {
                    f"{protocol}: {title}": value
                    for protocol in PROTOCOLS
                    for title, value in _in_percent(row[protocol]).items()
                }
                for row in rows
            }
        )
        .T.rename_axis(key)
        .astype({"n": int})
    )


def _fit_columns(sheet: Any) -> None:
    """Make columns as wide as their longest cell and show two decimals."""
    for column in sheet.columns:
        sheet.column_dimensions[column[0].column_letter].width = 2 + max(
            len(f"{cell.value:.2f}" if isinstance(cell.value, float) else str(cell.value or "")) for cell in column
        )
        for cell in column:
            if isinstance(cell.value, float):
                cell.number_format = "0.000" if abs(cell.value) <= 1 else "0.00"
    sheet.freeze_panes = "B2"


def main() -> int:
    """Report on the folds of an experiment that are finished; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.report", description=__doc__.partition("\n")[0])
    parser.add_argument("experiment", type=Path, help="folder of an experiment, such as saved/Exp1")
    experiment = parser.parse_args().experiment
    log_to_console(0)
    try:
        num_folds = _num_folds(experiment)
        finished = [fold for fold in range(num_folds) if is_finished(fold_directory(experiment, fold))]
        if not finished:
            raise UserError(f"{experiment}: no fold is finished. Train one with train_Kfold_CV.py.")
        missing = sorted(set(range(num_folds)) - set(finished))
        if missing:
            LOG.warning(f"{len(finished)} of {num_folds} folds are finished; missing: {', '.join(map(str, missing))}.")
        write_report(experiment, finished)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _num_folds(experiment: Path) -> int:
    """Read how many folds the experiment's configuration asks for."""
    for path in sorted(experiment.glob("fold_*/config.json")):
        return json.loads(path.read_text(encoding="utf-8"))["data_loader"]["args"]["num_folds"]
    raise UserError(f"{experiment}: no experiment here (no fold_*/config.json). Pass a folder such as saved/Exp1.")


if __name__ == "__main__":
    sys.exit(main())
