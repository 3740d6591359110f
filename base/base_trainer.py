"""The loop over training epochs: monitor, early stop, checkpoints, resume. It knows nothing of EEG."""

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

from base.averaging import AveragedWeights
from utils.checkpoint import BEST, LAST, load_checkpoint, newest_first, numbered, save_checkpoint
from utils.errors import UserError
from utils.files import write_table
from utils.logs import LOG, until
from utils.nested import differences
from utils.ranks import rank, wait_for_all
from utils.seed import seed_train_epoch

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
        Training ends after so many training epochs without an improvement.
    seed : int
    evaluated_set : str
        Name of the set that is evaluated after each training epoch; the monitor looks at its columns.
    about : mapping
        Plain values that every checkpoint keeps beside the weights.
    averaging : float or None
        Decay of the average of the weights that is evaluated, kept as `model` in checkpoints and used afterwards; None:
        the weights themselves are. See `base.averaging`.
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
        averaging: float | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.model, self.optimizer, self.lr_scheduler = model, optimizer, lr_scheduler
        self.directory, self.epochs, self.save_period = directory, epochs, save_period
        self.average = AveragedWeights(model, averaging) if averaging else None
        self.direction, self.monitored = monitor.split()
        self.early_stop = early_stop or math.inf
        self.seed, self.evaluated_set, self.about = seed, evaluated_set, dict(about)
        self.tensorboard = tensorboard
        self.history: list[Row] = []

    @property
    def evaluated(self) -> nn.Module:
        """The model with the weights that are evaluated: the averaged ones, if there are any."""
        return self.average.model if self.average else self.model

    @abstractmethod
    def train_pass(self, train_epoch: int) -> Row:
        """Go through the training set once and update the weights.

        Returns
        -------
        dict of str to float
            Columns of metrics.csv, `train_loss` among them.
        """

    @abstractmethod
    def evaluation_pass(self) -> Row:
        """Evaluate `evaluated`; the columns carry the prefix `<evaluated_set>_`."""

    def train(self) -> None:
        """Run the training epochs that are not done yet.

        Raises
        ------
        UserError
            A loss or the monitored metric is no finite number.
        """
        board = None
        if rank() == 0:
            self._write_metrics()  # without rows that are later than the checkpoint that training goes on from
            if self.tensorboard:
                from torch.utils.tensorboard import SummaryWriter  # loads more, for those who ask for it

                # What an earlier run wrote of the training epochs to come is hidden.
                board = SummaryWriter(str(self.directory / "tensorboard"), purge_step=len(self.history) + 1)
        while len(self.history) < self.epochs and not self._is_stale():
            begin, train_epoch = time.perf_counter(), len(self.history) + 1
            seed_train_epoch(self.seed, train_epoch)
            row: Row = {"train_epoch": train_epoch, "lr": self.optimizer.param_groups[0]["lr"]}
            row |= self.train_pass(train_epoch)
            row |= self.evaluation_pass()
            row["seconds"] = time.perf_counter() - begin
            self._step_scheduler(row)
            self.history.append(row)
            if rank() == 0:
                self._save()
                LOG.info("%s", self._line(row))
            if board is not None:
                self.show(board, row)
                board.flush()
        if board is not None:
            board.close()
        if len(self.history) < self.epochs:
            LOG.info("Early stop: no better %s for %d training epochs.", self.monitored, self.early_stop)

    def show(self, board: "SummaryWriter", row: Row) -> None:
        """Write what a training epoch gave to TensorBoard."""
        for column, value in row.items():
            board.add_scalar(column, value, row["train_epoch"])

    def best(self, history: list[Row] | None = None) -> Row:
        """Return the row of the best training epoch, the first one on a tie, of `history` or of this run."""
        sign = 1 if self.direction == "max" else -1
        column = f"{self.evaluated_set}_{self.monitored}"
        return max(self.history if history is None else history, key=lambda row: sign * row[column])

    def load_best(self) -> int:
        """Put the weights of the best training epoch into `evaluated` and return its number."""
        wait_for_all()  # rank 0 writes the file
        state = load_checkpoint(self.directory / BEST)
        self.evaluated.load_state_dict(state["model"])
        return state["train_epoch"]

    def newest_checkpoint(self) -> str:
        """Name the newest checkpoint in a sentence, for when training cannot go on."""
        newest = next(newest_first(self.directory), None)
        return f"The last good checkpoint is {newest}." if newest else "There is no checkpoint before it."

    def resume(self, checkpoint: Path | None = None) -> None:
        """Go on from `checkpoint`, or from the newest readable one in the directory, if there is one.

        Raises
        ------
        UserError
            `checkpoint` cannot be read, or is one of another network or optimizer.
        """
        path, state = (checkpoint, self._read(checkpoint)) if checkpoint else self._newest()
        if path is None:
            return
        try:
            self.evaluated.load_state_dict(state["model"])
            if self.average:
                self.model.load_state_dict(state["averaging"]["raw_model"])
                self.average.n_steps = state["averaging"]["n_steps"]
            self.optimizer.load_state_dict(state["optimizer"])
            if self.lr_scheduler is not None:
                self.lr_scheduler.load_state_dict(state["lr_scheduler"])
            self.history = state["history"]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: a checkpoint of another network or optimizer ({reason}).") from error
        LOG.info("Going on after training epoch %d, from %s.", state["train_epoch"], path.name)
        before, now = (about.get("computed_with", {}) for about in (state["about"], self.about))
        if changed := differences(before, now):
            LOG.warning("The weights will not be the same to the bit as without the stop: %s.", "; ".join(changed))
        if rank() == 0 and path.parent.resolve() != self.directory.resolve():
            self._copy_best(path)

    def _newest(self) -> tuple[Path | None, dict[str, Any]]:
        """Read the newest checkpoint of this run that can be read; None if there is none."""
        for path in newest_first(self.directory):
            try:
                state = self._read(path)
                best, wanted = load_checkpoint(self.directory / BEST), self.best(state["history"])["train_epoch"]
                if best["train_epoch"] < wanted:  # training from an older checkpoint gives the best weights again
                    raise UserError(f"{self.directory / BEST}: of training epoch {best['train_epoch']}, not {wanted}.")
                return path, state
            except UserError as error:
                LOG.warning("%s Trying an older one.", error)
        return None, {}

    def _read(self, path: Path) -> dict[str, Any]:
        """Read a checkpoint that tells what each training epoch up to it gave."""
        state, column = load_checkpoint(path), f"{self.evaluated_set}_{self.monitored}"
        rows = state["history"] if isinstance(state.get("history"), list) else []
        known = [row.get("train_epoch") for row in rows if isinstance(row, dict) and column in row]
        if not known or len(known) != state["train_epoch"] or known != [*range(1, len(known) + 1)]:
            raise UserError(f"{path}: no {column} of each training epoch in it: it is of another monitor or set.")
        return state

    def _copy_best(self, checkpoint: Path) -> None:
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

    def _is_stale(self) -> bool:
        """Tell whether the best training epoch is too long ago."""
        return bool(self.history) and len(self.history) - self.best()["train_epoch"] >= self.early_stop

    def _step_scheduler(self, row: Row) -> None:
        """Let the learning rate follow."""
        with warnings.catch_warnings():
            # torch looks for the optimizer's steps in this process; an earlier one may have done them.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            if isinstance(self.lr_scheduler, ReduceLROnPlateau):
                self.lr_scheduler.step(row[f"{self.evaluated_set}_{self.monitored}"])
            elif self.lr_scheduler is not None:
                self.lr_scheduler.step()

    def _save(self) -> None:
        """Write what a later run needs; checkpoint-last comes last, so it never knows of a file that is not there."""
        if not self.directory.is_dir():
            raise UserError(f"{self.directory}: the folder is gone. The same command trains this fold from the start.")
        train_epoch = len(self.history)
        state = {
            "train_epoch": train_epoch,
            "model": self.evaluated.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict() if self.lr_scheduler is not None else None,
            "history": self.history,
            "about": self.about,
        }
        if self.average:
            state["averaging"] = {"raw_model": self.model.state_dict(), "n_steps": self.average.n_steps}
        if self.best()["train_epoch"] == train_epoch:
            save_checkpoint(self.directory / BEST, state)
        if train_epoch % self.save_period == 0:
            save_checkpoint(self.directory / numbered(train_epoch), state)
        save_checkpoint(self.directory / LAST, state)
        self._write_metrics()

    def _write_metrics(self) -> None:
        """Write metrics.csv: one row per training epoch."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.history:
            write_table(self.directory / "metrics.csv", self.history)

    def _line(self, row: Row) -> str:
        """Say in one line what a training epoch gave."""
        parts = [f"train epoch {row['train_epoch']}/{self.epochs}", f"{row['seconds']:.1f} s"]
        parts += [f"{row[column]:.0f} {column[:-6].replace('_', ' ')}/s" for column in row if column.endswith("_per_s")]
        for name in ("train", self.evaluated_set):
            columns = (column for column in row if column.startswith(f"{name}_") and column != "train_epoch")
            figures = (f"{column.removeprefix(f'{name}_')} {row[column]:.3f}" for column in columns)
            parts.append(f"{name}: {', '.join(figures)}")
        if len(self.history) < self.epochs:
            recent = [earlier["seconds"] for earlier in self.history[-5:]]
            parts.append(f"to go: {until((self.epochs - len(self.history)) * sum(recent) / len(recent))}")
        return " | ".join([*parts, *(["best so far"] if self.best() is row else [])])
