"""Report on an experiment's folds, compare several experiments, or evaluate networks on other nights.

python -m report saved/Exp1                     write the report of the folds that are finished
python -m report saved/A saved/B                compare two experiments, subject by subject
python -m report saved/*                        lay experiments side by side
python -m report FILE --on nights_npz           evaluate networks, of a shared file or an experiment, on other nights
"""

import argparse
import json
import sys
from pathlib import Path

from utils.environment import require_packages

require_packages()

from report.comparison import comparison, experiments_table, read_experiments
from report.report import write_report
from report.results import read_results
from scoring.fetching import source_of
from utils.errors import UserError
from utils.experiment import EVALUATION, write_predictions
from utils.files import write_text
from utils.logs import LOG, SUMMARY, log_to_console, never_fail_to_print
from utils.plural import number_of


def main() -> int:
    """Report on one experiment, compare several, or evaluate networks; return the exit code."""
    never_fail_to_print()
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m report", description=__doc__, formatter_class=raw)
    folders = "folder of an experiment, such as saved/Exp1; with several, they are compared and nothing is written"
    parser.add_argument("experiment", type=source_of, nargs="+", help=folders)
    on = "folder of prepared nights to evaluate on; those that the networks learned from are left out"
    parser.add_argument("--on", type=Path, metavar="DIR", help=on)
    output = "folder of the report with --on (default: <name of the networks>_on_<name of the nights' folder>)"
    parser.add_argument("--output", type=Path, metavar="DIR", help=output)
    arguments = parser.parse_args()
    paths = arguments.experiment
    if arguments.on is None and arguments.output is not None:
        parser.error("--output is the folder of an evaluation: pass --on")
    if arguments.on is not None and len(paths) > 1:
        parser.error("--on evaluates one file or experiment: evaluate each, then compare the folders of their reports")
    log_to_console(1 if arguments.on else 0)
    try:
        if arguments.on is not None:
            write_report(read_results(evaluate_on(paths[0], arguments.on, arguments.output)))
        elif len(paths) == 1:
            write_report(read_results(_folder(paths[0])))
        else:
            experiments = read_experiments([_folder(path) for path in paths])
            print(experiments_table(experiments))
            if len(experiments) == 2:
                print("\n" + comparison(*experiments))
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _folder(source: Path | str) -> Path:
    """Refuse what is no folder of an experiment."""
    if isinstance(source, str) or source.is_file():
        raise UserError(f"{source}: holds networks, but no results. Pass --on and a folder of prepared nights.")
    return source


def evaluate_on(source: Path | str, nights: Path, output: Path | None) -> Path:
    """Evaluate networks on prepared nights, and write the predictions into a folder, whose path is returned.

    A folder that holds the evaluation of the same networks on the same nights is kept; any other that is not empty is
    refused.
    """
    from scoring.evaluation import evaluate, find_nights  # these import torch, for which --help does not wait
    from scoring.networks import load_networks

    networks, outlines = load_networks([source]), find_nights(nights)
    name = Path(networks.experiments[0]["path"] if networks.experiments else networks.members[0].checkpoint["path"])
    output = output or Path(f"{name.resolve().stem}_on_{nights.resolve().name}")
    asked = {
        "networks": networks.checksums,
        "nights": {outline.name: outline.checksum for outline in outlines},
    }
    if _is_kept(output, asked):
        LOG.log(SUMMARY, f"{output}: evaluated before, on the same nights; the report is written again.")
        return output
    evaluation = evaluate(networks, outlines)
    content = {
        "asked": asked,
        "nights_from": str(nights),
        "remarks": evaluation.remarks,
        "left_out": evaluation.left_out,
        "scored_by": evaluation.scored_by,
        "networks": networks.description,
        "config": (networks.members[0].about or {}).get("config", {}),
    }
    write_predictions(output, evaluation.predictions)
    write_text(output / EVALUATION, json.dumps(content, indent=1) + "\n")
    LOG.log(SUMMARY, f"{number_of(len(evaluation.scored_by), 'night')} scored.")
    return output


def _is_kept(output: Path, asked: object) -> bool:
    """Tell whether a folder holds this evaluation already; refuse one that holds something else."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    try:
        if json.loads((output / EVALUATION).read_text(encoding="utf-8"))["asked"] == asked:
            return True
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # anything may stand there
        pass
    raise UserError(f"{output}: holds something else than this evaluation. Pass another --output.")


if __name__ == "__main__":
    sys.exit(main())
