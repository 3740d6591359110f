"""Write a network as an ONNX file, for programs without torch."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from scoring.networks import Networks
from utils.errors import UserError
from utils.files import replacing
from utils.stages import STAGE_NAMES


def export_onnx(path: Path, networks: Networks) -> None:
    """Write a network as ONNX: `eeg`, float32 (B, 1, T) in microvolts, to `logits` (B, 5), for any B.

    The metadata of the file holds sampling rate, channel, context, stages and temperature: the probabilities are
    softmax(logits / temperature). A night context is not written, and neither are several networks.
    """
    n = len(networks.members)
    if n > 1:
        raise UserError(f"--export writes one network, and these are {n}. Pass one, such as saved/Exp1/fold_0.")
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise UserError(f"--export needs the package {error.name}. Run: pip install onnxscript") from error
    inputs = networks.inputs
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it logs packages that are not needed here
    with warnings.catch_warnings(action="ignore"):  # torch warns of its own deprecated calls
        try:
            program: Any = torch.onnx.export(
                networks.members[0].network,
                (torch.zeros(2, 1, inputs.n_samples * inputs.n_sleep_epochs),),
                input_names=["eeg"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except Exception as error:  # the network may be the user's own
            reason = str(error).partition("\n")[0]
            raise UserError(f"torch cannot write this network as ONNX: {reason}") from error
    program.model.metadata_props.update(
        {
            "fs": f"{inputs.fs:g}",
            "channel": inputs.channel,
            "units": "uV",
            "context": " ".join(map(str, inputs.context)),
            "stage_names": " ".join(STAGE_NAMES),
            "temperature": str(networks.members[0].checkpoint["temperature"]),
        }
    )
    with replacing(path) as temporary:
        program.save(temporary)
