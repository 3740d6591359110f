"""What became of the recordings, and how it is told: a row each, totals, remarks, problems."""

import sys
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from utils.stages import SLEEP_EPOCH_S, STAGE_NAMES


@dataclass(frozen=True)
class Outcome:
    """What became of one recording.

    Attributes
    ----------
    name : str
        Of the recording.
    state : str
        "prepared" (or what else was done), "kept" (was there already), "left out" (by rule) or "problem".
    counts : tuple of int
        Sleep epochs of each stage, if done or kept.
    seconds : float
        That it took, if done.
    text : str
        What is wrong, or the rule, if a problem or left out.
    remarks : tuple of str
        What was done to it that the user should know.
    """

    name: str
    state: str
    counts: tuple[int, ...] = ()
    seconds: float = 0.0
    text: str = ""
    remarks: tuple[str, ...] = ()


N_SHOWN = 3
"""Recordings that are named with a remark that holds for many."""


def tell(text: str) -> None:
    """Print without disturbing the progress bar, and at once also into a pipe."""
    tqdm.write(text)
    sys.stdout.flush()


def _row(name: str, cells: Sequence[object], width: int) -> str:
    """Return a row of the table."""
    return f"{name:<{width}}" + "".join(f"{cell:>8}" for cell in cells)


def _count_cells(counts: Sequence[int]) -> list[object]:
    """Return the cells of a row of counts: each stage, all of them, hours."""
    return [*counts, sum(counts), f"{sum(counts) * SLEEP_EPOCH_S / 3600:.1f}"]


def tell_outcome(outcome: Outcome, width: int) -> None:
    """Print what became of one recording."""
    if outcome.counts:
        remark = "kept" if outcome.state == "kept" else f"{outcome.seconds:.1f} s"
        tell(f"{_row(outcome.name, _count_cells(outcome.counts), width)}{remark:>9}")
    else:
        tell(f"{outcome.name:<{width}}   {outcome.state}: {outcome.text}")


def tell_head(title: str, width: int) -> None:
    """Print what is going to be done, and the head of the table, whose names are `width` wide."""
    tell(f"{title}\n\n{_row('', [*STAGE_NAMES, 'all', 'hours'], width)}")


def tell_end(
    outcomes: Sequence[Outcome],
    where: str,
    width: int,
    problems: Sequence[str],
    notes: Sequence[str],
    done: str = "prepared",
) -> int:
    """Print the totals, remarks, notes, what was left out and the problems; return the exit code."""
    of = {state: [o for o in outcomes if o.state == state] for state in (done, "kept", "left out", "problem")}
    totals = [sum(counts) for counts in zip(*(o.counts for o in outcomes if o.counts), strict=True)]
    problems = [*problems, *(o.text for o in of["problem"])]
    if totals:
        shares = [f"{100 * total / sum(totals):.1f}%" for total in totals]
        tell(f"\n{_row('', [*STAGE_NAMES, 'all', 'hours'], width)}")
        tell(_row("total", _count_cells(totals), width))
        tell(_row("", shares, width))
    for note in [*_remarks(outcomes), *notes]:
        tell("\n" + textwrap.fill(note, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    if of["left out"]:
        tell(f"\nLeft out ({len(of['left out'])}):")
        for outcome in of["left out"]:
            tell(f"  {outcome.name}: {outcome.text}")
    tell(f"\n{len(of[done])} {done}, {len(of['kept'])} kept, {len(problems)} with problems: {where}")
    if problems:
        print(f"\nNot {done} ({len(problems)}):", *(f"  {problem}" for problem in problems), sep="\n", file=sys.stderr)
    return 1 if problems else 0


def _remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """Return each remark once, with the recordings that it holds for."""
    names: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        for remark in outcome.remarks:
            names[remark].append(outcome.name)
    return [
        f"{', '.join(of[:N_SHOWN])}{f' and {len(of) - N_SHOWN} more' if len(of) > N_SHOWN else ''}: {remark}"
        for remark, of in names.items()
    ]
