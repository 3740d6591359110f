"""Several scorers of one night: their majority, and how far each and the network agree with it.

The published figures of human scorers are of this kind: each of five against the majority of the other four (Guillot et
al. 2020, Dreem Open Datasets, IEEE Trans Neural Syst Rehabil Eng 28:1955).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model import metric
from recordings.stage_names import UNSCORED
from utils.stages import N_STAGES, STAGE_NAMES

_FIGURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "kappa": "kappa", "mgm": "MGm"}
_PERCENT = ("accuracy", "macro_f1", "mgm")


def agreement(reference: np.ndarray, stages: np.ndarray) -> dict[str, Any] | None:
    """Evaluate stages against a reference, over the sleep epochs that have a stage in both; None if there is none.

    Both are of shape (n_sleep_epochs,), 0 to 4, or -1 where there is no stage.

    Returns
    -------
    dict
        `n`, the number of these sleep epochs; `accuracy`, `macro_f1`, `kappa`, `mgm`; `f1` by stage, None where a
        stage is in neither; `confusion_matrix`, (5, 5), with the reference's stages as rows.
    """
    both = (reference != UNSCORED) & (stages != UNSCORED)
    if not both.any():
        return None
    y_true, y_pred = reference[both], stages[both]
    counts = metric.confusion_matrix(y_true, y_pred)
    f1 = np.where(metric.occurs(counts), metric.per_class(counts)["f1"], np.array(None))
    return {
        "n": len(y_true),
        "accuracy": metric.accuracy(y_true, y_pred),
        "macro_f1": metric.macro_f1(y_true, y_pred),
        "kappa": metric.kappa(y_true, y_pred),
        "mgm": metric.mgm(y_true, y_pred),
        "f1": dict(zip(STAGE_NAMES, f1.tolist(), strict=True)),
        "confusion_matrix": counts.tolist(),
    }


def soft_agreement(hypnograms: np.ndarray) -> np.ndarray:
    """Compute how well each scorer agrees with the others (Stephansen et al. 2018, Nat Commun 9:5229; Guillot 2020).

    In a sleep epoch, a scorer's stage counts as the number of other scorers who gave it, divided by the number of those
    who gave the stage that most of them gave: 1 for the majority's stage, also in a tie, and 0 for a stage that nobody
    else gave. The soft agreement is the mean over the sleep epochs that the scorer and any other gave a stage; 0 if
    there are none.

    Parameters
    ----------
    hypnograms : ndarray of shape (n_scorers, n_sleep_epochs)
        0 to 4, or -1 where there is no stage.

    Returns
    -------
    ndarray of shape (n_scorers,)
    """
    votes = _votes(hypnograms)
    result = np.zeros(len(hypnograms))
    for scorer, own in enumerate(votes):
        others = votes.sum(axis=0) - own
        both = own.any(axis=1) & others.any(axis=1)
        if both.any():
            result[scorer] = ((own * others).sum(axis=1)[both] / others.max(axis=1)[both]).mean()
    return result


def majority(hypnograms: np.ndarray) -> np.ndarray:
    """Find the stage that most scorers gave to each sleep epoch (Guillot et al. 2020).

    Who gave no stage does not vote. Of stages with equally many votes, that counts which the scorer with the highest
    soft agreement gave; if that scorer gave none of them, the next one decides, and so on. Scorers with the same soft
    agreement, as two alone always have, rank as they are given.

    Parameters
    ----------
    hypnograms : ndarray of shape (n_scorers, n_sleep_epochs)
        See `soft_agreement`, which is computed among these scorers.

    Returns
    -------
    ndarray of shape (n_sleep_epochs,), int64
        -1 where nobody gave a stage.
    """
    votes = _votes(hypnograms)
    rank = np.empty(len(hypnograms))  # 1 for the best
    rank[np.argsort(-soft_agreement(hypnograms), kind="stable")] = np.arange(1, len(hypnograms) + 1)
    # All of these together are less than one vote, and the best scorer's is more than those of all who follow.
    weighted = (votes * (1 + 2.0 ** -(rank + 1))[:, None, None]).sum(axis=0)
    return np.where(votes.any(axis=(0, 2)), weighted.argmax(axis=1), UNSCORED)


def compare(names: Sequence[str], hypnograms: np.ndarray, stages: np.ndarray) -> list[dict[str, Any]]:
    """Compare each scorer with the network and with the other scorers.

    Parameters
    ----------
    names : sequence of str
        Of the scorers.
    hypnograms : ndarray of shape (n_scorers, n_sleep_epochs)
        See `soft_agreement`. At least two scorers.
    stages : ndarray of shape (n_sleep_epochs,)
        Of the network.

    Returns
    -------
    list of dict
        Of each scorer, in plain values: `name`, `soft_agreement`; `network`, the agreement of the network with the
        scorer, and `others`, that of the scorer with the majority of the others, see `agreement`.
    """
    soft = soft_agreement(hypnograms).tolist()
    return [
        {
            "name": name,
            "soft_agreement": soft[scorer],
            "network": agreement(hypnograms[scorer], stages),
            "others": agreement(majority(np.delete(hypnograms, scorer, axis=0)), hypnograms[scorer]),
        }
        for scorer, name in enumerate(names)
    ]


def table(night: Mapping[str, Any]) -> str:
    """Lay out the agreement of a night with several scorers as lines of text; empty if there are not several.

    `night` is what its JSON file says: `scorers` from `compare`, and `agreement` with the majority of all.
    """
    scorers = night.get("scorers", [])
    pairs = [
        ("network, with the majority", night["agreement"]),
        *((f"network, with {scorer['name']}", scorer["network"]) for scorer in scorers),
        *((f"{scorer['name']}, with the majority of the others", scorer["others"]) for scorer in scorers),
    ]
    width = max(len(name) for name, _ in pairs)
    head = "".join(f"{title:>10}" for title in _FIGURES.values()) + "".join(f"{f'F1 {s}':>8}" for s in STAGE_NAMES)
    rows = [_row(name, figures, width) for name, figures in pairs]
    return "\n".join([f"{'Agreement':<{width}}{'n':>7}{head}", *rows]) if scorers else ""


def _row(name: str, figures: Mapping[str, Any] | None, width: int) -> str:
    """Write a row of the table."""
    if figures is None:
        return f"{name:<{width}}  no sleep epoch with a stage in both"
    cells = [f"{100 * figures[key]:>8.1f} %" if key in _PERCENT else f"{figures[key]:>10.3f}" for key in _FIGURES] + [
        f"{'-':>8}" if f1 is None else f"{100 * f1:>6.1f} %" for f1 in figures["f1"].values()
    ]
    return f"{name:<{width}}{figures['n']:>7,}{''.join(cells)}"


def _votes(hypnograms: np.ndarray) -> np.ndarray:
    """Make an array of 0 and 1 of stages, (n_scorers, n_sleep_epochs, 5); no stage is all 0."""
    return (hypnograms[:, :, None] == np.arange(N_STAGES)).astype(int)
