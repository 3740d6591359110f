"""Compare our sleep statistics with those of YASA and Luna on 300 random nights, and write the golden figures of some.

In an environment of its own: pip install yasa==0.8.1 lunapi==1.7.0, then from the root of the project
python -m tests.utils.compare_statistics tests/utils/golden_statistics.json
"""

import json
import sys
import tempfile
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import numpy as np

from utils.sleep_statistics import sleep_statistics
from utils.stages import STAGE_NAMES

STAGES = STAGE_NAMES[1:]
OF_YASA = {
    "TIB": "time_in_bed_min",
    "SPT": "sleep_period_time_min",
    "WASO": "wake_within_sleep_min",
    "TST": "total_sleep_time_min",
    "SE": "sleep_efficiency_percent",
    "SME": "sleep_maintenance_efficiency_percent",
    "SFI": "sleep_fragmentation_per_h",
    "SOL": "sleep_latency_min",
    "SOL_5min": "five_minute_sleep_latency_min",
    "Lat_REM": "rem_latency_from_lights_off_min",
    "WAKE": "minutes_W",
    "UNS": "minutes_unscored",
    **{stage: f"minutes_{stage}" for stage in STAGES},
    **{f"%{stage}": f"percent_{stage}" for stage in STAGES},
}
"""Our names of YASA's figures; none of them is left out."""

OF_LUNA = {
    "TIB": "time_in_bed_min",
    "SPT": "sleep_period_time_min",
    "WASO": "wake_within_sleep_min",
    "TST": "total_sleep_time_min",
    "SE": "sleep_efficiency_percent",
    "SME": "sleep_maintenance_efficiency_percent",
    "SFI": "sleep_fragmentation_per_h",
    "SOL": "sleep_latency_min",
    "SOL_PER": "persistent_sleep_latency_min",
    "REM_LAT": "rem_latency_min",
    **{f"MINS_{stage}": f"minutes_{stage}" for stage in ("W", *STAGES)},
    **{f"PCT_{stage}": f"percent_{stage}" for stage in STAGES},
}
"""Our names of the figures of Luna's HYPNO that are defined as ours are."""

_NEXT = [  # probability of each stage after W, N1, N2, N3, REM
    [0.93, 0.06, 0.005, 0, 0.005],
    [0.1, 0.6, 0.25, 0, 0.05],
    [0.02, 0.03, 0.88, 0.05, 0.02],
    [0.01, 0.01, 0.08, 0.9, 0],
    [0.02, 0.03, 0.02, 0, 0.93],
]


def random_night(seed, n=None):
    """Stages of a Markov chain, every second time with unscored parts (-1), at times short, without sleep or REM."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(1, 600) if seed % 10 == 0 else rng.integers(600, 1200))
    stages = np.zeros(n, int)
    for i in range(1, n):
        stages[i] = rng.choice(5, p=_NEXT[stages[i - 1]])
    if seed % 2:
        for begin in rng.integers(0, n, rng.integers(1, 8)):
            stages[begin : begin + rng.integers(1, 60)] = -1
    stages[(stages > 0) & (seed % 37 == 0)] = 0
    stages[(stages == 4) & (seed % 23 == 0)] = 2
    return stages


def our_figures(stages):
    """Sleep statistics of a night that begins with lights off and ends with lights on, -1 where it is not scored."""
    scored = np.flatnonzero(stages >= 0)
    return sleep_statistics(scored, stages[scored], (0, len(stages)))


def differences(theirs, ours, names):
    """List the figures that are not equal to the fourth digit, to which YASA and Luna round."""
    ours = {name: ours[names[name]] for name in theirs}
    rounded = {name: None if figure is None else round(figure, 4) for name, figure in ours.items()}
    return [name for name, figure in theirs.items() if rounded[name] != figure]


def figures_of_yasa(stages):
    """YASA's figures, None where it has NaN."""
    import yasa

    names = np.array([*STAGE_NAMES, "UNS"])[stages]
    figures = yasa.Hypnogram(names, freq="30s").sleep_statistics()
    return {name: None if np.isnan(figure) else round(float(figure), 4) for name, figure in figures.items()}


def figures_of_luna(stages):
    """Figures of Luna's HYPNO, in percent and per hour as ours are; None where it has none."""
    import lunapi

    project = lunapi.proj()
    project.silence(True)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            f"{('W', 'N1', 'N2', 'N3', 'R', '?')[s]}\t.\t.\t{30 * k}\t{30 * k + 30}\t." for k, s in enumerate(stages)
        ]
        path = Path(folder, "night.annot")
        path.write_text("\n".join(rows) + "\n")
        night = project.empty_inst("night", len(stages) * 30, 1, startdate="01.01.85", starttime="22.00.00")
        night.attach_annot(str(path))
        tables = night.proc("EPOCH dur=30 & HYPNO")
    figures = dict(tables["HYPNO: BL"].iloc[0])
    by_stage = tables["HYPNO: SS"].set_index("SS").rename({"R": "REM"})
    figures |= {f"MINS_{stage}": by_stage.loc[stage, "MINS"] for stage in STAGE_NAMES}
    figures |= {f"PCT_{stage}": 100 * by_stage.loc[stage, "PCT"] for stage in STAGES}
    figures["SFI"] *= 60  # per minute
    return {name: round(float(figures[name]), 4) if name in figures else None for name in OF_LUNA}


def run_lengths(stages):
    """Write stages in short: `24W 3N1 2?`."""
    names = (*STAGE_NAMES, "?")
    return " ".join(f"{len(list(run))}{names[stage]}" for stage, run in groupby(stages.tolist()))


def main():
    """Compare, tell, and write the golden figures."""
    for seed in range(300):
        stages = random_night(seed)
        if wrong := differences(figures_of_yasa(stages), our_figures(stages), OF_YASA):
            sys.exit(f"night {seed}: not as YASA: {', '.join(wrong)}")
    print("300 nights: all figures of YASA are equal")
    golden = {"versions": {name: version(name) for name in ("yasa", "lunapi")}, "yasa": [], "luna": []}
    for seed in (*range(11), 23):
        stages = random_night(seed, 250)
        golden["yasa"].append([run_lengths(stages), figures_of_yasa(stages)])
    for seed in (12, 13):  # without and with unscored parts
        stages = random_night(seed, 900)
        figures = figures_of_luna(stages)
        print(f"night {seed}: not as Luna: {', '.join(differences(figures, our_figures(stages), OF_LUNA)) or 'none'}")
        golden["luna"].append([run_lengths(stages), figures])
    text = json.dumps({"written by": "python -m tests.utils.compare_statistics"} | golden, separators=(",", ":"))
    Path(sys.argv[1]).write_text(text.replace("],[", "],\n[") + "\n")


if __name__ == "__main__":
    main()
