"""Networks as ONNX files, for programs without torch."""

import logging
import warnings
from pathlib import Path

import torch

from scoring.networks import Scorer
from utils.errors import UserError
from utils.files import replacing
from utils.stages import STAGE_NAMES


def export_onnx(path: Path, scorer: Scorer) -> None:
    """Write a network as ONNX: `eeg`, float32 (B, 1, T) in microvolts, to `logits` (B, 5), for any B.

    Sampling rate, channel, context and stages stand in the file's metadata.

    Parameters
    ----------
    path : Path
    scorer : Scorer
        Of one network.

    Raises
    ------
    UserError
        There are several networks, or the packages that write ONNX are not installed.
    """
    if len(scorer.networks) > 1:
        raise UserError(
            f"--export writes one network, and these are {len(scorer.networks)}. Pass one, such as saved/Exp1/fold_0."
        )
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise UserError(f"--export needs the package {error.name}. Run: pip install onnxscript") from error
    n_samples = scorer.n_samples * (1 + sum(scorer.context))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of packages that nobody needs here
    with warnings.catch_warnings(action="ignore"):  # torch warns of its own use of torch
        program = torch.onnx.export(
            scorer.networks[0],
            (torch.zeros(2, 1, n_samples),),
            input_names=["eeg"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if program is None:
        raise UserError("torch wrote no ONNX program.")
    program.model.metadata_props.update(
        {
            "fs": f"{scorer.fs:g}",
            "channel": scorer.channel,
            "units": "uV",
            "context": " ".join(map(str, scorer.context)),
            "stage_names": " ".join(STAGE_NAMES),
        }
    )
    with replacing(path) as temporary:
        program.save(temporary)
