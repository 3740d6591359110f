"""One training pass and one evaluation pass over sleep epochs."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from tqdm import tqdm

from base.base_trainer import BaseTrainer, Row
from data_loader.data_loaders import Batches
from data_loader.windows import Windows
from model.folding import folded
from model.metric import confusion_matrix
from utils import ranks
from utils.errors import UserError
from utils.logs import LOG
from utils.rows import Rows
from utils.stopping import undivided

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_Batch = tuple[Tensor | PackedSequence, Tensor]

Metric = Callable[[np.ndarray, np.ndarray], float]


class Trainer(BaseTrainer):
    """Train a network that maps EEG (B, 1, T) to logits (B, 5).

    Parameters
    ----------
    criterion : nn.Module
        Loss of logits (B, 5) and stages (B,).
    metrics : mapping of str to function
        Computed on all predictions of a pass pooled, see `model.metric`.
    train_batches, evaluation_batches : Batches or Windows
        The latter for a network that maps windows of sleep epochs to the logits of each of them.
    bf16 : bool
        Compute convolutions and matrix products in bfloat16; weights, batch norm's statistics, layer norms and the
        loss stay in float32.
    *args, **kwargs
        Of `BaseTrainer`.
    """

    def __init__(
        self,
        *args: Any,
        criterion: torch.nn.Module,
        metrics: Mapping[str, Metric],
        train_batches: Batches | Windows,
        evaluation_batches: Batches | Windows,
        bf16: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.criterion, self.metrics, self.bf16 = criterion, metrics, bf16
        self.train_batches, self.evaluation_batches = train_batches, evaluation_batches
        self.device = train_batches.data.device
        self._parallel = ranks.parallel(self.model)

    def train_pass(self, train_epoch: int) -> Row:
        """Go through the training set once, in a new order, and update the weights after each batch."""
        self.model.train()
        batches = self.train_batches.after(len(self.steps))
        self.steps.draw_on()
        begin = time.perf_counter() - self.steps.seconds_before
        for signal, y_true in self._with_progress(batches, f"train epoch {train_epoch}/{self.epochs}"):
            with undivided():
                logits = ranks.gather(self._forward(self._parallel, signal), len(y_true))
                loss = self.criterion(logits, y_true)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                # Kept on the device: asking for a value here would make a GPU wait in every step.
                self.steps.add(loss.detach().reshape(1), logits.detach().argmax(dim=1), y_true)
            if train_epoch == 1 and len(self.steps) == 1:
                LOG.debug("First training step done.")
        ranks.share_buffers(self.model)
        loss_by_step, predicted, true = self.steps.given()
        ranks.on_first(lambda: self._require_finite(train_epoch, loss_by_step))
        row = self._scores("train", loss_by_step.mean().item(), true.numpy(), predicted.numpy())
        row["sleep_epochs_per_s"] = len(true) / (time.perf_counter() - begin)
        return row

    def evaluation_pass(self) -> Row:
        """Evaluate the monitored set."""
        logits = self.logits(self.evaluation_batches)
        y_true = self.evaluation_batches.data.stages[self.evaluation_batches.indices]
        with torch.inference_mode():
            loss = self.criterion.cpu()(logits, y_true).item()
        self.criterion.to(self.device)
        ranks.on_first(lambda: self._require_finite_evaluation(loss))
        y_pred = logits.argmax(dim=1)
        self.confusion = confusion_matrix(y_true.numpy(), y_pred.numpy())
        return self._scores(self.evaluated_set, loss, y_true.numpy(), y_pred.numpy())

    def _require_finite(self, train_epoch: int, loss_by_step: Tensor) -> None:
        """Refuse to go on if a step of training had a loss that is no number."""
        if loss_by_step.isfinite().all():
            return
        step = int(torch.nonzero(~loss_by_step.isfinite())[0]) + 1
        raise UserError(
            f"training epoch {train_epoch}, step {step} of {len(loss_by_step)}: "
            f"the loss is {loss_by_step[step - 1]:g}. "
            f"The batch is of {', '.join(self.train_batches.recordings(step - 1))}. {self.last_good()} "
            "Lower optimizer.args.lr, or look for odd values in the recordings."
        )

    def _require_finite_evaluation(self, loss: float) -> None:
        """Refuse to go on if the last step spoiled the weights without a sign in its own loss."""
        if not math.isfinite(loss):
            raise UserError(
                f"training epoch {len(self.history) + 1}, after its last step: the loss of the {self.evaluated_set} "
                f"set is {loss:g}. {self.last_good()} Lower optimizer.args.lr."
            )

    def show(self, board: "SummaryWriter", row: Row) -> None:
        """Write figures and confusion matrix of a training epoch to TensorBoard."""
        from report import plots  # these load matplotlib, for which other runs do not wait
        from utils import drawing

        super().show(board, row)
        with drawing.styled():
            figure = plots.confusion_matrix(self.confusion.tolist())
            board.add_figure(f"{self.evaluated_set}_confusion_matrix", figure, len(self.history))

    def logits(self, batches: Batches | Windows) -> Tensor:
        """Logits of all sleep epochs of `batches`, in their order, shape (n, 5), on the CPU."""
        return self.outputs(self.model, batches)

    def outputs(self, network: torch.nn.Module, batches: Batches | Windows) -> Tensor:
        """Compute what `network` gives in evaluation for all sleep epochs of `batches`, in order, on the CPU."""
        network = folded(network)
        outputs = Rows()
        with torch.inference_mode():
            for inputs, y_true in batches:
                outputs.add(ranks.gather(self._forward(network, inputs), len(y_true)))
            return outputs.all().cpu()

    def _forward(self, network: torch.nn.Module, inputs: Tensor | PackedSequence) -> Tensor:
        """Map EEG (B, 1, T) to logits (B, 5), float32, in the precision of the configuration."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return network(inputs).float()

    def _scores(self, name: str, loss: float, y_true: np.ndarray, y_pred: np.ndarray) -> Row:
        """Loss and metrics of one pass, the columns prefixed with the set's name."""
        scores = {metric: float(function(y_true, y_pred)) for metric, function in self.metrics.items()}
        return {f"{name}_{column}": value for column, value in ({"loss": loss} | scores).items()}

    def _with_progress(self, batches: Iterator[_Batch], title: str) -> Iterable[_Batch]:
        """Show a progress bar on a terminal, unless the log is at its tersest."""
        shown = sys.stderr.isatty() and LOG.isEnabledFor(20)
        done, n = len(self.steps), len(self.train_batches)
        return tqdm(batches, title, n, initial=done, unit="batch", leave=False, disable=not shown)
