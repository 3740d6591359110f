"""One training pass and one evaluation pass over sleep epochs."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from tqdm import tqdm

from base.base_trainer import BaseTrainer, Row
from data_loader.data_loaders import Batches
from data_loader.windows import Windows
from model.metric import Metric, confusion_matrix, number
from trainer.recorded_step import CudaGraph, RecordedStep, Step, obstacle
from utils import ranks
from utils.device import allow_tf32
from utils.errors import UserError
from utils.logs import LOG
from utils.rows import Rows

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_Batch = tuple[Tensor | PackedSequence, Tensor]


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
    precision : {"fp32", "tf32", "bf16"}
        Of convolutions and matrix products in training; weights, batch norm's statistics, layer norms and the loss stay
        in float32, and so does everything in evaluation. tf32 is fp32 on a CPU.
    cuda_graph : bool
        Record the training step on a GPU and replay it, if that gives the same, see `trainer.recorded_step`.
    compiled : bool
        Compile the network for training on one device, but for the last batch of a pass, which is smaller. Ranks do
        without.
    trained : nn.Module or None
        The part of the network that trains, all else runs as in evaluation; None: the whole network.
    *args, **kwargs
        Of `BaseTrainer`.
    """

    def __init__(
        self,
        *args: Any,
        criterion: nn.Module,
        metrics: Mapping[str, Metric],
        train_batches: Batches | Windows,
        evaluation_batches: Batches | Windows,
        precision: str,
        cuda_graph: bool,
        compiled: bool = False,
        trained: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.criterion, self.metrics, self.precision = criterion, metrics, precision
        self.train_batches, self.evaluation_batches = train_batches, evaluation_batches
        self.trained = trained or self.model
        self.device = train_batches.data.device
        self.network = ranks.parallel(self.model)
        self.of_full_batches = torch.compile(self.network, dynamic=False) if compiled else self.network
        self.recorded: RecordedStep | None = None
        if cuda_graph and self.device.type == "cuda" and ranks.world_size() == 1:
            if reason := obstacle(self.model, criterion, self.optimizer):
                LOG.info("The training step is not recorded on the GPU: %s.", reason)
            else:
                self.recorded = RecordedStep(self.optimizer, CudaGraph())

    def train_pass(self, train_epoch: int) -> Row:
        """Go through the training set once, in a new order, and update the weights after each batch."""
        self.model.eval()
        self.trained.train()
        allow_tf32(self.precision == "tf32")
        step: Step = partial(self.recorded, self.train_step) if self.recorded else self.train_step
        begin = time.perf_counter()
        losses, y_true, y_pred = Rows(), Rows(), Rows()  # on the device: a GPU never waits for a value
        for signal, stages in self._with_progress(self.train_batches, train_epoch):
            loss, predicted = step(signal, stages)
            if self.average:
                self.average.update(self.model)
            losses.add(loss)
            y_true.add(stages)
            y_pred.add(predicted)
        row = self._figures("train", *self._finite(train_epoch, losses, y_true, y_pred))
        row["sleep_epochs_per_s"] = len(self.train_batches.indices) / (time.perf_counter() - begin)
        if self.average and self.trained is self.model:  # frozen layers keep their statistics
            allow_tf32(False)
            self.average.fit_statistics(self.train_batches)
        return row

    def train_step(self, signal: Tensor | PackedSequence, stages: Tensor) -> tuple[Tensor, Tensor]:
        """Update the weights once.

        Parameters
        ----------
        signal : Tensor of shape (B, 1, T)
            EEG in microvolts; or windows, packed.
        stages : Tensor of shape (B,)

        Returns
        -------
        loss : Tensor of shape (1,)
        y_pred : Tensor of shape (B,)
        """
        network = self.of_full_batches if len(stages) == self.train_batches.batch_size else self.network
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = network(signal).float()  # (B, 5)
        loss = self.criterion(logits, stages)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach().reshape(1), logits.detach().argmax(dim=1)

    def evaluation_pass(self) -> Row:
        """Evaluate the monitored set."""
        logits = self.outputs(self.evaluation_batches)
        y_true = self.evaluation_batches.stages
        with torch.inference_mode():
            loss = self.criterion(logits, y_true.to(logits.device))
        if not loss.isfinite():
            raise UserError(
                f"training epoch {len(self.history) + 1}, after its last step: the loss of the {self.evaluated_set} "
                f"set is {loss:g}. {self.newest_checkpoint()} Lower optimizer.args.lr."
            )
        return self._figures(self.evaluated_set, loss, y_true, logits.argmax(dim=1))

    def outputs(self, batches: Batches | Windows, function: Callable[..., Tensor] | None = None) -> Tensor:
        """Compute what the network gives in evaluation for all sleep epochs of `batches`, in their order.

        Parameters
        ----------
        batches : Batches or Windows
            Not shuffled.
        function : callable or None
            A method of the network that maps a signal to (B, C); None: its logits.

        Returns
        -------
        Tensor of shape (n, C), float32
            On the device.
        """
        network = self.evaluated.eval()
        allow_tf32(False)
        ranks.share_buffers(network)
        outputs = Rows()
        with torch.inference_mode():
            for signal, _ in batches:
                outputs.add((function or network)(signal).float())
        return ranks.gather(outputs.all()) if isinstance(batches, Batches) else outputs.all()

    def show(self, board: "SummaryWriter", row: Row) -> None:
        """Write figures and confusion matrix of a training epoch to TensorBoard."""
        from utils import drawing  # loads matplotlib, for which other runs do not wait

        super().show(board, row)
        with drawing.styled():
            figure = drawing.confusion_matrix(self.confusion_matrix.tolist())
            board.add_figure(f"{self.evaluated_set}_confusion_matrix", figure, len(self.history))

    def _figures(self, name: str, losses: Tensor, y_true: Tensor, y_pred: Tensor) -> Row:
        """Mean loss and metrics of one pass, the columns prefixed with the set's name."""
        row = {f"{name}_loss": losses.mean().item()}
        labels = y_true.cpu().numpy(), y_pred.cpu().numpy()
        self.confusion_matrix = confusion_matrix(*labels)
        for metric, function in self.metrics.items():
            try:
                row[f"{name}_{metric}"] = number(function, *labels)
            except UserError as error:
                if (name, metric) == (self.evaluated_set, self.monitored):
                    raise UserError(f"{error} It is the monitor, and this is the {name} set.") from error
                LOG.warning("%s set: %s", name, error)
                row[f"{name}_{metric}"] = math.nan
        return row

    def _finite(self, train_epoch: int, *passed: Rows) -> list[Tensor]:
        """Gather what all ranks have of a pass; refuse to go on if the loss of a step is no finite number."""
        losses, *others = (ranks.gather(rows.all()) for rows in passed)
        if losses.isfinite().all():
            return [losses, *others]
        position = int(torch.nonzero(~losses.isfinite())[0])
        step = position % len(self.train_batches)
        raise UserError(
            f"training epoch {train_epoch}, step {step + 1} of {len(self.train_batches)}: the loss is "
            f"{losses[position]:g}. The batch is of {', '.join(self.train_batches.recordings(step))}. "
            f"{self.newest_checkpoint()} Lower optimizer.args.lr, or look for odd values in the recordings."
        )

    def _with_progress(self, batches: Iterable[_Batch], train_epoch: int) -> Iterator[_Batch]:
        """Show a progress bar on a terminal, unless the log is at its tersest."""
        begin = time.perf_counter()
        title, is_shown = f"train epoch {train_epoch}/{self.epochs}", sys.stderr.isatty() and LOG.isEnabledFor(20)
        for step, batch in enumerate(tqdm(batches, title, unit="batch", leave=False, disable=not is_shown)):
            yield batch
            if (train_epoch, step) == (1, 0):
                LOG.debug("First training step done, after %.1f s.", time.perf_counter() - begin)
