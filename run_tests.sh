#!/usr/bin/env bash
# Lint, format, types and all tests, in as many processes as there are cores, at most four. Arguments go to pytest, which
# is then one process. --faults runs the slow tests of faults and growth instead, and --slurm those on a Slurm that they
# start on this machine, and install as root if it is missing.
set -euo pipefail
cd "$(dirname "$0")"

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "This needs Python 3.11 or newer." >&2; exit 1; }
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet -r requirements-dev.txt

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy .
[ "${1:-}" != --faults ] || set -- -m slow tests/faults tests/benchmarks "${@:2}"
[ "${1:-}" != --slurm ] || set -- -m slurm tests/test_slurm_train.py "${@:2}"
[ $# -gt 0 ] || set -- --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# The networks of the tests are too small for more than one thread.
OMP_NUM_THREADS=1 .venv/bin/python -m pytest "$@"
