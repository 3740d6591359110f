"""What the files of an experiment say, to compare two runs to the bit."""

import json
import re

import numpy as np
import openpyxl
import torch

_SECONDS_OF_A_FOLD = r'<td class="number" rowspan="\d+">[\d,]+</td><th scope="row">'
"""A cell of the page's table of folds."""

TIMES = {"seconds", "sleep_epochs_per_s", "timing"}


def plain(value):
    """Turn what files hold into plain values, without times."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def meaning(path):
    """Everything in a result file that a run decides, and not its clock."""
    match path.suffix:
        case ".pth":
            return plain(torch.load(path, weights_only=True))
        case ".npz":
            with np.load(path) as npz:
                return plain(dict(npz))
        case ".json":
            return plain(json.loads(path.read_text()))
        case ".csv":
            rows = [line.split(",") for line in path.read_text().splitlines()]
            keep = [column for column, name in enumerate(rows[0]) if name not in TIMES]
            return [[row[column] for column in keep] for row in rows]
        case ".xlsx":
            book = openpyxl.load_workbook(path)
            return {sheet.title: list(sheet.values) for sheet in book}
        case ".html":
            text = path.read_text(encoding="utf-8")
            return re.sub(r"(\d+ (h|min|s)\b ?)+|" + _SECONDS_OF_A_FOLD, "", text)
        case ".svg" | ".png" | ".pdf" | ".edf":
            return path.read_bytes()
    return None  # logs, which tell times


def meanings(folder):
    """Return the meaning of every file below a folder, by its path."""
    return {str(path.relative_to(folder)): meaning(path) for path in sorted(folder.rglob("*")) if path.is_file()}
