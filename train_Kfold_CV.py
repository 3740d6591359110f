"""Train one fold of a K-fold cross-validation, or all of them; report when all are there.

python train_Kfold_CV.py --device 0 --fold_id 10 --np_data_dir /path/to/npz/files
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from utils.arguments import positive
from utils.errors import UserError
from utils.logs import print_any_name
from utils.parent import end_with_parent
from utils.stopping import Stopped, stoppable

if TYPE_CHECKING:
    import torch

    from data_loader.folds import Fold
    from parse_config import ConfigParser
    from utils.recording import Outline

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the command line and return its exit code."""
    arguments = parse_arguments()
    print_any_name()
    if arguments.one_of_several or "TORCHELASTIC_RUN_ID" in os.environ:  # by train_side_by_side, by torchrun
        end_with_parent()
    try:
        with stoppable():
            run(arguments)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except Stopped as stop:
        command = "The same command without --overwrite" if arguments.overwrite else "The same command"
        print(f"\nStopped by {stop}. {command} goes on from there.", file=sys.stderr)
        return stop.exit_code
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Check the experiment, choose the devices, and train on them."""
    # Imported here because they load torch, for which --help does not wait.
    from trainer.fold import read_config
    from utils import ranks
    from utils.board import require_tensorboard
    from utils.device import choose_devices, device_of_rank
    from utils.heap import keep_freed_memory
    from utils.logs import log_to_console

    keep_freed_memory()
    default = arguments.resume.parent if arguments.resume else HERE
    config = read_config(arguments.config or default / "config.json", arguments.set)
    if config["trainer.tensorboard"]:
        require_tensorboard()
    log_to_console(config["trainer.verbosity"])
    if ranks.are_started():
        device, remarks = device_of_rank(arguments.device, config["n_gpu"])
        with ranks.together(device):
            train(arguments, config, [[device]], remarks)
    else:
        train(arguments, config, *choose_devices(arguments.device, config["n_gpu"]))


def train(
    arguments: argparse.Namespace, config: "ConfigParser", teams: "list[list[torch.device]]", remarks: list[str]
) -> None:
    """Check the recordings, train the folds that are not finished, report."""
    from data_loader.data_loaders import SleepEpochs, check_sampling_rate, find_recordings
    from trainer.fold import folds_of, plan, train_in_turn
    from trainer.side_by_side import train_by_ranks, train_side_by_side
    from utils import ranks
    from utils.device import CPU, divide
    from utils.experiment import fold_directory, is_finished
    from utils.logs import LOG, SUMMARY

    # The recordings, by fold
    outlines = find_recordings(arguments.np_data_dir)
    check_sampling_rate(outlines, config.argument("arch", "fs"))
    folds = folds_of(config, outlines, arguments.fold_id)
    if arguments.dry_run:
        print(json.dumps(plan(config, folds[0], outlines, teams[0]), indent=2))
        return

    # Those that are left, and who trains them: this process, or others that it starts
    done = ranks.agreed([is_finished(fold_directory(config.experiment_dir, fold.number)) for fold in folds])
    unfinished = [fold for fold, is_done in zip(folds, done, strict=True) if arguments.overwrite or not is_done]
    teams = divide(teams, arguments.jobs, len(unfinished))
    here = [len(team) for team in teams] == [1]
    if unfinished:  # odd signals are refused before it is too late
        settings = config["data_loader.args"]
        data = SleepEpochs(
            outlines, teams[0][0] if here else CPU, tuple(settings["context"]), settings["resident"] if here else False
        )

    # Their folders
    ranks.on_first(lambda: make_folders(arguments, config, folds, outlines))
    if unfinished and not arguments.one_of_several:
        for remark in remarks:
            LOG.warning(remark)
    if len(unfinished) < len(folds):
        finished = ", ".join(str(fold.number) for fold in folds if fold not in unfinished)
        LOG.log(SUMMARY, f"Finished already and skipped: fold {finished}.")

    # Training
    script, further = Path(__file__), sys.argv[1:]
    if here:
        train_in_turn(config, unfinished, data, remarks, arguments.resume)
    elif len(teams) == 1:
        train_by_ranks(script, further, len(teams[0]))
    elif unfinished:
        failed = train_side_by_side(script, further, [fold.number for fold in unfinished], teams)
        if failed:
            raise UserError(f"Folds that failed: {', '.join(map(str, failed))}. The same command does them again.")
    if ranks.rank() == 0 and not arguments.one_of_several:
        from report.report import write_report_if_complete  # loads more, for which training does not wait

        write_report_if_complete(config.experiment_dir, config["data_loader.args.num_folds"])


def make_folders(
    arguments: argparse.Namespace, config: "ConfigParser", folds: "list[Fold]", outlines: "list[Outline]"
) -> None:
    """Make the folders of the folds ours, or refuse."""
    from trainer.claims import check_checkpoint, claim, start_afresh
    from trainer.fold import checksums
    from utils.experiment import fold_directory

    if arguments.resume:
        check_checkpoint(arguments.resume, folds[0].number, config.values)
    if arguments.overwrite and arguments.fold_id == "all":
        start_afresh(config.experiment_dir)
    for fold in folds:
        directory = fold_directory(config.experiment_dir, fold.number)
        claim(directory, config.values, checksums(fold, outlines), arguments.overwrite)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, help="configuration (default: config.json beside this script)")
    parser.add_argument("-f", "--fold_id", type=_fold_id, required=True, help="0-based number of the fold, or all")
    parser.add_argument("-da", "--np_data_dir", type=Path, required=True, help="folder of the prepared npz files")
    parser.add_argument(
        "-d",
        "--device",
        type=_device,
        default="0",
        help="a GPU's number, several (0,1,2,3: a fold on each), cpu or mps; a GPU not there means the CPU",
    )
    parser.add_argument(
        "-r", "--resume", type=Path, help="checkpoint to go on from (default: the newest one of the fold)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key: --set trainer.epochs=5"
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="train so many folds at once, each with a share of the cores",
    )
    parser.add_argument("--dry_run", action="store_true", help="print as JSON what would be done, and do nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run of the same name")
    # Set by trainer.side_by_side for its processes: the one that started them says remarks and makes the report.
    parser.add_argument("--one_of_several", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.fold_id == "all":
        parser.error("--dry_run shows one fold: name it with --fold_id")
    if arguments.resume and arguments.fold_id == "all":
        parser.error("--resume goes on with one fold: name it with --fold_id")
    if arguments.resume and arguments.overwrite:
        parser.error("--resume goes on and --overwrite starts afresh: pass one of them")
    return arguments


def _fold_id(text: str) -> str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 up nor all")
    return text


def _device(text: str) -> str:
    if text not in {"cpu", "mps"} and not re.fullmatch(r"[0-9]+(,[0-9]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a GPU's number (or several, 0,1) nor cpu nor mps")
    return text


if __name__ == "__main__":
    sys.exit(main())
