"""The weights that training begins with where they are not random: those of a network that never saw what is tested."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from data_loader.folds import Fold, data_of
from model.original import from_original_state_dict, original_fs
from parse_config import ConfigParser
from utils.checkpoint import BEST, load_weights
from utils.errors import UserError
from utils.logs import LOG, SUMMARY
from utils.plural import number_of
from utils.recording import Outline
from utils.shared_networks import is_shared, read_shared
from utils.stages import STAGE_NAMES
from utils.training_use import TrainingSets, read_training_sets


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a trained network.

    Attributes
    ----------
    source : str
        The file, for messages; the fold as well where a file holds several.
    weights : mapping of str to Tensor
        Those that fit the network which is to be trained.
    about : mapping
        What its checkpoint says of it: at least `fs`.
    training_sets : TrainingSets or None
        The recordings that it learned from, if they are known.
    left : tuple of str
        Names of the weights that do not fit.
    """

    source: str
    weights: Mapping[str, Tensor]
    about: Mapping[str, Any]
    training_sets: TrainingSets | None
    left: tuple[str, ...] = ()


def head_of(network: nn.Module) -> nn.Module | None:
    """Return the layer that a network names `head`, if it has weights; see `model.model`."""
    head = getattr(network, "head", None)
    return head if isinstance(head, nn.Module) and any(True for _ in head.parameters()) else None


def about_initial(initial: InitialWeights | None) -> dict[str, Any]:
    """Say in plain values what a checkpoint keeps of the initial weights; empty without any."""
    if initial is None:
        return {}
    patterns = list(initial.training_sets.patterns) if initial.training_sets else []
    return {"initial": initial.source} | ({"initial_patterns": patterns} if patterns else {})


def choose_initial(
    config: ConfigParser, folds: Sequence[Fold], outlines: Sequence[Outline]
) -> dict[int, InitialWeights]:
    """Choose the initial weights of each fold; none if the configuration names none.

    Of an experiment a fold takes the network of the fold with its number if that never saw what is tested or selected
    on, and otherwise the first one that never did.

    Parameters
    ----------
    config : ConfigParser
    folds : sequence of Fold
    outlines : sequence of Outline
        At least their recordings.

    Returns
    -------
    dict of int to InitialWeights
        By the number of the fold.

    Raises
    ------
    UserError
        There is no network that fits and never saw them, or nobody knows what it saw.
    """
    if "initial" not in config.values:
        return {}
    path = Path(config["initial.checkpoint"])
    fs = config["data_loader.args.fs"]
    network = config.init_obj("arch", fs=fs, n_sleep_epochs=config.n_sleep_epochs)
    networks = [_fitting(each, network, fs, config["initial.layers"]) for each in _read(path)]
    unknown = [each.source for each in networks if each.training_sets is None]
    if unknown and config["initial.trained_on"] is None:
        raise UserError(
            f"{unknown[0]} does not say what it was trained on, so it may have seen what is tested here. If you know "
            'that it did not, say what it was trained on: --set initial.trained_on="..."; the results tell so.'
        )
    return {fold.number: _never_saw(networks, fold, outlines, config) for fold in folds}


def _read(path: Path) -> list[InitialWeights]:
    """Read the networks that a path stands for: a checkpoint, the best one of a fold, or those of an experiment."""
    if is_shared(path):
        return [
            InitialWeights(
                f"{path}: fold {fold.about['fold']}", fold.weights, fold.about, read_training_sets(path, fold.about)
            )
            for fold in read_shared(path)[0]
        ]
    paths = [path]
    if path.is_dir():
        paths = [path / BEST] if (path / BEST).is_file() else sorted(path.glob(f"fold_*/{BEST}"))
        if not paths:
            raise UserError(f"{path}: neither a fold ({BEST}) nor an experiment (fold_*/{BEST}) such as saved/Exp1.")
    networks = []
    for checkpoint in paths:
        weights, about = load_weights(checkpoint)
        if about is None:
            try:
                about = {"fs": original_fs(weights)}
                weights = from_original_state_dict(weights).state_dict()
            except (UserError, LookupError) as error:
                raise UserError(f"{checkpoint}: no weights of the released AttnSleep ({error}).") from error
            networks.append(InitialWeights(str(checkpoint), weights, about, None))
        else:
            networks.append(InitialWeights(str(checkpoint), weights, about, read_training_sets(checkpoint, about)))
    return networks


def _fitting(initial: InitialWeights, network: nn.Module, fs: int, layers: str) -> InitialWeights:
    """Keep the layers that fit by names and shapes; refuse those of other signals, or if too few fit."""
    for key, value in {"fs": fs, "units": "uV", "stage_names": list(STAGE_NAMES)}.items():
        if (other := initial.about.get(key, value)) != value:
            hint = f" Prepare the recordings with --fs {other:g}." if isinstance(other, int | float) else ""
            raise UserError(f"{initial.source}: its {key} is {other}, not {value}.{hint}")
    own = network.state_dict()
    shapes = {name: value.shape for name, value in initial.weights.items()}
    unlike = {_layer(name) for name, value in own.items() if shapes.get(name) != value.shape}
    fitting = {name: value for name, value in initial.weights.items() if name in own and _layer(name) not in unlike}
    missing = _layers(own.keys() - fitting.keys() - _names_of_head(network))
    if not fitting.keys() & dict(network.named_parameters()).keys() or (layers == "head" and missing):
        raise UserError(
            f"{initial.source}: none of its weights fit {', '.join(missing[:5])}{' and others' * (len(missing) > 5)} "
            f"of {type(network).__name__}. Take the arch and data_loader.args that it was trained with"
            + (', or initial.layers "all".' if layers == "head" else ".")
        )
    return replace(initial, weights=fitting, left=tuple(initial.weights.keys() - fitting.keys()))


def _never_saw(
    networks: Sequence[InitialWeights], fold: Fold, outlines: Sequence[Outline], config: ConfigParser
) -> InitialWeights:
    """Choose the network for a fold."""
    data, pattern = data_of(fold, outlines), config["data_loader.args.subject_pattern"]
    unseen, reason = data["valid"] | data["test"], ""
    for network in sorted(networks, key=lambda network: network.about.get("fold") != fold.number):
        known = network.training_sets
        learned_from = known.learned_from(unseen, pattern) if known else []
        if not learned_from:
            return network
        names = ", ".join(learned_from[:5]) + f" and {len(learned_from) - 5} more" * (len(learned_from) > 5)
        reason = (
            reason or f"{network.source} learned from nights or subjects that this fold tests or selects on: {names}"
        )
    others = f" So did {number_of(len(networks) - 1, 'other network')}." if len(networks) > 1 else ""
    raise UserError(
        f"Fold {fold.number}: {reason}.{others} Begin with weights that never saw them, or leave these recordings out."
    )


def data_with_initial(
    fold: Fold, outlines: Iterable[Outline], initial: InitialWeights | None
) -> dict[str, dict[str, str] | None]:
    """Say which recordings a fold consists of, as `data_of`, and under `initial` what its weights learned from before.

    `initial` is there if there are initial weights, and None if it is not known what they learned from.
    """
    data: dict[str, dict[str, str] | None] = {**data_of(fold, outlines)}
    if initial is not None:
        data["initial"] = initial.training_sets.learned if initial.training_sets else None
    return data


def begin_with(network: nn.Module, initial: InitialWeights, config: ConfigParser) -> None:
    """Put initial weights into a network, and freeze all but its head if that trains alone; log what was taken.

    Parameters
    ----------
    network : nn.Module
        Keeps its own weights where the initial ones do not fit.
    initial : InitialWeights
    config : ConfigParser
    """
    network.load_state_dict(dict(initial.weights), strict=False)
    own = network.state_dict()
    random, left = _layers(own.keys() - initial.weights.keys()), _layers(set(initial.left) - own.keys())
    LOG.log(
        SUMMARY,
        f"Training begins with {len(initial.weights)} of {number_of(len(own), 'array')} of {initial.source}."
        + (f" Random, as none of its shape is there: {', '.join(random)}." if random else "")
        + (f" Not used: its {', '.join(left)}." if left else ""),
    )
    if initial.training_sets is None:
        LOG.warning(
            f"Nobody can check what {initial.source} was trained on. The configuration says: "
            f"{config['initial.trained_on']!r}. If it saw what is tested here, the figures are too good."
        )
    if config["initial.layers"] == "head" and (head := head_of(network)):
        network.requires_grad_(False)
        head.requires_grad_(True)
        LOG.log(SUMMARY, "The head alone is trained.")


def make_optimizer(config: ConfigParser, network: nn.Module, initial: InitialWeights | None) -> Optimizer:
    """Make the optimizer of a network; what came from initial weights, but for the head, learns at a lower rate."""
    optimizer: Optimizer
    if initial is None or config["initial.layers"] == "head" or config["initial.lr_factor"] == 1:
        optimizer = config.init_obj("optimizer", params=network.parameters())
        return optimizer
    taken = initial.weights.keys() - _names_of_head(network)
    lower = [value for name, value in network.named_parameters() if name in taken]
    others = [value for name, value in network.named_parameters() if name not in taken]
    optimizer = config.init_obj("optimizer", params=[{"params": part} for part in (others, lower) if part])
    for group in optimizer.param_groups[bool(others) :]:
        group["lr"] *= config["initial.lr_factor"]
    return optimizer


def _names_of_head(network: nn.Module) -> set[str]:
    """Name the weights of the head."""
    head = head_of(network)
    return {f"head.{name}" for name in head.state_dict()} if head else set()


def _layers(names: Collection[str]) -> list[str]:
    """Name the layers that some weights belong to."""
    return sorted({_layer(name) for name in names})


def _layer(name: str) -> str:
    """Name the layer that a weight belongs to; a weight of the network itself stands for itself."""
    return name.rpartition(".")[0] or name
