"""Scoring nights with trained networks: from checkpoints and a signal to stages and their probabilities."""

import inspect
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import model.model
from data_loader.data_loaders import neighbours
from data_loader.signals import signal_problem
from model.folding import folded
from model.original import from_original_state_dict
from trainer.experiment import fold_directory
from utils.checkpoint import BEST, load_weights
from utils.config_fields import FIELDS
from utils.errors import UserError
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES

UNSCORED = -1
"""Stands for a sleep epoch that has no stage."""

_BATCH_SIZE = 32
"""Sleep epochs that go through the network together: so many fit a processor's cache."""


@dataclass(frozen=True)
class Scores:
    """What a night was scored as.

    Attributes
    ----------
    stages : ndarray of shape (n_sleep_epochs,), int64
        0 to 4, or -1 for a sleep epoch that was not scored.
    probabilities : ndarray of shape (n_sleep_epochs, 5), float32
        Of W, N1, N2, N3, REM; NaN where not scored.
    """

    stages: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Scorer:
    """Networks that score a night together: their probabilities are averaged.

    Attributes
    ----------
    networks : tuple of nn.Module
        Map EEG in microvolts, (B, 1, T), to logits (B, 5); ready for inference.
    fs : float
        Sampling rate in Hz.
    channel : str
        That they were trained on; empty if their checkpoints do not say.
    context : tuple of two int
        Sleep epochs before and after the one that is scored in an input; see `data_loaders.neighbours`.
    checkpoints : tuple of dict
        Path, CRC-32 and, where known, fold and training epoch of each network, in plain values.
    """

    networks: tuple[nn.Module, ...]
    fs: float
    channel: str
    context: tuple[int, int]
    checkpoints: tuple[dict[str, Any], ...]

    @property
    def n_samples(self) -> int:
        """Samples of one sleep epoch."""
        return round(SLEEP_EPOCH_S * self.fs)

    @property
    def description(self) -> dict[str, Any]:
        """Say which networks these are, in plain values."""
        return {name: getattr(self, name) for name in ("checkpoints", "fs", "channel", "context")}

    def score(self, signal: np.ndarray, source: str, begin: int = 0, end: int | None = None) -> Scores:
        """Score a night.

        Parameters
        ----------
        signal : ndarray of shape (n,), float32
            Microvolts at `fs` Hz; a sleep epoch with a NaN in it is not scored, nor is a rest of less than 30 s.
        source : str
            Name of the recording, for messages.
        begin, end : int, int or None
            Sleep epochs to score, from `begin` up to and without `end`; None: to the last.

        Raises
        ------
        UserError
            The signal cannot be EEG in microvolts, or there is nothing to score.
        """
        n_sleep_epochs = len(signal) // self.n_samples
        sleep_epochs = signal[: n_sleep_epochs * self.n_samples].reshape(n_sleep_epochs, self.n_samples)
        recorded = np.flatnonzero(np.isfinite(sleep_epochs).all(axis=1))
        end = n_sleep_epochs if end is None else end
        wanted = (recorded >= begin) & (recorded < end)
        if not wanted.any():
            reason = f"it is shorter than {SLEEP_EPOCH_S} s"
            if n_sleep_epochs:
                reason = f"none of its {n_sleep_epochs} sleep epochs is recorded without a gap"
            if len(recorded):
                reason = f"sleep epochs {begin} to {end - 1} are not recorded without a gap"
            raise UserError(f"{source}: nothing to score: {reason}.")
        if len(recorded) < n_sleep_epochs:
            sleep_epochs = sleep_epochs[recorded]
        problem = signal_problem(source, sleep_epochs)
        if problem:
            raise UserError(problem)
        together = neighbours(recorded, *self.context)[wanted]
        probabilities = np.full((n_sleep_epochs, N_STAGES), np.nan, np.float32)
        probabilities[recorded[wanted]] = self._probabilities(torch.from_numpy(sleep_epochs), together)
        stages = np.full(n_sleep_epochs, UNSCORED)
        stages[recorded[wanted]] = probabilities[recorded[wanted]].argmax(axis=1)
        return Scores(stages, probabilities)

    def _probabilities(self, sleep_epochs: Tensor, together: np.ndarray) -> np.ndarray:
        """Score inputs of the sleep epochs `together`, (n, before + 1 + after), of a night; return (n, 5)."""

        def mean(chosen: Tensor) -> Tensor:
            with torch.inference_mode():
                signal = sleep_epochs[chosen].flatten(1).unsqueeze(1)  # (B, 1, T)
                return torch.stack([network(signal).softmax(dim=1) for network in self.networks]).mean(dim=0)

        # A batch to each core is faster than all cores to a batch: they never wait for each other.
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(n_threads) as threads:
                return torch.cat(list(threads.map(mean, torch.from_numpy(together).split(_BATCH_SIZE)))).numpy()
        finally:
            torch.set_num_threads(n_threads)


def load_scorer(paths: Sequence[Path]) -> Scorer:
    """Load the networks of checkpoints, folds and experiments.

    Parameters
    ----------
    paths : sequence of Path
        Each a checkpoint of this project or of the released code, a fold's folder, or an experiment's, which stands for
        the best models of its folds.

    Raises
    ------
    UserError
        A path is none of these, a checkpoint cannot be read or does not fit its network, or two were trained on
        different inputs.
    """
    members = [_load(checkpoint) for path in paths for checkpoint in find_checkpoints(path)]
    first = members[0]
    for other in members:
        for what in ("fs", "channel", "context"):
            if getattr(other, what) != getattr(first, what):
                raise UserError(
                    f"{other.checkpoints[0]['path']}: its {what} is {getattr(other, what)!r}, but that of "
                    f"{first.checkpoints[0]['path']} is {getattr(first, what)!r}. Score with one kind of network."
                )
    return Scorer(
        tuple(network for member in members for network in member.networks),
        first.fs,
        first.channel,
        first.context,
        tuple(checkpoint for member in members for checkpoint in member.checkpoints),
    )


def find_checkpoints(path: Path) -> list[Path]:
    """List the checkpoints that a path stands for: the file itself, or the best models of a fold or an experiment.

    Raises
    ------
    UserError
        There is none.
    """
    if not path.is_dir():
        return [path]
    if (path / BEST).is_file():
        return [path / BEST]
    folds = sorted(int(fold.name.removeprefix("fold_")) for fold in path.glob("fold_*") if (fold / BEST).is_file())
    if not folds:
        raise UserError(
            f"{path}: neither a fold ({BEST}) nor an experiment (fold_*/{BEST}). Pass one, such as saved/Exp1."
        )
    return [fold_directory(path, fold) / BEST for fold in folds]


def _load(path: Path) -> Scorer:
    """Load one network."""
    weights, about = load_weights(path)
    checkpoint: dict[str, Any] = {"path": str(path), "crc32": f"{zlib.crc32(path.read_bytes()):08x}"}
    try:
        if about is None:
            released = from_original_state_dict(weights)
            return Scorer((folded(released),), released.n_samples / SLEEP_EPOCH_S, "", (0, 0), (checkpoint,))
        else:
            fs, channel, context = float(about["fs"]), str(about["channel"]), tuple(about.get("context", (0, 0)))
            _require_known(about)
            if not FIELDS["data_loader.args.context"].accepts(list(context)):
                raise UserError(f"its context is {context!r}, not two whole numbers from 0 to 20.")
            network = _build(about["config"]["arch"], 1 + sum(context))
            network.load_state_dict(weights)
            if getattr(network, "n_samples", None) != SLEEP_EPOCH_S * fs * (1 + sum(context)):
                raise UserError(f"its fs is {fs:g} Hz, which is not that of its network.")
            checkpoint |= {"fold": about.get("fold"), "train_epoch": about["train_epoch"]}
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its weights and what it says of its network do not fit ({reason}).") from error
    return Scorer((folded(network),), fs, channel, context, (checkpoint,))


def _require_known(about: Mapping[str, Any]) -> None:
    """Refuse a network of other units or stages."""
    for what, ours in (("units", "uV"), ("stage_names", list(STAGE_NAMES))):
        if about[what] != ours:
            raise UserError(f"its {what} are {about[what]!r}, not {ours!r}.")


def _build(arch: Mapping[str, Any], n_sleep_epochs: int) -> nn.Module:
    """Make the network that a configuration names, without its weights."""
    if arch["type"] not in model.model.__all__:
        known = ", ".join(model.model.__all__)
        raise UserError(f"its network {arch['type']!r} is not in model/model.py, which has {known}.")
    made = getattr(model.model, arch["type"])
    arguments = dict(arch.get("args", {}))
    if "n_sleep_epochs" in inspect.signature(made).parameters:
        arguments["n_sleep_epochs"] = n_sleep_epochs
    return made(**arguments)
