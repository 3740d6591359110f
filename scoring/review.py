"""The pages on which a scorer looks at scored nights and corrects them: one for each night, and one that lists them.

A page needs no other file and no internet. What it does is written in `review_page`: plain JavaScript on canvases.
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from recordings.clock_times import in_utc
from scoring.night import INDEX, REVIEW, Night
from scoring.picture import MAX_HZ, has_date, in_decibels, power_spectra
from scoring.summary import nights_of
from utils.drawing import BLUE, GREY, HYPNOGRAM_ORDER, INK, STAGE_COLOURS, VERMILION, colours_as_png, time_label
from utils.errors import UserError
from utils.files import write_text
from utils.plural import number_of
from utils.stages import SLEEP_EPOCH_S, STAGE_NAMES

_FOLDER = Path(__file__).parent / "review_page"
_SCRIPTS = ("night.js", "storage.js", "statistics.js", "signal.js", "files.js", "drawing.js", "main.js")
_LARGEST, _GAP = 32767, -32768  # of 16 bits; the second stands for NaN
_STEP_UV = 0.1  # of the packed signal, unless it is too large for 16 bits
_EDF_HEADER_BYTES = 512  # of a file with annotations alone
_INDEX_MARK = '<meta name="generator" content="AttnSleep review">'

_KEYS = {"W": "W", "N1": "1", "N2": "2", "N3": "3", "REM": "R", "?": "?"}
_STATISTICS = {
    "inBed": "Time in bed",
    "total": "Total sleep time",
    "efficiency": "Sleep efficiency, %",
    "sleepLatency": "Sleep onset latency",
    "remLatency": "REM latency from sleep onset",
    "wakeAfterOnset": "Wake after sleep onset",
}
_HELP = {
    ("W", "1", "2", "3", "R", "?"): "set the stage (? for none) and go on",
    ("←", "→"): "the sleep epoch before or after; ten with Shift",
    ("U",): "the least certain one that was not looked at",
    ("D",): "the next difference from the scorer",
    ("Ctrl Z", "Ctrl Y"): "undo, redo",
    ("↑", "↓"): "draw the signal larger or smaller",
    ("F",): "filter the signal",
    ("+", "−"): "show less or more of the night",
}


def write_review(files: Mapping[str, Path], night: Night, signal: np.ndarray, fs: float) -> None:
    """Write the page of a night whose CSV and EDF+ files are written already.

    Parameters
    ----------
    files : mapping of str to Path
        See `night.result_files`, with `.html`.
    night : Night
    signal : ndarray of shape (n,)
        In microvolts, NaN where nothing was recorded.
    fs : float
        Of the signal in Hz.
    """
    table = files[".csv"].read_text(encoding="utf-8")
    header = files["-Hypnogram.edf"].read_bytes()[:_EDF_HEADER_BYTES]
    n = len(night.scoring.stages)
    signal = signal[: n * round(SLEEP_EPOCH_S * fs)]
    samples, step_uv = packed(signal)
    data = {
        "name": night.name,
        "checksum": hashlib.sha256(table.encode()).hexdigest()[:16],
        "start": night.start.replace(tzinfo=None).isoformat() if night.start else None,
        "fs": fs,
        "stepUv": step_uv,
        "table": table,
        "edfHeader": base64.b64encode(header).decode(),
        "spectrogram": _spectrogram(signal, n, fs, night.empty),
        "maxHz": MAX_HZ,
        "scorer": None if night.hypnogram is None else night.hypnogram.tolist(),
        "scorerName": f"Majority of {len(night.scorers)} scorers" if night.scorers else "Scorer",
        "inBed": night.in_bed,
        "overlap": night.training_overlap,
        "names": STAGE_NAMES,
        "order": HYPNOGRAM_ORDER,
        "colours": [STAGE_COLOURS[stage] for stage in range(len(STAGE_NAMES))],
        "inks": {"ink": INK, "blue": BLUE, "vermilion": VERMILION, "grey": GREY},
    }
    script = "\n".join(_read(name) for name in _SCRIPTS)
    text = _template("review").render(
        night=data,
        n=n,
        lead=_lead(night),
        remarks=night.remarks,
        band="0.3 to 35 Hz" if 35 < 0.45 * fs else "from 0.3 Hz",  # as in signal.js
        time_label=time_label(night.start),
        in_bed_is="from lights off to lights on" if night.in_bed else "the scored span",
        stage_buttons=[(stage, name, _KEYS[name]) for stage, name in enumerate(STAGE_NAMES)] + [(-1, "?", "?")],
        keys=[(keys, what) for keys, what in _HELP.items() if keys != ("D",) or night.hypnogram is not None],
        statistics=_STATISTICS.items(),
        columns=["network", "corrected"] + (["scorer"] if night.hypnogram is not None else []),
        css=f"{_stage_rules()}{_read('review.css')}",
        script=f'"use strict";\n(() => {{\n{script}}})();\n',
        samples=samples,
    )
    write_text(files[REVIEW], text)


def require_own_index(directory: Path) -> None:
    """Refuse to replace an `index.html` that does not list scored nights.

    Raises
    ------
    UserError
        There is such a file.
    """
    path = directory / INDEX
    if not _may_write(path):
        raise UserError(f"{path}: there already, and no list of scored nights. Pass another --output_dir.")


def write_index(directory: Path) -> None:
    """Write `index.html`, which lists the nights of a folder that have a page; somebody else's file stays."""
    if not _may_write(directory / INDEX):
        return
    nights = [
        night | {"name": name}
        for name, night in nights_of(directory)
        if night.get("review") and (directory / f"{name}{REVIEW}").exists()
    ]
    text = _template("index").render(nights=nights, css=_read("review.css"))
    write_text(directory / INDEX, text)


def _may_write(path: Path) -> bool:
    """Tell whether a list may be written here: there is nothing yet, or an earlier list of `write_index`."""
    return not path.exists() or (path.is_file() and _INDEX_MARK in path.read_text(encoding="utf-8", errors="replace"))


def packed(signal: np.ndarray) -> tuple[str, float]:
    """Pack a signal into text.

    Parameters
    ----------
    signal : ndarray of shape (n,)
        In microvolts, NaN where nothing was recorded.

    Returns
    -------
    text : str
        In base64, deflated: the low bytes of the differences between samples, modulo 2**16, and then their high bytes.
        Deflate makes them smallest in this order. The samples are whole steps; -32768 stands for NaN.
    step_uv : float
        A step in microvolts.
    """
    largest = float(np.nanmax(np.abs(signal), initial=0.0))
    step_uv = max(_STEP_UV, largest / _LARGEST)
    values = np.rint(signal / step_uv)
    values = np.where(np.isfinite(values), values.clip(-_LARGEST, _LARGEST), _GAP).astype("<i2")
    planes = np.diff(values, prepend=values.dtype.type(0)).view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode(), step_uv


def _template(name: str) -> Template:
    """Load a template."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(csp_hash=_csp_hash, number_of=number_of, figure=_figure, start=_start)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template(f"{name}.html.jinja")


def _figure(value: float | None) -> str:
    """Write a figure with one decimal, or a dash where there is none."""
    return "–" if value is None else f"{value:.1f}"


def _start(text: str | None) -> str:
    """Write the start of a night, without a date that was removed."""
    if text is None:
        return "not known"
    start = datetime.fromisoformat(text)
    zone = " UTC" if in_utc(start) else ""
    return f"{start:%Y-%m-%d %H:%M}{zone}" if has_date(start) else f"{start:%H:%M}{zone}"


def _read(name: str) -> str:
    """Read a part of the page."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    """Name an inline script or style by its content, so that a page runs this one and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _stage_rules() -> str:
    """Write the colours of the stages as style."""
    return "".join(
        f".stages [data-stage='{stage}'] i {{ background: {colour}; }}\n" for stage, colour in STAGE_COLOURS.items()
    )


def _lead(night: Night) -> str:
    """Say what the recording is."""
    n = len(night.scoring.stages)
    parts = [night.channel, number_of(n, "sleep epoch") + f" of {SLEEP_EPOCH_S} s"]
    if night.start:
        date = f"{night.start.day} {night.start:%B %Y}, " if has_date(night.start) else ""
        parts.insert(1, f"{date}{night.start:%H:%M:%S}{' UTC' if in_utc(night.start) else ''}")
    return " · ".join(parts)


def _spectrogram(signal: np.ndarray, n: int, fs: float, empty: np.ndarray | None) -> str:
    """Draw power by frequency, one column for each of `n` sleep epochs, as the address of a picture."""
    sleep_epochs = signal.reshape(n, -1)
    _, power = power_spectra(sleep_epochs, fs)
    columns = power.mean(axis=-1)
    if empty is not None:
        columns[empty] = np.nan
    decibels, low, high = in_decibels(columns.T)
    return f"data:image/png;base64,{base64.b64encode(colours_as_png(decibels, low, high)).decode()}"
