"""The temperature of a trained network: the number that its logits are divided by, so that its probabilities hold."""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from data_loader.data_loaders import Batches
from data_loader.windows import Windows
from trainer.trainer import Trainer
from utils import ranks
from utils.checkpoint import BEST, TEMPERATURES, load_checkpoint, save_checkpoint
from utils.logs import LOG, SUMMARY
from utils.plural import number_of


def calibrate(trainer: Trainer, batches: Batches | Windows, title: str = "Temperature") -> float:
    """Fit the temperature of a network with its selected weights, log it, and keep it in their checkpoint.

    Parameters
    ----------
    trainer : Trainer
        Of a network that has the selected weights.
    batches : Batches or Windows
        Those of the validation subjects, or of the training subjects where there are none. Never of the test subjects.
    title : str
        Beginning of the line of the log.
    """
    stages = batches.stages
    temperature = fit_temperature(trainer.outputs(batches).cpu(), stages)
    if ranks.rank() == 0:
        path = trainer.directory / BEST
        checkpoint = load_checkpoint(path)
        if checkpoint.get("temperature") != temperature:  # a finished fold is not written again: the disk may be full
            save_checkpoint(path, checkpoint | {"temperature": temperature})
    subjects = "validation" if trainer.evaluated_set == "valid" else "training"
    said = f"{title} {temperature:.3f}, fitted on {number_of(len(stages), 'sleep epoch')} of the {subjects} subjects"
    if stages.unique().numel() < 2:
        LOG.warning(f"{title} 1, not fitted: the {subjects} subjects have one stage alone.")
    elif temperature in TEMPERATURES:
        LOG.warning(f"{said}: the end of the range where it is looked for. Do not rely on the probabilities.")
    else:
        LOG.log(SUMMARY, f"{said}.")
    return temperature


def fit_temperature(logits: Tensor, stages: Tensor) -> float:
    """Find the temperature T that makes the stages most likely: least mean of -log softmax(logits / T)[stage].

    C. Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2. The loss has one minimum, because
    it is convex in 1 / T.

    Parameters
    ----------
    logits : Tensor of shape (n, 5)
    stages : Tensor of shape (n,)

    Returns
    -------
    float
        From 0.05 to 20; exactly one of these if the loss falls up to there, and 1 if there are not two stages.
    """
    if stages.unique().numel() < 2:
        return 1.0
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return cross_entropy(logits / math.exp(log_temperature), stages).item()

    low, high = map(math.log, TEMPERATURES)
    with torch.inference_mode():
        fitted = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
        # Of temperatures with the same loss the first: 1 if all logits are the same, 0.05 if every stage is right.
        candidates = 1.0, *TEMPERATURES, math.exp(fitted.x)
        return min(candidates, key=lambda temperature: loss(math.log(temperature)))
