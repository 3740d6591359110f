"""Report on an experiment's folds, or compare several experiments.

python -m report saved/Exp1            write the report of the folds that are finished
python -m report saved/A saved/B       compare two experiments, subject by subject
python -m report saved/*               lay experiments side by side
"""

import argparse
import sys
from pathlib import Path

from utils.environment import require_packages

require_packages()

from report.comparison import comparison, experiments_table, read_experiments
from report.report import write_report
from report.results import read_results
from utils.errors import UserError
from utils.logs import log_to_console, never_fail_to_print


def main() -> int:
    """Report on one experiment or compare several; return the exit code."""
    never_fail_to_print()
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m report", description=__doc__, formatter_class=raw)
    folders = "folder of an experiment, such as saved/Exp1; with several, they are compared and nothing is written"
    parser.add_argument("experiment", type=Path, nargs="+", help=folders)
    paths = parser.parse_args().experiment
    log_to_console(0)
    try:
        if len(paths) == 1:
            write_report(read_results(paths[0]))
        else:
            experiments = read_experiments(paths)
            print(experiments_table(experiments))
            if len(experiments) == 2:
                print("\n" + comparison(*experiments))
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
