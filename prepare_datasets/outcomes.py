"""The outcome of each recording, and how it is printed: a row each, then totals, remarks and problems."""

import sys
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from utils.stages import SLEEP_EPOCH_S, STAGE_NAMES

COUNTS = (*STAGE_NAMES, "all", "hours")
"""Heads of the sleep epochs of each stage and of all, and their hours."""

N_SHOWN = 3  # recordings that are named where a line is about many


@dataclass(frozen=True)
class Outcome:
    """The outcome of one recording.

    Its state is "prepared" (or "scored"), "kept" (was there already), "left out" (by a rule), "problem", or "not done".
    """

    name: str
    state: str
    counts: tuple[int, ...] = ()  # sleep epochs of each stage, if it was prepared or kept
    seconds: float = 0.0
    text: str = ""  # the problem, or the rule that leaves it out
    cells: tuple[str, ...] = ()  # what its row shows instead of the counts
    table: str = ""  # figures to print at the end
    remarks: tuple[str, ...] = ()  # what the user should know of how it was prepared


def tell(text: str) -> None:
    """Print without disturbing the progress bar, and without delay into a pipe."""
    tqdm.write(text)
    sys.stdout.flush()


def some_names(names: Sequence[str]) -> str:
    """Name the first recordings, and count the others."""
    return ", ".join(names[:N_SHOWN]) + (f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else "")


def tell_head(title: str, width: int, heads: Sequence[str] = COUNTS) -> None:
    """Print the title and the head of the table. `width` is the width of the names."""
    tell(f"{title}\n\n{_row('', heads, width)}")


def tell_outcome(outcome: Outcome, width: int) -> None:
    """Print the row of one recording."""
    if outcome.counts:
        remark = "kept" if outcome.state == "kept" else f"{outcome.seconds:.1f} s"
        tell(f"{_row(outcome.name, outcome.cells or _count_cells(outcome.counts), width)}{remark:>9}")
    else:
        tell(f"{outcome.name:<{width}}   {outcome.state}: {outcome.text}")


def tell_end(
    outcomes: Sequence[Outcome],
    where: str,
    width: int,
    problems: Sequence[str],
    notes: Sequence[str],
    done: str = "prepared",
) -> int:
    """Print the totals, remarks, notes, what was left out and the problems; return the exit code.

    `where` is the folder of the results, `problems` were found before the recordings were read, and `done` is the state
    of a recording that was worked on.
    """
    by_state: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_state[outcome.state].append(outcome)
    problems = [*problems, *(outcome.text for outcome in by_state["problem"])]
    totals = [sum(counts) for counts in zip(*(o.counts for o in outcomes if o.counts), strict=True)]
    if totals:
        tell(f"\n{_row('', COUNTS, width)}")
        tell(_row("total", _count_cells(totals), width))
        tell(_row("", [f"{100 * total / sum(totals):.1f}%" for total in totals], width))
    for note in [*_remarks(outcomes), *notes]:
        tell("\n" + textwrap.fill(note, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    if by_state["left out"]:
        tell(f"\nLeft out ({len(by_state['left out'])}):")
        for outcome in by_state["left out"]:
            tell(f"  {outcome.name}: {outcome.text}")
    not_done = [outcome.name for outcome in by_state["not done"]]
    n_bad = len(problems) + len(not_done)
    rest = f", {len(not_done)} not done" if not_done else ""
    tell(f"\n{len(by_state[done])} {done}, {len(by_state['kept'])} kept, {len(problems)} with problems{rest}: {where}")
    if not_done:
        problems.append(
            f"{some_names(not_done)}: not done, because a process was killed. Perhaps the memory was full. "
            "Run the same command again, with fewer --jobs if need be; finished recordings are kept."
        )
    if problems:
        print(f"\nNot {done} ({n_bad}):", *(f"  {problem}" for problem in problems), sep="\n", file=sys.stderr)
    return 1 if problems else 0


def _row(name: str, cells: Sequence[object], width: int) -> str:
    """Return a row of the table."""
    return f"{name:<{width}}" + "".join(f"{cell:>8}" for cell in cells)


def _count_cells(counts: Sequence[int]) -> list[object]:
    """Return the sleep epochs of each stage, of all stages, and their hours."""
    return [*counts, sum(counts), f"{sum(counts) * SLEEP_EPOCH_S / 3600:.1f}"]


def _remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """Return each remark once, with the names of its recordings."""
    names: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        for remark in outcome.remarks:
            names[remark].append(outcome.name)
    return [f"{some_names(of)}: {remark}" for remark, of in names.items()]
