"""Score nights with trained networks: from checkpoints and a signal to stages and their probabilities."""

import inspect
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
from data_loader.windows import runs
from model.folding import folded
from model.model import AttnSleep
from model.original import from_original_state_dict, original_fs
from recordings.stage_names import UNSCORED
from scoring.fetching import fetched
from scoring.night import Scoring
from utils.checkpoint import BEST, load_checkpoint, load_weights, temperature_of
from utils.config_fields import FIELDS
from utils.errors import UserError
from utils.experiment import CONTEXT, PREDICTIONS, is_finished
from utils.microvolts import signal_problem, without_signal
from utils.nested import differences
from utils.shared_networks import is_shared, read_shared
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES
from utils.training_use import TrainingSets, Use, data_setting, read_training_sets, training_overlap

_BATCH_SIZE = 32  # sleep epochs; this many fit into the cache of a processor
_NOTHING = "no sleep epoch has a signal: all are flat or clipped. Was the channel recorded? Leave the recording out."
_MAX_FS = 100_000  # Hz; no EEG is sampled faster


@dataclass(frozen=True)
class Inputs:
    """What a network was trained on: `fs` in Hz, `channel` (empty if the checkpoint does not say), and `context`.

    `context` is how many sleep epochs before and after the one to score are in each input.
    """

    fs: float
    channel: str = ""
    context: tuple[int, int] = (0, 0)

    @property
    def n_samples(self) -> int:
        """Samples of one sleep epoch."""
        return round(SLEEP_EPOCH_S * self.fs)

    @property
    def n_sleep_epochs(self) -> int:
        """Sleep epochs of one input."""
        return 1 + sum(self.context)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of a checkpoint, and its night context if it has one, in evaluation mode.

    Attributes
    ----------
    network : nn.Module
        Maps EEG in microvolts, (B, 1, T), to logits, (B, 5).
    inputs : Inputs
    checkpoint : dict
        Path, CRC-32, temperature and, where known, fold and training epoch, in plain values. `night_context` holds the
        same of the night context, or None.
    night_context : nn.Module or None
        Reads `network.summary(signal)` of each sleep epoch; its logits count.
    temperature : float
        The logits that count are divided by it before they become probabilities.
    training_sets : TrainingSets or None
        The recordings of its fold, if they are known.
    experiment : Path or None
        The folder of an experiment that stands for this network and for those of the other folds.
    use : Use or None
        How its training used the night that it scores, if that is known.
    about : mapping or None
        What its checkpoint says of it; None for the released code.
    """

    network: nn.Module
    inputs: Inputs
    checkpoint: dict[str, Any]
    night_context: nn.Module | None = None
    temperature: float = 1.0
    training_sets: TrainingSets | None = None
    experiment: Path | None = None
    use: Use | None = None
    about: Mapping[str, Any] | None = None

    @property
    def tested(self) -> bool:
        """Whether its fold tested the night that `for_night` named, or other nights of its subject."""
        return self.use is not None and "tested" in self.use.purposes

    def for_night(self, name: str, checksum: str) -> "TrainedNetwork":
        """Return this network with its use of a recording, which `checkpoint` says too; see `TrainingSets.use_of`."""
        use = self.training_sets.use_of(name, checksum) if self.training_sets else None
        text = "not known" if use is None else str(use)
        return replace(self, use=use, checkpoint=self.checkpoint | {"use_of_recording": text})

    @torch.inference_mode()
    def outputs(self, signal: Tensor) -> Tensor:
        """Map EEG, (B, 1, T), to logits, (B, 5), or to what the night context reads, (B, C)."""
        return self.network(signal) if self.night_context is None else cast(Any, self.network).summary(signal)

    @torch.inference_mode()
    def logits(self, outputs: Tensor, unbroken: Sequence[slice]) -> Tensor:
        """Map the outputs of a night, (n, C), to logits, (n, 5). The night context never reads across a gap."""
        if self.night_context is None:
            return outputs
        return torch.cat([self.night_context(pack_sequence([outputs[run]])) for run in unbroken])

    def require_logits(self) -> None:
        """Refuse a network that does not map one signal to logits of shape (1, 5)."""
        n_samples = self.inputs.n_samples * self.inputs.n_sleep_epochs
        shape = tuple(self.logits(self.outputs(torch.zeros(1, 1, n_samples)), [slice(1)]).shape)
        if shape != (1, N_STAGES):
            raise UserError(f"its network maps (1, 1, {n_samples}) to {shape}, not to logits of shape (1, {N_STAGES}).")


@dataclass(frozen=True)
class Networks:
    """One or more networks, trained on the same inputs, that score a night together: probabilities are averaged.

    Attributes
    ----------
    members : tuple of TrainedNetwork
    experiments : tuple of dict
        Of each experiment's folder its path, and the folds that are missing or not finished, in plain values.
    """

    members: tuple[TrainedNetwork, ...]
    experiments: tuple[dict[str, Any], ...] = ()

    @property
    def inputs(self) -> Inputs:
        """Inputs of every member."""
        return self.members[0].inputs

    @property
    def description(self) -> dict[str, Any]:
        """Checkpoints and inputs, in plain values."""
        checkpoints = [member.checkpoint for member in self.members]
        return {"checkpoints": checkpoints, "experiments": list(self.experiments), **asdict(self.inputs)}

    @property
    def checksums(self) -> list[str]:
        """CRC-32 of every checkpoint, and of the night context beside it."""
        checkpoints = [member.checkpoint for member in self.members]
        return [part["crc32"] for each in checkpoints for part in (each, each["night_context"]) if part is not None]

    @property
    def notes(self) -> list[str]:
        """Which folds are missing, which networks have a night context, and which do without because of their path."""
        n = sum(member.night_context is not None for member in self.members)
        notes = [note for experiment in self.experiments if (note := _incomplete(experiment))]
        if n:
            notes.append(f"{n} of {len(self.members)} networks read the night around each sleep epoch.")
        for member in self.members:
            path = Path(member.checkpoint["path"])
            if member.night_context is None and (path.parent / CONTEXT / BEST).is_file():
                notes.append(f"{path}: without its night context. Pass the folder, {path.parent}, to use both.")
        return notes

    @property
    def training_overlap(self) -> str:
        """Say how many networks were trained or selected on the night that `for_night` named; empty if none was."""
        return training_overlap([member.use for member in self.members])

    def for_night(self, name: str, checksum: str = "", all_folds: bool = False) -> "Networks":
        """Choose the networks that score a night: of an experiment the fold that tested the night, if there is one.

        Parameters
        ----------
        name, checksum : str
            Of the recording; see `TrainingSets.use_of`.
        all_folds : bool
            Keep all folds.
        """
        members = [member.for_night(name, checksum) for member in self.members]
        tested_in = {member.experiment for member in members if member.tested} - {None}
        chosen = (m for m in members if all_folds or m.tested or m.experiment not in tested_in)
        return replace(self, members=tuple(chosen))

    def score(
        self,
        signal: np.ndarray,
        source: str,
        begin: int = 0,
        end: int | None = None,
        empty: np.ndarray | None = None,
    ) -> Scoring:
        """Score a night, or sleep epochs `begin` up to `end` of it; refuse what cannot be EEG in microvolts.

        Parameters
        ----------
        signal : ndarray of shape (n,), float32
            Microvolts at `fs` Hz. A sleep epoch with a NaN is not scored, and neither is a rest of less than 30 s.
        source : str
            Name of the recording, for messages.
        empty : ndarray of shape (n_sleep_epochs,), bool, or None
            Sleep epochs without signal, which are treated as gaps. None: by `microvolts.without_signal`.
        """
        n_samples = self.inputs.n_samples
        n_sleep_epochs = len(signal) // n_samples
        sleep_epochs = signal[: n_sleep_epochs * n_samples].reshape(n_sleep_epochs, n_samples)
        empty = without_signal(sleep_epochs) if empty is None else empty
        finite = np.isfinite(sleep_epochs).all(axis=1)
        recorded = np.flatnonzero(finite & ~empty)
        if len(recorded) == 0 and finite.any():
            raise UserError(signal_problem(source, sleep_epochs[finite]) or f"{source}: {_NOTHING}")
        end = n_sleep_epochs if end is None else end
        wanted = (recorded >= begin) & (recorded < end)
        if not wanted.any():
            reason = (
                f"sleep epochs {begin} to {end - 1} all have a gap or no signal" if end else "it is shorter than 30 s"
            )
            raise UserError(f"{source}: nothing to score: {reason}.")
        sleep_epochs = sleep_epochs[recorded]
        if problem := signal_problem(source, sleep_epochs):
            raise UserError(problem)
        scored = recorded[wanted]
        rows = torch.from_numpy(neighbours(recorded, *self.inputs.context)[wanted])
        probabilities = np.full((n_sleep_epochs, N_STAGES), np.nan, np.float32)
        probabilities[scored] = self._probabilities(torch.from_numpy(sleep_epochs), rows, runs(scored))
        stages = np.full(n_sleep_epochs, UNSCORED)
        stages[scored] = probabilities[scored].argmax(axis=1)
        return Scoring(stages, probabilities)

    def _probabilities(self, sleep_epochs: Tensor, rows: Tensor, unbroken: Sequence[slice]) -> np.ndarray:
        """Score n inputs, each of the sleep epochs in a row of `rows`, (n, before + 1 + after); return (n, 5)."""

        def outputs(rows_of_batch: Tensor) -> list[Tensor]:
            signal = sleep_epochs[rows_of_batch].flatten(1).unsqueeze(1)  # (B, n, n_samples) -> (B, 1, T)
            return [member.outputs(signal) for member in self.members]

        def probabilities(member: TrainedNetwork, outputs: Tensor) -> Tensor:
            return (member.logits(outputs, unbroken) / member.temperature).softmax(dim=1)

        # One batch on each core is faster than each batch on all cores: no core waits for another. But a network of the
        # user's may keep something of a batch, so it gets one batch at a time.
        n_threads = torch.get_num_threads()
        n_batches_at_once = n_threads if all(type(member.network) is AttnSleep for member in self.members) else 1
        torch.set_num_threads(max(1, n_threads // n_batches_at_once))
        try:
            with ThreadPoolExecutor(n_batches_at_once) as threads:
                batches = list(threads.map(outputs, rows.split(_BATCH_SIZE)))
                by_member = [torch.cat(parts) for parts in zip(*batches, strict=True)]
                return torch.stack(list(threads.map(probabilities, self.members, by_member))).mean(dim=0).numpy()
        finally:
            torch.set_num_threads(n_threads)


def load_networks(paths: Sequence[Path | str]) -> Networks:
    """Load the networks of checkpoints (of this project or of the released code), folds, experiments, shared files.

    An experiment, or a file that `scoring.share` wrote of it, stands for the best models of its folds. A folder or a
    shared file brings its night context along, if it has one. An address is fetched, see `scoring.fetching`. Networks
    that were trained on different inputs are refused.
    """
    members, experiments = [], []
    for source in paths:
        path = fetched(source)
        if is_shared(path):
            networks, experiment = _load_shared(path)
            members += networks
            experiments.append(experiment)
            continue
        checkpoints = find_checkpoints(path)
        networks = [_load(checkpoint, path.is_dir()) for checkpoint in checkpoints]
        if path.is_dir() and checkpoints[0].parent != path:
            networks = [replace(network, experiment=path) for network in networks]
            experiments.append(_experiment(path, checkpoints))
        members += networks
    first = members[0]
    for other in members:
        if changed := differences(asdict(first.inputs), asdict(other.inputs)):
            raise UserError(
                f"{other.checkpoint['path']}: trained on other inputs than {first.checkpoint['path']} "
                f"({'; '.join(changed)}). Pass networks that were trained on the same."
            )
    return Networks(tuple(members), tuple(experiments))


def _load_shared(path: Path) -> tuple[list[TrainedNetwork], dict[str, Any]]:
    """Load the networks of a shared file, and make the plain values of `Networks.experiments`."""
    folds, card = read_shared(path)
    networks = []
    for fold in folds:
        with _naming(f"{path}: fold {fold.about['fold']}"):
            trained = _trained(path, fold.weights, fold.about)
            if fold.night_context:
                trained = _with_night_context(trained, path, *fold.night_context)
        networks.append(replace(trained, experiment=path))
    missing, unfinished = (
        [number for number in numbers if type(number) is int] if isinstance(numbers := card.get(key), list) else []
        for key in ("missing_folds", "unfinished_folds")
    )
    return networks, {"path": str(path), "missing_folds": missing, "unfinished_folds": unfinished}


def find_checkpoints(path: Path) -> list[Path]:
    """List the checkpoints that a path stands for: the file itself, or the best models of a fold or an experiment."""
    if not path.is_dir():
        return [path]
    if (path / BEST).is_file():
        return [path / BEST]
    numbered = {best.parent.name.removeprefix("fold_"): best for best in path.glob(f"fold_*/{BEST}")}
    checkpoints = [numbered[number] for number in sorted(filter(str.isdecimal, numbered), key=int)]
    if not checkpoints:
        raise UserError(f"{path}: neither a fold ({BEST}) nor an experiment (fold_*/{BEST}) such as saved/Exp1.")
    return checkpoints


def _experiment(path: Path, checkpoints: Sequence[Path]) -> dict[str, Any]:
    """Make the plain values of `Networks.experiments`."""
    numbers = {int(checkpoint.parent.name.removeprefix("fold_")): checkpoint.parent for checkpoint in checkpoints}
    _, about = load_weights(checkpoints[0])
    num_folds = data_setting(about, "num_folds")
    n = num_folds if FIELDS["data_loader.args.num_folds"].accepts(num_folds) else max(numbers) + 1
    return {
        "path": str(path),
        "missing_folds": [number for number in range(n) if number not in numbers],
        "unfinished_folds": [number for number, directory in numbers.items() if not is_finished(directory)],
    }


def _incomplete(experiment: Mapping[str, Any]) -> str:
    """Name the folds of an experiment that are missing or not finished; empty if there are none."""
    missing, unfinished = (", ".join(map(str, experiment[key])) for key in ("missing_folds", "unfinished_folds"))
    parts = [f"fold {missing} is missing or has no weights yet"] if missing else []
    if unfinished:
        parts.append(f"fold {unfinished} is not finished (no {PREDICTIONS}) and takes part as far as it is trained")
    return f"{experiment['path']}: {'; '.join(parts)}." if parts else ""


def _load(path: Path, with_night_context: bool) -> TrainedNetwork:
    """Load one network, and the night context in its folder if that is wanted and there."""
    weights, about = load_weights(path)
    with _naming(path):
        trained = _trained(path, weights, about)
    night_path = path.parent / CONTEXT / BEST
    if with_night_context and night_path.is_file():
        state = load_checkpoint(night_path)
        temperature = temperature_of(night_path, state)
        with _naming(night_path):
            about = state["about"] | {"train_epoch": state["train_epoch"], "temperature": temperature}
            trained = _with_night_context(trained, night_path, state["model"], about)
    return trained


def _trained(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any] | None) -> TrainedNetwork:
    """Make the network of these weights, of which its checkpoint, at `path`, says `about`."""
    if about is None:
        network: nn.Module = from_original_state_dict(weights)
        inputs = Inputs(float(original_fs(weights)))
    else:
        inputs = _inputs(about)
        fs = int(inputs.fs) if inputs.fs.is_integer() else inputs.fs
        handed = {"fs": fs, "n_sleep_epochs": inputs.n_sleep_epochs}
        network = _build(model.model, about["config"]["arch"], weights, handed)
    if type(network) is AttnSleep:  # another network may use its layers otherwise than one after the other
        network = folded(network)
    identity, training_sets = _identity(path, about) | {"night_context": None}, read_training_sets(path, about)
    temperature = identity["temperature"]
    trained = TrainedNetwork(
        network.eval(), inputs, identity, temperature=temperature, training_sets=training_sets, about=about
    )
    trained.require_logits()
    return trained


def _with_night_context(
    trained: TrainedNetwork, path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]
) -> TrainedNetwork:
    """Add the night context of these weights to a network."""
    settings, handed = about["config"]["context"]["model"], {"n_inputs": about["n_inputs"]}
    identity = _identity(path, about)
    trained = replace(
        trained,
        night_context=_build(model.night_context, settings, weights, handed),
        temperature=identity["temperature"],
        checkpoint=trained.checkpoint | {"night_context": identity},
    )
    trained.require_logits()
    return trained


def _identity(path: Path, about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make the plain values of `TrainedNetwork.checkpoint`."""
    known = {"fold": about.get("fold"), "train_epoch": about["train_epoch"]} if about else {}
    temperature = about.get("temperature", 1.0) if about else 1.0
    return {"path": str(path), "crc32": f"{zlib.crc32(path.read_bytes()):08x}", **known, "temperature": temperature}


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Turn any error into one line that names the checkpoint."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # the network may be the user's own, and the checkpoint a stranger's
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its weights and what it says of its network do not fit ({reason}).") from error


def _inputs(about: Mapping[str, Any]) -> Inputs:
    """Take the inputs from what a checkpoint says; refuse other units, other stages, a night context."""
    for what, ours in (("units", "uV"), ("stage_names", list(STAGE_NAMES))):
        if about[what] != ours:
            raise UserError(f"its {what} are {about[what]!r}, not {ours!r}.")
    if "n_inputs" in about:
        raise UserError("a night context, which needs the network that it reads. Pass the fold's folder.")
    fs, context = float(about["fs"]), tuple(about.get("context", (0, 0)))
    if not 0 < fs <= _MAX_FS:
        raise UserError(f"its fs is {fs:g} Hz, not between 0 and {_MAX_FS} Hz.")
    if not FIELDS["data_loader.args.context"].accepts(list(context)):
        raise UserError(f"its context is {context!r}, not two whole numbers from 0 to 20.")
    return Inputs(fs, str(about["channel"]), context)


def _build(
    module: ModuleType, settings: Mapping[str, Any], weights: Mapping[str, Tensor], handed: Mapping[str, Any]
) -> nn.Module:
    """Make the network that a configuration names; hand it what its constructor names; load its weights."""
    if settings["type"] not in module.__all__:
        file, known = module.__name__.replace(".", "/"), ", ".join(module.__all__)
        raise UserError(f"its network {settings['type']!r} is not in {file}.py, which has {known}.")
    network_class = getattr(module, settings["type"])
    named = inspect.signature(network_class).parameters
    arguments = settings.get("args", {}) | {name: value for name, value in handed.items() if name in named}
    network = network_class(**arguments)
    types = {name: value.dtype for name, value in network.state_dict().items()}
    if other := [name for name, value in weights.items() if value.dtype != types.get(name, value.dtype)]:
        raise UserError(f"its {other[0]} holds {weights[other[0]].dtype}, not {types[other[0]]}.")
    network.load_state_dict(weights)
    return network.eval()
