"""Train one fold of a K-fold cross-validation, or all of them; report when all are there.

python train_Kfold_CV.py --device 0 --fold_id 10 --np_data_dir /path/to/npz/files
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from utils.environment import require_packages

require_packages()

from utils.arguments import positive
from utils.cores import share_cores
from utils.errors import UserError
from utils.logs import never_fail_to_print
from utils.stopping import Stopped, stoppable

if TYPE_CHECKING:
    from data_loader.data_loaders import SleepEpochs
    from data_loader.folds import Fold
    from parse_config import ConfigParser
    from trainer.initial import InitialWeights
    from trainer.trainer import Trainer

HERE = Path(__file__).resolve().parent


def main(arguments: argparse.Namespace) -> None:
    """Train the folds that are not finished, then report if all are there."""
    # Imported here because they load torch, for which --help does not wait.
    from data_loader.data_loaders import SleepEpochs, find_recordings
    from data_loader.folds import choose_folds
    from trainer.claims import claim_folds
    from trainer.configuration import read_config
    from trainer.fold import folds_of, plan, unfinished_folds
    from trainer.initial import choose_initial
    from trainer.side_by_side import train_elsewhere
    from utils import ranks
    from utils.device import CPU, choose_devices, divide, make_current
    from utils.logs import LOG, SUMMARY, log_to_console, until

    # The experiment
    default = (arguments.resume.parent if arguments.resume else HERE) / "config.json"
    config = read_config(arguments.config or default, arguments.set)
    log_to_console(config["trainer.verbosity"])
    for note in config.notes:
        LOG.log(SUMMARY, note)

    # The recordings, the folds, and the devices that train them
    outlines = find_recordings(arguments.np_data_dir, config["data_loader.args.fs"])
    folds = choose_folds(folds_of(config, outlines), arguments.fold_id)
    initial = choose_initial(config, folds, outlines)
    if ranks.are_started() and arguments.jobs > 1:
        raise UserError(
            "--jobs trains several folds at once, and torchrun one fold by several ranks: pass one of them."
        )
    teams = choose_devices(arguments.device, config["n_gpu"])
    if arguments.dry_run:
        if ranks.rank() > 0:
            return
        print(json.dumps(plan(config, folds[0], outlines, ", ".join(map(str, teams[0]))), indent=2))
        return
    unfinished = folds if arguments.overwrite else unfinished_folds(config, folds)
    n_at_once = max(arguments.jobs, len(teams))
    teams = divide(teams, n_at_once, len(unfinished))
    trains_here = len(teams) == 1 and len(teams[0]) == 1
    if trains_here:
        make_current(teams[0][0], n_at_once)
    if unfinished:  # damaged signals are refused before any folder is made
        device, neighbours = teams[0][0] if trains_here else CPU, tuple(config["data_loader.args.context"])
        resident = config["data_loader.args.resident"] if trains_here else False
        data = SleepEpochs(outlines, device, neighbours, resident)
    if ranks.rank() == 0:
        claim_folds(config, folds, outlines, arguments.overwrite, arguments.resume, initial)
    ranks.wait_for_all()

    # Training
    if trains_here:
        begin = time.perf_counter()
        for n_done, fold in enumerate(unfinished, 1):
            train_fold(config, fold, data, arguments.resume, initial.get(fold.number))
            if n_left := len(unfinished) - n_done:
                seconds = n_left * (time.perf_counter() - begin) / n_done
                LOG.log(SUMMARY, f"{n_done} of {len(unfinished)} folds done, {n_left} to go: {until(seconds)}.")
    elif unfinished:
        further = [word for word in sys.argv[1:] if word != "--overwrite"]  # the folders are ours now
        train_elsewhere(Path(__file__), further, unfinished, teams, n_at_once)

    # The report, unless one of the other processes has made it
    if ranks.rank() == 0 and (trains_here or not unfinished):
        from report.report import write_report_if_complete  # loads more, for which training does not wait

        write_report_if_complete(config.experiment_dir, config["data_loader.args.num_folds"])


def train_fold(
    config: "ConfigParser",
    fold: "Fold",
    data: "SleepEpochs",
    checkpoint: Path | None,
    initial: "InitialWeights | None" = None,
) -> None:
    """Train one fold, or go on with it, and write its predictions.

    Parameters
    ----------
    config : ConfigParser
    fold : Fold
    data : SleepEpochs
        At least the recordings of `fold`.
    checkpoint : Path or None
        Where to go on; None: from the newest checkpoint of the fold, if there is one.
    initial : InitialWeights or None
        Where to begin; None: with random weights.
    """
    from trainer.fold import introduce, logged, predict_test_set
    from trainer.night_context import add_night_context
    from utils import ranks
    from utils.experiment import fold_directory, write_predictions
    from utils.logs import LOG, SUMMARY

    directory = fold_directory(config.experiment_dir, fold.number)
    with logged(fold, directory):
        introduce(fold, config, data)
        trainer = make_trainer(config, fold, data, directory, initial)
        trainer.resume(checkpoint)
        trainer.train()
        predictions = predict_test_set(trainer, fold, data, config["data_loader.args.subject_pattern"])
        if ranks.rank() > 0:
            return
        if "context" in config.values:
            with ranks.rank_0_alone():
                predictions = add_night_context(config, fold, data, trainer, predictions)
        write_predictions(directory, predictions)
        LOG.log(
            SUMMARY,
            f"Fold {fold.number} is finished: best training epoch {predictions.selected_train_epoch} of "
            f"{len(trainer.history)} ({config['trainer.monitor']}), "
            f"test accuracy {(predictions.y_true == predictions.y_pred).mean():.4f}.",
        )


def make_trainer(
    config: "ConfigParser",
    fold: "Fold",
    data: "SleepEpochs",
    directory: Path,
    initial: "InitialWeights | None" = None,
) -> "Trainer":
    """Make batches, network, loss, optimizer and trainer of a fold."""
    from data_loader.data_loaders import Batches, channels_of
    from trainer.fold import counted
    from trainer.initial import about_initial, begin_with, data_with_initial, head_of, make_optimizer
    from trainer.trainer import Trainer
    from utils.device import computed_with
    from utils.microvolts import amplitude
    from utils.seed import seed_train_epoch
    from utils.stages import STAGE_NAMES

    # Data
    batch_size, fs = config["data_loader.args.batch_size"], config["data_loader.args.fs"]
    train_batches = Batches(data, data.indices(fold.train), batch_size, shuffle=True)
    evaluation_batches = Batches(data, data.indices(fold.valid or fold.test), batch_size, shuffle=False)

    # Network, loss and optimizer
    seed_train_epoch(config["seed"], 0)
    network = config.init_obj("arch", fs=fs, n_sleep_epochs=config.n_sleep_epochs).to(data.device)
    if initial:
        begin_with(network, initial, config)
    criterion = config.init_obj("loss", class_counts=data.class_counts(counted(fold))).to(data.device)
    optimizer = make_optimizer(config, network, initial)
    lr_scheduler = config.init_obj("lr_scheduler", optimizer=optimizer)

    # Trainer
    return Trainer(
        network,
        optimizer,
        lr_scheduler,
        criterion=criterion,
        metrics=config.functions("metrics"),
        train_batches=train_batches,
        evaluation_batches=evaluation_batches,
        evaluated_set="valid" if fold.valid else "test",
        precision=config["trainer.precision"],
        cuda_graph=config["trainer.cuda_graph"],
        compiled=config["trainer.compile"],
        trained=head_of(network) if initial and config["initial.layers"] == "head" else None,
        directory=directory,
        epochs=config["trainer.epochs"],
        save_period=config["trainer.save_period"],
        monitor=config["trainer.monitor"],
        early_stop=config["trainer.early_stop"],
        seed=config["seed"],
        averaging=config["trainer.averaging"],
        tensorboard=config["trainer.tensorboard"],
        about={
            "fs": fs,
            "channel": channels[0] if len(channels := list(channels_of(data.outlines.values()))) == 1 else "",
            "units": "uV",
            "stage_names": list(STAGE_NAMES),
            "fold": fold.number,
            "context": config["data_loader.args.context"],
            "config": config.values,
            "data": data_with_initial(fold, data.outlines.values(), initial),
            "amplitude_uv": amplitude(data.std_uv[name] for name in fold.train),
            "computed_with": computed_with(data.device),
            **about_initial(initial),
        },
    )


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


def run() -> int:
    """Run the command line and return its exit code."""
    never_fail_to_print()
    arguments = parse_arguments()
    share_cores()
    try:
        with stoppable():
            from utils import ranks
            from utils.device import device_errors
            from utils.heap import keep_freed_memory

            keep_freed_memory()
            with ranks.together(), device_errors():
                main(arguments)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except Stopped as stop:
        command = "The same command without --overwrite" if arguments.overwrite else "The same command"
        print(f"\nStopped by {stop}. {command} goes on after the last finished training epoch.", file=sys.stderr)
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run())
