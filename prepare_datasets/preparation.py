"""What the preparation scripts share: arguments, the recordings one by one, what is told, and the exit code."""

import argparse
import errno
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from prepare_datasets.outcomes import Outcome, tell, tell_end, tell_head, tell_outcome
from utils.arguments import positive
from utils.cores import n_cores
from utils.errors import UserError
from utils.files import name_problem
from utils.logs import print_any_name
from utils.processes import results
from utils.recording import Recording, read_outline, write_recording
from utils.stages import N_STAGES

T = TypeVar("T")
R = TypeVar("R")


class LeftOut(Exception):  # noqa: N818 - not an error
    """A recording that a rule of its data set leaves out; its text is the rule."""


@dataclass(frozen=True)
class Task(Generic[R]):
    """One recording to work on.

    Attributes
    ----------
    name : str
        Of the recording and its results.
    read : callable
        Reads it, or does all that is to be done. It may go to another process: a function of a module, or a
        `functools.partial` of one.
    fs : float or None
        Sampling rate in Hz that was asked for, if one was.
    """

    name: str
    read: Callable[[], R]
    fs: float | None = None


class Shard(NamedTuple):
    """The part of a list that one of several runs does; all of them together do it all, each recording once."""

    number: int
    of: int

    def part(self, everything: Sequence[T]) -> Sequence[T]:
        """Return every `of`-th from the `number`-th on."""
        return everything[self.number - 1 :: self.of]


def argument_parser(description: str, output_dir: str, channel: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all preparation scripts take; `output_dir` and `channel` are defaults."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, metavar="DIR", help="folder of the recordings")
    add("--output_dir", type=Path, default=Path(output_dir), metavar="DIR", help="of the npz files (%(default)s)")
    add(
        "--select_ch",
        nargs="+",
        default=channel and [channel],
        required=channel is None,
        metavar="CHANNEL",
        help=f"EEG channel by its name{f' ({channel})' if channel else ''}",
    )
    add("--jobs", type=positive, default=n_cores(), metavar="N", help="recordings at once (the cores: %(default)s)")
    add("--overwrite", action="store_true", help="prepare recordings again whose npz is there")
    add(
        "--shard",
        type=_shard,
        default=Shard(1, 1),
        metavar="K/N",
        help="only the K-th of N parts of the list of recordings; N runs, at once if you like, prepare them all",
    )
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
    tasks: Sequence[Task[Recording]],
    arguments: argparse.Namespace,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
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
    output_dir, channel, shard = arguments.output_dir, channel_name(arguments.select_ch), arguments.shard
    odd = {task.name: problem for task in tasks if (problem := name_problem(Path(task.name)))}
    in_turn = sorted((task for task in tasks if task.name not in odd), key=lambda task: task.name)
    problems = [*problems, *odd.values()]
    tasks, problems = shard.part(in_turn), shard.part(problems)
    share = f", shard {shard.number}/{shard.of}" if shard.of > 1 else ""
    if share and not tasks and not problems:
        tell(f"No recording is in shard {shard.number}/{shard.of} (recordings: {len(in_turn)}).")
        return 0
    make_folder(output_dir)
    work = partial(prepare, output_dir=output_dir, channel=channel, overwrite=arguments.overwrite)
    width = max((len(task.name) for task in tasks), default=0)
    of = f" of {len(in_turn)}" if share else ""
    tell_head(f"{channel} of {len(tasks)}{of} recordings to {output_dir}{share}", width)
    outcomes = run_each(work, tasks, arguments.jobs, width)
    if not share and not problems and all(outcome.state == "left out" for outcome in outcomes):
        problems = [f"{output_dir}: nothing was prepared."]
    return tell_end(outcomes, f"{output_dir}{share}", width, problems, notes)


def make_folder(output_dir: Path) -> None:
    """Make the folder of the results if it is missing.

    Raises
    ------
    UserError
        It cannot be made.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output_dir}: {error.strerror}. Pass another --output_dir.") from error


def run_each(work: Callable[[Task[R]], Outcome], tasks: Sequence[Task[R]], jobs: int, width: int) -> list[Outcome]:
    """Do all recordings, several at once, with a row for each, whose name is `width` wide; return them by name."""
    outcomes = []
    # disable=None: a bar on a terminal only
    with tqdm(total=len(tasks), unit=" recordings", leave=False, disable=None) as bar:
        with closing(results(work, tasks, jobs, _died)) as finished:
            for outcome in finished:
                outcomes.append(outcome)
                bar.update()
                tell_outcome(outcome, width)
    return sorted(outcomes, key=lambda outcome: outcome.name)


def exit_code(main: Callable[[], int]) -> int:
    """Return the exit code of a script's `main`; what a user caused, or Ctrl-C, becomes one line."""
    print_any_name()
    try:
        return main()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here: finished recordings are kept.", file=sys.stderr)
        return 130


def prepare(task: Task[Recording], output_dir: Path, channel: str, overwrite: bool) -> Outcome:
    """Prepare one recording, or keep what is there. Whatever goes wrong is told in the outcome, never raised."""
    path = output_dir / f"{task.name}.npz"

    def make() -> Outcome:
        begin = time.perf_counter()
        if path.exists() and not overwrite:
            return Outcome(task.name, "kept", _finished_counts(path, channel, task.fs))
        recording = task.read()
        write_recording(path, recording)
        seconds = time.perf_counter() - begin
        return Outcome(task.name, "prepared", _counts(recording.stages), seconds, remarks=recording.remarks)

    return attempted(task.name, make, path)


def attempted(name: str, make: Callable[[], Outcome], path: Path) -> Outcome:
    """Return what `make` returns for a recording; whatever it raises, while it writes `path`, becomes an outcome."""
    try:
        return make()
    except LeftOut as rule:
        return Outcome(name, "left out", text=str(rule))
    except UserError as error:
        text = str(error)
    except OSError as error:
        text = _system_text(error, path)
    except MemoryError:
        text = f"{name}: not enough memory. Run the same command again with fewer --jobs, or where there is more."
    except Exception as error:  # a mistake of ours must not cost the other recordings
        reason = " ".join(str(error).split())
        text = f"{name}: unexpected {type(error).__name__} ({reason}). Please report it."
    return Outcome(name, "problem", text=text)


def _finished_counts(path: Path, channel: str, fs: float | None) -> tuple[int, ...]:
    """Return the sleep epochs of each stage in a prepared recording, which must be of this channel and rate."""
    try:
        outline = read_outline(path)
    except UserError as error:
        raise UserError(f"{error} Pass --overwrite to do so.") from error
    for what, found, asked in (
        ("of channel", outline.channel, channel),
        ("at", f"{outline.fs:g} Hz", fs and f"{fs:g} Hz"),
    ):
        if asked and found != asked:
            raise UserError(
                f"{path.name}: is there already, but {what} {found!r}, not {asked!r}. "
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


def _died(task: Task[R]) -> Outcome:
    """Return the outcome of a recording that ended its process, also when it had one of its own."""
    text = f"{task.name}: its process was killed, perhaps for want of memory. Free some and run the same command again."
    return Outcome(task.name, "problem", text=text)


def _shard(text: str) -> Shard:
    """Parse `3/16`, the third of 16 parts."""
    found = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 3/16, from 1/16 to 16/16")
    return Shard(int(found[1]), int(found[2]))
