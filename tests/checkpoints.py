"""Checkpoints as training writes them, of networks that were never trained."""

import functools

import torch

from model.model import AttnSleep
from model.night_context import NightGRU
from utils.checkpoint import BEST, load_checkpoint, save_checkpoint
from utils.experiment import CONTEXT
from utils.stages import STAGE_NAMES


@functools.cache
def network(seed=0, fs=100, n_sleep_epochs=1, **arguments):
    """Network whose batch norms have seen something, and whose stages differ with size and colour of the signal."""
    torch.manual_seed(seed)
    net = AttnSleep(fs=fs, n_sleep_epochs=n_sleep_epochs, **arguments)
    with torch.no_grad():
        signal = torch.randn(24, 1, 30 * fs * n_sleep_epochs) * torch.linspace(5, 60, 24)[:, None, None]
        signal[::2] = signal[::2].cumsum(dim=2) / 5
        for _ in range(3):
            net(signal)
        logits = net.eval()(signal)
        net.head.weight.div_(logits.std(dim=0, keepdim=True).T)
        net.head.bias.copy_(-(logits - net.head.bias).mean(dim=0) / logits.std(dim=0))
    return net


def write_checkpoint(path, seed=0, fs=100, context=(0, 0), temperature=None, **changes):
    """Write the checkpoint of `network(seed, ...)` and return the network; `changes` go into its `about`.

    Without a temperature it is as earlier versions wrote it.
    """
    net = network(seed, fs, 1 + sum(context))
    about = {
        "fs": float(fs),
        "channel": "EEG Fpz-Cz",
        "units": "uV",
        "stage_names": list(STAGE_NAMES),
        "fold": seed,
        "context": list(context),
        "config": {"arch": {"type": "AttnSleep", "args": {"fs": fs}}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"train_epoch": 7, "model": net.state_dict(), "about": about | changes}
    save_checkpoint(path, state if temperature is None else state | {"temperature": temperature})
    return net


def write_experiment(folder, n_folds=2):
    """Write an experiment whose folds hold nothing but their best models; return the networks."""
    return [write_checkpoint(folder / f"fold_{fold}" / BEST, seed=fold) for fold in range(n_folds)]


def write_night_context(fold, seed=0, n_inputs=35, **changes):
    """Write a night context that was never trained into the folder of a fold, and return it."""
    torch.manual_seed(seed)
    night_context = NightGRU(width=8, n_layers=1, n_inputs=n_inputs)
    with torch.no_grad():
        for weight in night_context.parameters():
            weight.mul_(4)  # or all sleep epochs look alike
    about = load_checkpoint(fold / BEST)["about"]
    context = {"model": {"type": "NightGRU", "args": {"width": 8, "n_layers": 1}}}
    about |= {"n_inputs": n_inputs, "config": about["config"] | {"context": context}}
    (fold / CONTEXT).mkdir()
    state = {"train_epoch": 3, "model": night_context.state_dict(), "about": about | changes}
    save_checkpoint(fold / CONTEXT / BEST, state)
    return night_context.eval()
