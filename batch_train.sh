#!/usr/bin/env bash
# Train every fold, one at a time on each GPU, then report. Run again, it goes on where it stopped.
#   ./batch_train.sh GPU_ID[,GPU_ID...] NPZ_DIR [further arguments of train_Kfold_CV.py]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 GPU_ID NPZ_DIR [further arguments of train_Kfold_CV.py]" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# The .venv beside this script, unless another environment is active; conda's base, which many shells begin in, is none.
if [ -z "${VIRTUAL_ENV:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ] && [ -x "$here/.venv/bin/python" ]; then
    PATH="$here/.venv/bin:$PATH"
fi
exec python "$here/train_Kfold_CV.py" --fold_id all --device "$1" --np_data_dir "$2" "${@:3}"
