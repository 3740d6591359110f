"""What the preparation scripts share: arguments, the recordings one by one, what is told, and the exit code."""

import argparse
import errno
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from prepare_datasets.processes import results
from utils.arguments import positive
from utils.cores import n_cores
from utils.errors import UserError
from utils.recording import Recording, read_outline, write_recording
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES


class LeftOut(Exception):  # noqa: N818 - not an error
    """A recording that a rule of its data set leaves out; its text is the rule."""


@dataclass(frozen=True)
class Task:
    """One recording to prepare.

    Attributes
    ----------
    name : str
        Of the recording; the file becomes `<name>.npz`.
    read : callable
        Reads it. It may go to another process: a function of a module, or a `functools.partial` of one.
    """

    name: str
    read: Callable[[], Recording]


@dataclass(frozen=True)
class Outcome:
    """What became of one recording.

    Attributes
    ----------
    name : str
        Of the recording.
    state : str
        "prepared", "kept" (was there already), "left out" (by rule) or "problem".
    counts : tuple of int
        Sleep epochs of each stage, if prepared or kept.
    seconds : float
        That it took, if prepared.
    text : str
        What is wrong, or the rule, if a problem or left out.
    """

    name: str
    state: str
    counts: tuple[int, ...] = ()
    seconds: float = 0.0
    text: str = ""


def argument_parser(description: str, output_dir: str, channel: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all preparation scripts take; `output_dir` and `channel` are defaults."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, metavar="DIR", help="folder of the EDF files")
    add("--output_dir", type=Path, default=Path(output_dir), metavar="DIR", help="of the npz files (%(default)s)")
    add("--select_ch", nargs="+", default=[channel], metavar="CHANNEL", help=f"EEG channel by its name ({channel})")
    add("--jobs", type=positive, default=n_cores(), metavar="N", help="recordings at once (the cores: %(default)s)")
    add("--overwrite", action="store_true", help="prepare recordings again whose npz is there")
    return parser


def channel_name(words: Sequence[str]) -> str:
    """Return the channel that `--select_ch` names, whether it came quoted or as several words."""
    return " ".join(words)


def list_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files in `folder` whose names match `pattern`, sorted, without hidden ones.

    Raises
    ------
    UserError
        There is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "there is no such folder"
        raise UserError(f"{folder}: {what}. Pass the folder that holds the {pattern} files.")
    try:
        return sorted(path for path in folder.iterdir() if path.match(pattern) and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}. Pass a folder that can be read.") from error


def run(
    tasks: Sequence[Task], arguments: argparse.Namespace, problems: Sequence[str] = (), notes: Sequence[str] = ()
) -> int:
    """Prepare all recordings, several at once, and tell what became of each and of all.

    Parameters
    ----------
    tasks : sequence of Task
    arguments : Namespace
        From a parser made by `argument_parser`.
    problems : sequence of str
        Recordings of which something was found wrong before they were read.
    notes : sequence of str
        What else is told at the end.

    Returns
    -------
    int
        Exit code: 0, or 1 if there was a problem or nothing at all was prepared.

    Raises
    ------
    UserError
        The output folder cannot be made.
    """
    output_dir, channel = arguments.output_dir, channel_name(arguments.select_ch)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output_dir}: {error.strerror}. Pass another --output_dir.") from error
    work = partial(prepare, output_dir=output_dir, channel=channel, overwrite=arguments.overwrite)
    width = max((len(task.name) for task in tasks), default=0)
    _tell(f"{channel} of {len(tasks)} recordings to {output_dir}\n")
    _tell(_row("", [*STAGE_NAMES, "all", "hours"], width))
    outcomes = []
    # disable=None: a bar on a terminal only
    with tqdm(total=len(tasks), unit=" recordings", leave=False, disable=None) as bar:
        with closing(results(work, tasks, arguments.jobs, _died)) as finished:
            for outcome in finished:
                outcomes.append(outcome)
                bar.update()
                _tell_outcome(outcome, width)
    return _tell_end(sorted(outcomes, key=lambda outcome: outcome.name), output_dir, width, problems, notes)


def exit_code(main: Callable[[], int]) -> int:
    """Return the exit code of a script's `main`; what a user caused, or Ctrl-C, becomes one line."""
    try:
        return main()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here: finished recordings are kept.", file=sys.stderr)
        return 130


def prepare(task: Task, output_dir: Path, channel: str, overwrite: bool) -> Outcome:
    """Prepare one recording, or keep what is there. Whatever goes wrong is told in the outcome, never raised."""
    path, begin = output_dir / f"{task.name}.npz", time.perf_counter()
    try:
        if path.exists() and not overwrite:
            return Outcome(task.name, "kept", _finished_counts(path, channel))
        recording = task.read()
        write_recording(path, recording)
        return Outcome(task.name, "prepared", _counts(recording.stages), time.perf_counter() - begin)
    except LeftOut as rule:
        return Outcome(task.name, "left out", text=str(rule))
    except UserError as error:
        text = str(error)
    except OSError as error:
        text = _system_text(error, path)
    except MemoryError:
        text = f"{task.name}: not enough memory. Run the same command again with fewer --jobs."
    except Exception as error:  # a mistake of ours must not cost the other recordings
        reason = " ".join(str(error).split())
        text = f"{task.name}: unexpected {type(error).__name__} ({reason}). Please report it."
    return Outcome(task.name, "problem", text=text)


def _finished_counts(path: Path, channel: str) -> tuple[int, ...]:
    """Return the sleep epochs of each stage in a prepared recording, which must be of this channel."""
    try:
        outline = read_outline(path)
    except UserError as error:
        raise UserError(f"{error} Pass --overwrite to do so.") from error
    if outline.channel != channel:
        raise UserError(
            f"{path.name}: is there already, but of channel {outline.channel!r}, not {channel!r}. "
            "Pass --overwrite to replace it, or another --output_dir."
        )
    return _counts(outline.stages)


def _counts(stages: np.ndarray) -> tuple[int, ...]:
    """Return the sleep epochs of each stage."""
    return tuple(int(np.count_nonzero(stages == stage)) for stage in range(N_STAGES))


def _system_text(error: OSError, path: Path) -> str:
    """Say what the operating system had to say while a recording was read or `path` was written."""
    name = Path(error.filename).name if isinstance(error.filename, str) else path.name
    remedy = "Mend that"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        name, remedy = path.name, f"The disk of {path.parent} is full: make room"
    return f"{name}: {error.strerror or error}. {remedy} and run the same command again; finished recordings are kept."


def _died(task: Task) -> Outcome:
    """Return the outcome of a recording that ended its process, also when it had one of its own."""
    text = f"{task.name}: its process was killed, perhaps for want of memory. Free some and run the same command again."
    return Outcome(task.name, "problem", text=text)


def _tell(text: str) -> None:
    """Print without disturbing the progress bar, and at once also into a pipe."""
    tqdm.write(text)
    sys.stdout.flush()


def _row(name: str, cells: Sequence[object], width: int) -> str:
    """Return a row of the table."""
    return f"{name:<{width}}" + "".join(f"{cell:>8}" for cell in cells)


def _count_cells(counts: Sequence[int]) -> list[object]:
    """Return the cells of a row of counts: each stage, all of them, hours."""
    return [*counts, sum(counts), f"{sum(counts) * SLEEP_EPOCH_S / 3600:.1f}"]


def _tell_outcome(outcome: Outcome, width: int) -> None:
    """Print what became of one recording."""
    if outcome.counts:
        remark = "kept" if outcome.state == "kept" else f"{outcome.seconds:.1f} s"
        _tell(f"{_row(outcome.name, _count_cells(outcome.counts), width)}{remark:>9}")
    else:
        _tell(f"{outcome.name:<{width}}   {outcome.state}: {outcome.text}")


def _tell_end(
    outcomes: Sequence[Outcome], output_dir: Path, width: int, problems: Sequence[str], notes: Sequence[str]
) -> int:
    """Print the totals, the notes, what was left out and the problems; return the exit code."""
    of = {state: [o for o in outcomes if o.state == state] for state in ("prepared", "kept", "left out", "problem")}
    totals = [sum(counts) for counts in zip(*(o.counts for o in outcomes if o.counts), strict=True)]
    problems = [*problems, *(o.text for o in of["problem"])]
    if totals:
        shares = [f"{100 * total / sum(totals):.1f}%" for total in totals]
        _tell(f"\n{_row('', [*STAGE_NAMES, 'all', 'hours'], width)}")
        _tell(_row("total", _count_cells(totals), width))
        _tell(_row("", shares, width))
    elif not problems:
        problems = [f"{output_dir}: nothing was prepared."]
    for note in notes:
        _tell("\n" + textwrap.fill(note, 110, subsequent_indent="  "))
    if of["left out"]:
        _tell(f"\nLeft out ({len(of['left out'])}):")
        for outcome in of["left out"]:
            _tell(f"  {outcome.name}: {outcome.text}")
    _tell(f"\n{len(of['prepared'])} prepared, {len(of['kept'])} kept, {len(problems)} with problems: {output_dir}")
    if problems:
        print(
            f"\nNot prepared ({len(problems)}):", *(f"  {problem}" for problem in problems), sep="\n", file=sys.stderr
        )
    return 1 if problems else 0
