"""TensorBoard, for those who ask for it."""

from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def require_tensorboard() -> "type[SummaryWriter]":
    """Return the class that writes TensorBoard's files.

    Raises
    ------
    UserError
        The package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "trainer.tensorboard is true, but the package tensorboard is not installed. Run: pip install tensorboard"
        ) from error
    return SummaryWriter


def open_board(directory: Path, next_step: int) -> "SummaryWriter":
    """Write to TensorBoard's files in `directory`; what an earlier run wrote from `next_step` on is hidden."""
    return require_tensorboard()(str(directory), purge_step=next_step)
