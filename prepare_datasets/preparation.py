"""What the preparation scripts share: arguments, the work on each recording, and the exit code."""

import argparse
import errno
import json
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from prepare_datasets.outcomes import Outcome, tell_end, tell_head, tell_outcome
from utils.arguments import positive
from utils.cores import n_cores
from utils.errors import UserError
from utils.files import name_problem
from utils.logs import never_fail_to_print
from utils.microvolts import signal_problem, without_signal, without_signal_remark
from utils.nested import differences
from utils.plural import number_of
from utils.processes import results
from utils.recording import read_outline, write_recording
from utils.stages import N_STAGES

_WRONG_UNIT = "The unit in its header cannot be right: correct it there (mV or uV?), or leave the recording out."


class LeftOut(Exception):  # noqa: N818 - not an error
    """Raised for a recording that a rule of its data set leaves out. Its text is the rule."""


@dataclass(frozen=True)
class Task:
    """One recording to work on.

    `read` and `sources` are functions of a module, or a `functools.partial` of one, as they may go to another process.
    """

    name: str
    read: Callable[[], Any]
    fs: float | None = None  # the sampling rate in Hz that the user asked for
    sources: Callable[[], Mapping[str, Any]] | None = None  # what it is made from now; see `recordings.sources`
    subject: str = ""  # whose night it is, if that is known


def argument_parser(description: str, output_dir: str, channel: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of the arguments of all preparation scripts. `output_dir` and `channel` are defaults."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, metavar="DIR", help="folder of the recordings")
    add("--output_dir", type=Path, default=Path(output_dir), metavar="DIR", help="for the npz files (%(default)s)")
    select = f"name of the EEG channel ({channel or 'required'})"
    add("--select_ch", nargs="+", default=channel and [channel], required=not channel, metavar="CHANNEL", help=select)
    add("--jobs", type=positive, default=n_cores(), metavar="N", help="recordings at once (the cores: %(default)s)")
    add("--overwrite", action="store_true", help="prepare recordings again whose npz is there")
    add("--shard", type=_shard, default=(1, 1), metavar="K/N", help="only the K-th of N parts of the recordings")
    return parser


def add_fs(parser: argparse.ArgumentParser) -> None:
    """Let a preparation script resample."""
    parser.add_argument("--fs", type=_rate, metavar="HZ", help="resample to this rate; training takes 100 or 125 Hz")


def list_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files in `folder` whose names match `pattern`, sorted, without hidden ones."""
    try:
        return sorted(path for path in folder.iterdir() if path.match(pattern) and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}. Pass the folder that holds the {pattern} files.") from error


def run(
    tasks: Sequence[Task], arguments: argparse.Namespace, problems: Sequence[str] = (), notes: Sequence[str] = ()
) -> int:
    """Prepare all recordings, several at once, and print what becomes of them.

    The exit code is 1 if there was a problem or nothing at all was prepared.

    Parameters
    ----------
    tasks : sequence of Task
        `read` returns a `utils.recording.Recording`.
    arguments : Namespace
        From `argument_parser`.
    problems, notes : sequence of str
        Problems that were found before the recordings are read, and what else the user should know, a line each.
    """
    output_dir, channel, (number, n_shards) = arguments.output_dir, " ".join(arguments.select_ch), arguments.shard
    name_problems = {task.name: problem for task in tasks if (problem := name_problem(Path(task.name)))}
    good = sorted((task for task in tasks if task.name not in name_problems), key=lambda task: task.name)
    mine = good[number - 1 :: n_shards]
    problems = [*problems, *name_problems.values()][number - 1 :: n_shards]
    shard, part = (f", shard {number}/{n_shards}", f"{len(mine)} of ") if n_shards > 1 else ("", "")
    make_folder(output_dir)
    work = partial(prepare, output_dir=output_dir, channel=channel, overwrite=arguments.overwrite)
    width = max((len(task.name) for task in mine), default=0)
    tell_head(f"{channel} of {part}{number_of(len(good), 'recording')} to {output_dir}{shard}", width)
    outcomes = run_each(work, mine, arguments.jobs, width)
    if not shard and not problems and all(outcome.state == "left out" for outcome in outcomes):
        problems = [f"{output_dir}: nothing was prepared."]
    return tell_end(outcomes, f"{output_dir}{shard}", width, problems, notes)


def make_folder(output_dir: Path) -> None:
    """Make the folder of the results if it is missing."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output_dir}: {error.strerror}. Pass another --output_dir.") from error


def run_each(work: Callable[[Task], Outcome], tasks: Sequence[Task], jobs: int, width: int) -> list[Outcome]:
    """Work on all recordings, several at once, and print a row with names of this width for each.

    The outcomes are sorted by name. If a process was killed, the state of unfinished recordings is "not done".
    """
    outcomes = {}
    # disable=None: a progress bar on a terminal only
    with tqdm(total=len(tasks), unit=" recordings", leave=False, disable=None) as bar:
        try:
            with closing(results(work, tasks, jobs)) as finished:
                for outcome in finished:
                    outcomes[outcome.name] = outcome
                    bar.update()
                    tell_outcome(outcome, width)
        except BrokenProcessPool:
            for task in tasks:
                outcomes.setdefault(task.name, Outcome(task.name, "not done"))
    return [outcomes[name] for name in sorted(outcomes)]


def exit_code(main: Callable[[], int]) -> int:
    """Run `main` of a script and return its exit code. What goes wrong with files, and Ctrl-C, become one line."""
    never_fail_to_print()
    try:
        return main()
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from here: finished recordings are kept.", file=sys.stderr)
        return 130


def prepare(task: Task, output_dir: Path, channel: str, overwrite: bool) -> Outcome:
    """Prepare one recording, or keep the npz that is there. A problem is part of the outcome and never raised."""
    path = output_dir / f"{task.name}.npz"

    def make() -> Outcome:
        begin = time.perf_counter()
        if path.exists() and not overwrite:
            return Outcome(task.name, "kept", _kept_counts(path, channel, task))
        recording = replace(task.read(), subject=task.subject)
        if task.sources:
            recording = replace(recording, made_from=json.dumps(task.sources()))
        if problem := signal_problem(recording.source_file, recording.signal, _WRONG_UNIT):
            raise UserError(problem)
        if n_empty := int(without_signal(recording.signal).sum()):
            remark = f"{without_signal_remark(n_empty, len(recording.signal))}; they are kept"
            recording = replace(recording, remarks=(*recording.remarks, remark))
        write_recording(path, recording)
        seconds = time.perf_counter() - begin
        return Outcome(task.name, "prepared", _counts(recording.stages), seconds, remarks=recording.remarks)

    return attempted(task.name, make, path)


def attempted(name: str, make: Callable[[], Outcome], path: Path) -> Outcome:
    """Return what `make` returns. Whatever it raises while it reads recording `name` or writes `path` is a problem."""
    try:
        return make()
    except LeftOut as rule:
        return Outcome(name, "left out", text=str(rule))
    except UserError as error:
        text = str(error)
    except OSError as error:
        file = Path(error.filename) if isinstance(error.filename, str) else path
        remedy = "Mend that"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            file, remedy = path, f"The disk of {path.parent} is full: make room"
        reason = error.strerror or error
        text = f"{file.name}: {reason}. {remedy} and run the same command again; finished recordings are kept."
    except MemoryError:
        text = f"{name}: not enough memory. Run the same command again with fewer --jobs, or where there is more."
    except Exception as error:  # a mistake of ours must not cost the other recordings
        reason = " ".join(str(error).split())
        text = f"{name}: unexpected {type(error).__name__} ({reason}). Please report it."
    return Outcome(name, "problem", text=text)


def _kept_counts(path: Path, channel: str, task: Task) -> tuple[int, ...]:
    """Count the stages of an npz that is there already; refuse one of another channel, rate, files or options."""
    try:
        outline = read_outline(path)
    except UserError as error:
        raise UserError(f"{error} Pass --overwrite to do so.") from error
    if outline.channel != channel or (task.fs is not None and outline.fs != task.fs):
        raise UserError(
            f"{path.name}: is there already, with another channel or rate ({outline.channel!r}, {outline.fs:g} Hz). "
            "Pass --overwrite to replace it, or another --output_dir."
        )
    if task.sources and outline.made_from and (changed := _changes(outline.made_from, task.sources())):
        raise UserError(
            f"{path.name}: is there already, made from other files or options ({'; '.join(changed)}). "
            "Pass --overwrite to replace it, or another --output_dir."
        )
    return _counts(outline.stages)


def _changes(made_from: str, now: Mapping[str, Any]) -> list[str]:
    """List what an npz was made from otherwise than it would be made now."""
    try:
        before = json.loads(made_from)
    except (ValueError, RecursionError):
        before = None
    return differences(before, now) if isinstance(before, dict) else ["what it was made from cannot be read"]


def _counts(stages: np.ndarray) -> tuple[int, ...]:
    """Count the sleep epochs of each stage."""
    return tuple(int(np.count_nonzero(stages == stage)) for stage in range(N_STAGES))


def _rate(text: str) -> float:
    """Parse a sampling rate."""
    try:
        fs = float(text)
    except ValueError:
        fs = math.nan
    if not 1 <= fs <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no sampling rate in Hz from 1 to 10000")
    return fs


def _shard(text: str) -> tuple[int, int]:
    """Parse `3/16`, the third of 16 parts."""
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 3/16, from 1/16 to 16/16")
    return int(match[1]), int(match[2])
