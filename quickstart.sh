#!/usr/bin/env bash
# From a fresh clone to a classification report, on simulated recordings. Run again, it reuses what is there.
set -euo pipefail
cd "$(dirname "$0")"

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "This needs Python 3.11 or newer." >&2; exit 1; }
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet -r requirements.txt

.venv/bin/python prepare_datasets/simulate_recordings.py --output_dir demo/edf --num_subjects 6 --hours 2 --seed 1
.venv/bin/python prepare_datasets/prepare_physionet.py --data_dir demo/edf --output_dir demo/npz --select_ch EEG Fpz-Cz
.venv/bin/python train_Kfold_CV.py --fold_id all --np_data_dir demo/npz -c configs/demo.json --device 0

echo
echo "Log:    saved/demo/fold_2/info.log"
echo "Arrays: saved/demo/fold_*/predictions.npz (predictions), demo/npz/*.npz (recordings)"
echo "The recordings are simulated: these figures say nothing about sleep."
