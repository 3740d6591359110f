"""Scoring nights with trained networks: from checkpoints and a signal to stages and their probabilities."""

import inspect
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import model.model
import model.night_context
from data_loader.data_loaders import neighbours
from data_loader.signals import signal_problem
from data_loader.windows import runs
from model.folding import folded
from model.model import AttnSleep
from model.night_context import Summary
from model.original import from_original_state_dict
from utils.checkpoint import BEST, load_checkpoint, load_weights
from utils.config_fields import FIELDS
from utils.errors import UserError
from utils.experiment import CONTEXT, fold_directory
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
    of_night : tuple of nn.Module or None
        Beside each network its model of the night, see `model.night_context`, if there is one: then its logits count.
    fs : float
        Sampling rate in Hz.
    channel : str
        That they were trained on; empty if their checkpoints do not say.
    context : tuple of two int
        Sleep epochs before and after the one that is scored in an input; see `data_loaders.neighbours`.
    checkpoints : tuple of dict
        Path, CRC-32 and, where known, fold and training epoch of each network, in plain values; under
        `night_context` the same of its model of the night, or None.
    """

    networks: tuple[nn.Module, ...]
    of_night: tuple[nn.Module | None, ...]
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

    @property
    def notes(self) -> list[str]:
        """Say whether the night around each sleep epoch is read, and where it could be."""
        n = sum(of_night is not None for of_night in self.of_night)
        paths = [Path(checkpoint["path"]) for checkpoint in self.checkpoints if checkpoint["night_context"] is None]
        return [f"{n} of {len(self.networks)} networks read the night around each sleep epoch."] * bool(n) + [
            f"{path}: without the model of the night beside it. Pass the folder, {path.parent}, for both."
            for path in paths
            if (path.parent / CONTEXT / BEST).is_file()
        ]

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
        unbroken = runs(recorded[wanted])
        probabilities[recorded[wanted]] = self._probabilities(torch.from_numpy(sleep_epochs), together, unbroken)
        stages = np.full(n_sleep_epochs, UNSCORED)
        stages[recorded[wanted]] = probabilities[recorded[wanted]].argmax(axis=1)
        return Scores(stages, probabilities)

    def _probabilities(self, sleep_epochs: Tensor, together: np.ndarray, unbroken: Sequence[slice]) -> np.ndarray:
        """Score inputs of the sleep epochs `together`, (n, before + 1 + after), of a night; return (n, 5)."""
        pairs = list(zip(self.networks, self.of_night, strict=True))
        networks = [
            network if of_night is None else Summary(cast(AttnSleep, network)).eval() for network, of_night in pairs
        ]

        def outputs(chosen: Tensor) -> list[Tensor]:
            with torch.inference_mode():
                signal = sleep_epochs[chosen].flatten(1).unsqueeze(1)  # (B, 1, T)
                return [network(signal) for network in networks]

        def probabilities(found: Tensor, of_night: nn.Module | None) -> Tensor:
            with torch.inference_mode():
                if of_night is not None:  # it never reads across a gap
                    found = torch.cat([of_night(pack_sequence([found[run]])) for run in unbroken])
                return found.softmax(dim=1)

        # A batch to each core is faster than all cores to a batch: they never wait for each other.
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(n_threads) as threads:
                batches = list(threads.map(outputs, torch.from_numpy(together).split(_BATCH_SIZE)))
                by_network = [torch.cat(found) for found in zip(*batches, strict=True)]
                return torch.stack(list(threads.map(probabilities, by_network, self.of_night))).mean(dim=0).numpy()
        finally:
            torch.set_num_threads(n_threads)


def load_scorer(paths: Sequence[Path]) -> Scorer:
    """Load the networks of checkpoints, folds and experiments.

    Parameters
    ----------
    paths : sequence of Path
        Each a checkpoint of this project or of the released code, a fold's folder, or an experiment's, which stands for
        the best models of its folds. Folders bring their models of the night along, where they have them.

    Raises
    ------
    UserError
        A path is none of these, a checkpoint cannot be read or does not fit its network, or two were trained on
        different inputs.
    """
    members = [_load(checkpoint, path.is_dir()) for path in paths for checkpoint in find_checkpoints(path)]
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
        tuple(of_night for member in members for of_night in member.of_night),
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


def _load(path: Path, with_night: bool) -> Scorer:
    """Load one network, and the model of the night from the folder beside it if that is wanted and there."""
    weights, about = load_weights(path)
    checkpoint = _identity(path, about) | {"night_context": None}
    with _naming(path):
        if about is None:
            released = from_original_state_dict(weights)
            return Scorer((folded(released),), (None,), released.n_samples / SLEEP_EPOCH_S, "", (0, 0), (checkpoint,))
        _require_known(about)
        fs, channel, context = float(about["fs"]), str(about["channel"]), tuple(about.get("context", (0, 0)))
        if not FIELDS["data_loader.args.context"].accepts(list(context)):
            raise UserError(f"its context is {context!r}, not two whole numbers from 0 to 20.")
        network = _build(model.model, about["config"]["arch"], weights, n_sleep_epochs=1 + sum(context))
        if getattr(network, "n_samples", None) != SLEEP_EPOCH_S * fs * (1 + sum(context)):
            raise UserError(f"its fs is {fs:g} Hz, which is not that of its network.")
    of_night, night_path = None, path.parent / CONTEXT / BEST
    if with_night and night_path.is_file():
        state = load_checkpoint(night_path)
        with _naming(night_path), torch.inference_mode():
            about, settings = state["about"], state["about"]["config"]["context"]["model"]
            of_night = _build(model.night_context, settings, state["model"], n_inputs=about["n_inputs"])
            of_night(pack_sequence([Summary(network)(torch.zeros(1, 1, network.n_samples))]))  # or they do not fit
        checkpoint["night_context"] = _identity(night_path, about | {"train_epoch": state["train_epoch"]})
    return Scorer((folded(network),), (of_night,), fs, channel, context, (checkpoint,))


def _identity(path: Path, about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Say which checkpoint this is, in plain values."""
    known = {"fold": about.get("fold"), "train_epoch": about["train_epoch"]} if about else {}
    return {"path": str(path), "crc32": f"{zlib.crc32(path.read_bytes()):08x}", **known}


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which checkpoint an error is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its weights and what it says of its network do not fit ({reason}).") from error


def _require_known(about: Mapping[str, Any]) -> None:
    """Refuse what is no network of sleep epochs, or one of other units or stages."""
    for what, ours in (("units", "uV"), ("stage_names", list(STAGE_NAMES))):
        if about[what] != ours:
            raise UserError(f"its {what} are {about[what]!r}, not {ours!r}.")
    if "n_inputs" in about:
        raise UserError("a model of the night, which needs the network beneath it. Pass the fold's folder.")


def _build(module: ModuleType, settings: Mapping[str, Any], weights: Mapping[str, Tensor], **handed: int) -> Any:
    """Make the network that a configuration names, with its weights, for inference."""
    if settings["type"] not in module.__all__:
        file, known = module.__name__.replace(".", "/"), ", ".join(module.__all__)
        raise UserError(f"its network {settings['type']!r} is not in {file}.py, which has {known}.")
    made = getattr(module, settings["type"])
    taken = {name: value for name, value in handed.items() if name in inspect.signature(made).parameters}
    network = made(**{**settings.get("args", {}), **taken})
    network.load_state_dict(weights)
    return network.eval()
