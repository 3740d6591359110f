#!/usr/bin/env bash
# Train one fold a task of a Slurm array. Submit it from this folder; options of sbatch stand before it:
#   sbatch --array=0-19 slurm_train.sh NPZ_DIR [further arguments of train_Kfold_CV.py]
# A task at its time limit requeues itself. Begun again, a task goes on after its last finished training epoch.
#SBATCH --job-name=attnsleep
#SBATCH --output=slurm-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --cpus-per-task=4
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
set -euo pipefail
if [ $# -lt 1 ] || [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || [ ! -x batch_train.sh ]; then
    echo "usage, in the folder of train_Kfold_CV.py: sbatch --array=0-19 slurm_train.sh NPZ_DIR [arguments]" >&2
    exit 2
fi
arguments=()
for argument in "$@"; do # a task that begins again does not start afresh
    [ "$argument" = --overwrite ] && [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || arguments+=("$argument")
done
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

# Slurm numbers a job's GPUs from 0. In the background, so that this shell hears signals while it trains.
./batch_train.sh 0 "${arguments[@]}" --fold_id "$SLURM_ARRAY_TASK_ID" &
training=$!
at_limit=no
trap 'kill -TERM $training || true' TERM
trap 'at_limit=yes; kill -TERM $training || true' USR1
while kill -0 $training 2>/dev/null; do wait $training || true; done
status=0
wait $training || status=$?
if [ $at_limit = yes ] && [ $status = 143 ]; then
    echo "The time limit is near: requeued." >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
