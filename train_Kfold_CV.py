"""Train one fold of a K-fold cross-validation, or all of them; report when all are there.

python train_Kfold_CV.py --device 0 --fold_id 10 --np_data_dir /path/to/npz/files
"""

import argparse
import json
import sys
from pathlib import Path

from utils.arguments import positive
from utils.errors import UserError
from utils.logs import print_any_name
from utils.stopping import Stopped, stoppable

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the command line and return its exit code."""
    arguments = parse_arguments()
    print_any_name()
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
    """Check everything, train the folds that are not finished, report."""
    # Imported here because they load torch, for which --help does not wait.
    from data_loader.data_loaders import SleepEpochs, check_sampling_rate, find_recordings
    from data_loader.folds import choose_folds, make_folds, set_aside
    from trainer.experiment import check_checkpoint, claim, fold_directory, is_finished, start_afresh
    from trainer.fold import checksums, plan, read_config, train_in_turn
    from trainer.side_by_side import train_side_by_side
    from utils.board import require_tensorboard
    from utils.device import choose_device
    from utils.heap import keep_freed_memory
    from utils.logs import LOG, SUMMARY, log_to_console

    keep_freed_memory()

    # The experiment
    default = arguments.resume.parent if arguments.resume else HERE
    config = read_config(arguments.config or default / "config.json", arguments.set)
    if config["trainer.tensorboard"]:
        require_tensorboard()
    log_to_console(config["trainer.verbosity"])
    device, remarks = choose_device(arguments.device, config["n_gpu"])

    # The recordings, by fold
    outlines = find_recordings(arguments.np_data_dir)
    check_sampling_rate(outlines, config.argument("arch", "fs"))
    settings = config["data_loader.args"]
    all_folds = make_folds(
        [outline.name for outline in outlines], settings["num_folds"], config["seed"], settings["subject_pattern"]
    )
    folds = choose_folds(all_folds, arguments.fold_id)
    if config["evaluation.protocol"] == "holdout":
        valid_subjects = config["evaluation.valid_subjects"]
        folds = [set_aside(fold, valid_subjects, config["seed"], settings["subject_pattern"]) for fold in folds]
    if arguments.dry_run:
        print(json.dumps(plan(config, folds[0], outlines, device), indent=2))
        return

    directories = {fold.number: fold_directory(config.experiment_dir, fold.number) for fold in folds}
    if arguments.overwrite or not all(is_finished(directory) for directory in directories.values()):
        # refuses odd signals before it is too late
        data = SleepEpochs(outlines, device, tuple(settings["context"]), settings["resident"])

    # Their folders
    if arguments.resume:
        check_checkpoint(arguments.resume, folds[0].number, config.values)
    if arguments.overwrite and arguments.fold_id == "all":
        start_afresh(config.experiment_dir)
    for fold in folds:
        claim(directories[fold.number], config.values, checksums(fold, outlines), arguments.overwrite)
    unfinished = [fold for fold in folds if not is_finished(directories[fold.number])]
    if unfinished and not arguments.one_of_several:
        for remark in remarks:
            LOG.warning(remark)
    if len(unfinished) < len(folds):
        finished = ", ".join(str(fold.number) for fold in folds if fold not in unfinished)
        LOG.log(SUMMARY, f"Finished already and skipped: fold {finished}.")

    # Training
    if arguments.jobs > 1 and len(unfinished) > 1:
        failed = train_side_by_side(Path(__file__), sys.argv[1:], [fold.number for fold in unfinished], arguments.jobs)
        if failed:
            raise UserError(f"Folds that failed: {', '.join(map(str, failed))}. The same command does them again.")
    elif unfinished:
        train_in_turn(config, unfinished, data, remarks, arguments.resume)
    if not arguments.one_of_several:
        from trainer.report import write_report_if_complete  # loads more, for which training does not wait

        write_report_if_complete(config.experiment_dir, settings["num_folds"])


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, help="configuration (default: config.json beside this script)")
    parser.add_argument("-f", "--fold_id", type=_fold_id, required=True, help="0-based number of the fold, or all")
    parser.add_argument("-da", "--np_data_dir", type=Path, required=True, help="folder of the prepared npz files")
    parser.add_argument(
        "-d", "--device", type=_device, default="0", help="a GPU's number, cpu or mps; a GPU not there means the CPU"
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
    # Set by trainer.side_by_side for its processes: the one that started them makes the report.
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
    if text not in {"cpu", "mps"} and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a GPU's number nor cpu nor mps")
    return text


if __name__ == "__main__":
    sys.exit(main())
