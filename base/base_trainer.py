"""The loop over training epochs: monitor, early stop, checkpoints, stop, resume. It knows nothing of EEG."""

import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from base.steps import Steps
from utils.board import open_board
from utils.checkpoint import BEST, LAST, PART, load_checkpoint, newest_first, numbered, save_checkpoint
from utils.errors import UserError
from utils.files import write_table
from utils.logs import LOG
from utils.ranks import agreed, on_first, rank, world_size
from utils.seed import seed_train_epoch
from utils.stopping import Stopped, undivided

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]
"""What one training epoch gave, by column of metrics.csv."""


class BaseTrainer(ABC):
    """Train a model, keep its checkpoints, and go on where an earlier run stopped.

    Parameters
    ----------
    model : nn.Module
    optimizer : Optimizer
    lr_scheduler : LRScheduler or None
        Steps once after each training epoch.
    directory : Path
        Where checkpoints and metrics.csv go.
    epochs : int
        Training epochs in all.
    save_period : int
        A checkpoint is kept after every so many training epochs.
    monitor : str
        `max` or `min` and a column of the evaluation, without its prefix, such as `max accuracy`.
    early_stop : int or None
        Training ends after so many training epochs without a better one.
    seed : int
    evaluated_set : str
        Name of the set that is evaluated after each training epoch; the monitor looks at its columns.
    about : mapping
        Plain values that every checkpoint keeps beside the weights.
    tensorboard : bool
        Whether the figures of each training epoch also go to TensorBoard's files in the directory.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None,
        *,
        directory: Path,
        epochs: int,
        save_period: int,
        monitor: str,
        early_stop: int | None,
        seed: int,
        evaluated_set: str,
        about: Mapping[str, Any],
        tensorboard: bool = False,
    ) -> None:
        self.model, self.optimizer, self.lr_scheduler = model, optimizer, lr_scheduler
        self.directory, self.epochs, self.save_period = directory, epochs, save_period
        self.direction, self.monitored = monitor.split()
        self.early_stop = early_stop or math.inf
        self.seed, self.evaluated_set, self.about = seed, evaluated_set, dict(about)
        self.tensorboard = tensorboard
        self.history: list[Row] = []
        self.steps = Steps()

    @abstractmethod
    def train_pass(self, train_epoch: int) -> Row:
        """Go through the training set once and update the weights.

        A step and the note in `steps` of what it gave are `undivided`. If the training epoch was stopped before,
        `steps` holds what is done already: draw the order of the training set as ever, `draw_on`, do the others.

        Returns
        -------
        dict of str to float
            Columns of metrics.csv, `train_loss` among them.
        """

    @abstractmethod
    def evaluation_pass(self) -> Row:
        """Evaluate the model; the columns carry the prefix `<evaluated_set>_`."""

    def train(self) -> None:
        """Run the training epochs that are not done yet.

        Raises
        ------
        UserError
            The loss is no longer a finite number.
        Stopped
            The process is asked to end. What is done of the training epoch is saved.
        """
        on_first(self._write_metrics)
        own = self.directory / "tensorboard"
        board = open_board(own, len(self.history) + 1) if self.tensorboard and rank() == 0 else None
        while len(self.history) < self.epochs and not self._stale():
            train_epoch = len(self.history) + 1
            seed_train_epoch(self.seed, train_epoch)
            begin = time.perf_counter() - self.steps.seconds_before
            row: Row = {"train_epoch": train_epoch, "lr": self.optimizer.param_groups[0]["lr"]}
            try:
                row |= self.train_pass(train_epoch)
                row |= self.evaluation_pass()
                with undivided():
                    self._finish(row, time.perf_counter() - begin)
            except Stopped:
                if world_size() == 1:  # ranks draw numbers of their own: they go on after the last finished one
                    self._save_part(time.perf_counter() - begin)
                raise
            if board is not None:
                self.show(board, row)
                board.flush()
        if board is not None:
            board.close()
        if len(self.history) < self.epochs:
            LOG.info("Early stop: no better %s for %d training epochs.", self.monitored, self.early_stop)

    def _finish(self, row: Row, seconds: float) -> None:
        """Close a training epoch whose passes are done."""
        row["seconds"] = seconds
        row = agreed(row)  # so that all ranks stop at the same time
        self._step_scheduler(row)
        self.history.append(row)
        self.steps = Steps()
        on_first(self._save)
        LOG.info("%s", self._line(row))

    def show(self, board: "SummaryWriter", row: Row) -> None:
        """Write what a training epoch gave to TensorBoard."""
        for column, value in row.items():
            board.add_scalar(column, value, row["train_epoch"])

    def best(self, history: list[Row] | None = None) -> Row:
        """Find the row of the best training epoch, the first one on a tie, in `history` or in this run's own."""
        sign = 1 if self.direction == "max" else -1
        return max(
            self.history if history is None else history,
            key=lambda row: sign * row[f"{self.evaluated_set}_{self.monitored}"],
        )

    def resume(self, checkpoint: Path | None = None) -> None:
        """Go on from `checkpoint`, or from the newest one in the directory that can be read, if there is one.

        Raises
        ------
        UserError
            `checkpoint` cannot be read, or is one of another network or optimizer.
        """
        path, state = on_first(lambda: self._newest(checkpoint))
        if path is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.lr_scheduler is not None:
                self.lr_scheduler.load_state_dict(state["lr_scheduler"])
            self.history = state["history"]
            self.steps = Steps(state.get("part"))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: a checkpoint of another network or optimizer ({reason}).") from error
        step = f" and step {len(self.steps)} of the next" if self.steps else ""
        LOG.info("Going on after training epoch %d%s, from %s.", state["train_epoch"], step, path.name)
        if path.parent.resolve() != self.directory.resolve():  # an experiment that goes on with another one's
            on_first(lambda: self._take_over_best(path))

    def _newest(self, checkpoint: Path | None) -> tuple[Path | None, dict[str, Any]]:
        """Read `checkpoint`, or the newest one in the directory that can be read; None if there is none."""
        for path in [checkpoint] if checkpoint else newest_first(self.directory):
            try:
                state = load_checkpoint(path)
                self._require_history(path, state)
                if checkpoint is None and state["history"]:
                    self._require_best(state["history"])
                return path, state
            except UserError as error:
                if checkpoint:
                    raise
                LOG.warning("%s Trying an older one.", error)
        return None, {}

    def _require_history(self, path: Path, state: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that does not tell what each training epoch up to it gave, if there was one."""
        column = f"{self.evaluated_set}_{self.monitored}"
        rows = state["history"] if isinstance(state.get("history"), list) else []
        told = [row.get("train_epoch") for row in rows if isinstance(row, dict) and column in row]
        told_all = len(told) == state["train_epoch"] and told == [*range(1, len(told) + 1)]
        if not told_all or (not told and "part" not in state):
            raise UserError(f"{path}: no {column} of each training epoch in it; it is of no run like this one.")

    def _require_best(self, history: list[Row]) -> None:
        """Refuse a checkpoint if the best weights up to it are lost; training from an older one gives them again."""
        best, wanted = load_checkpoint(self.directory / BEST), self.best(history)["train_epoch"]
        if best["train_epoch"] < wanted:
            raise UserError(f"{self.directory / BEST}: of training epoch {best['train_epoch']}, not {wanted:g}.")

    def _take_over_best(self, checkpoint: Path) -> None:
        """Copy the weights of the best training epoch up to a checkpoint of another folder."""
        wanted = self.best()["train_epoch"]
        for path in (checkpoint, checkpoint.parent / BEST):
            state = load_checkpoint(path)
            if state["train_epoch"] == wanted:
                save_checkpoint(self.directory / BEST, state)
                return
        raise UserError(
            f"{checkpoint}: the best training epoch up to it was {wanted:g}, but {BEST} beside it is of "
            f"{state['train_epoch']}. Go on from {LAST} there."
        )

    def last_good(self) -> str:
        """Say, in a sentence, which the newest checkpoint is: for when training cannot go on."""
        newest = next((path for path in newest_first(self.directory) if path.name != PART), None)
        return f"The last good checkpoint is {newest}." if newest else "There is no checkpoint before it."

    def load_best(self) -> int:
        """Put the weights of the best training epoch into the model and return its number."""
        state = on_first(lambda: load_checkpoint(self.directory / BEST))
        self.model.load_state_dict(state["model"])
        return state["train_epoch"]

    def _stale(self) -> bool:
        """Tell whether the best training epoch is too long ago."""
        return bool(self.history) and len(self.history) - self.best()["train_epoch"] >= self.early_stop

    def _step_scheduler(self, row: Row) -> None:
        with warnings.catch_warnings():
            # torch looks for the optimizer's steps in this process; a run that was stopped may have done them all.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            if isinstance(self.lr_scheduler, ReduceLROnPlateau):
                self.lr_scheduler.step(row[f"{self.evaluated_set}_{self.monitored}"])
            elif self.lr_scheduler is not None:
                self.lr_scheduler.step()

    def _save(self) -> None:
        """Write what a later run needs; checkpoint-last comes last, so it never knows of a file that is not there."""
        if not self.directory.is_dir():
            raise UserError(f"{self.directory}: the folder is gone. The same command trains this fold from the start.")
        state, train_epoch = self._state(), len(self.history)
        if self.best()["train_epoch"] == train_epoch:
            save_checkpoint(self.directory / BEST, state)
        if train_epoch % self.save_period == 0:
            save_checkpoint(self.directory / numbered(train_epoch), state)
        save_checkpoint(self.directory / LAST, state)
        (self.directory / PART).unlink(missing_ok=True)
        self._write_metrics()

    def _save_part(self, seconds: float) -> None:
        """Write what is done of a training epoch; checkpoint-last stays as it is."""
        if len(self.steps) == self.steps.n_before:
            return  # nothing that is not in the file already
        save_checkpoint(self.directory / PART, self._state() | {"part": self.steps.state(seconds)})
        LOG.info("Saved training epoch %d up to step %d, in %s.", len(self.history) + 1, len(self.steps), PART)

    def _state(self) -> dict[str, Any]:
        """Collect what a checkpoint holds."""
        return {
            "train_epoch": len(self.history),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict() if self.lr_scheduler is not None else None,
            "history": self.history,
            "about": self.about,
        }

    def _write_metrics(self) -> None:
        """Write metrics.csv: one row per training epoch."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.history:
            write_table(self.directory / "metrics.csv", self.history)

    def _line(self, row: Row) -> str:
        """Say in one line what a training epoch gave."""
        parts = [f"train epoch {row['train_epoch']}/{self.epochs}", f"{row['seconds']:.1f} s"]
        parts += [_speed(column, value) for column, value in row.items() if column.endswith("_per_s")]
        for name in ("train", self.evaluated_set):
            columns = (column for column in row if column.startswith(f"{name}_") and column != "train_epoch")
            scores = (f"{column.removeprefix(f'{name}_').replace('_', ' ')} {row[column]:.3f}" for column in columns)
            parts.append(f"{name}: {', '.join(scores)}")
        return " | ".join([*parts, *(["best so far"] if self.best() is row else [])])


def _speed(column: str, value: float) -> str:
    """Say a column such as `things_per_s` as `120 things/s`."""
    return f"{value:.0f} {column.removesuffix('_per_s').replace('_', ' ')}/s"
