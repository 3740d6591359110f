"""Read the hypnograms that we write with the programs for which they are written.

In an environment of its own: pip install yasa==0.8.1 lunapi==1.7.0 sleep-utils==1.27 edfio and, in a folder of its own,
npm install bids-validator@1.15.0, then from the root of the project
python -m tests.scoring.read_by_others FOLDER/node_modules/.bin/bids-validator
"""

import datetime as dt
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from scoring.formats import write_edf, write_format

NAMES = np.array(["W", "N1", "N2", "N3", "REM", "?"])
START = dt.datetime(2020, 1, 2, 22, 40)


def validate_bids(validator, folder, stages):
    """Let the BIDS validator look at a data set of one recording of noise and its events; return what it says."""
    from edfio import Edf, EdfSignal, Recording

    eeg = folder / "sub-01/eeg"
    eeg.mkdir(parents=True)
    about = {"Name": "one night", "BIDSVersion": "1.9.0", "License": "CC0", "Authors": ["A", "B"]}
    about |= {key: "none" for key in ("Acknowledgements", "HowToAcknowledge", "DatasetDOI")}
    about |= {key: ["none"] for key in ("Funding", "EthicsApprovals", "ReferencesAndLinks")}
    (folder / "dataset_description.json").write_text(json.dumps(about | {"DatasetType": "raw"}))
    (folder / "README").write_text("A night of noise for the BIDS validator, with the events of a scored night.\n" * 3)
    (folder / "participants.tsv").write_text("participant_id\nsub-01\n")
    noise = np.random.default_rng(0).normal(0, 20, len(stages) * 3000)
    signal = EdfSignal(noise, sampling_frequency=100, label="EEG Fpz-Cz", physical_dimension="uV")
    recording = Recording(startdate=START.date())
    Edf([signal], recording=recording, starttime=START.time()).write(eeg / "sub-01_task-sleep_eeg.edf")
    settings = {"TaskName": "sleep", "SamplingFrequency": 100, "PowerLineFrequency": 50, "EEGReference": "Cz"}
    settings |= {"SoftwareFilters": "n/a", "RecordingDuration": len(noise) / 100, "RecordingType": "continuous"}
    (eeg / "sub-01_task-sleep_eeg.json").write_text(json.dumps(settings))
    (eeg / "sub-01_task-sleep_channels.tsv").write_text("name\ttype\tunits\nEEG Fpz-Cz\tEEG\tuV\n")
    write_format(eeg / "sub-01_task-sleep_events.tsv", "bids", stages)
    done = subprocess.run([validator, "--json", folder], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)["issues"]


def main():
    """Write a night in every format, and compare what each program reads with it."""
    import lunapi
    import mne
    import yasa
    from sleep_utils.tools import read_hypno

    stages = np.random.default_rng(0).integers(-1, 5, 120)
    stages[0] = -1
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_edf(folder / "night.edf", stages, START)
        annotations = mne.read_annotations(folder / "night.edf")
        letters = np.repeat(annotations.description, (annotations.duration / 30).astype(int))
        expected = np.char.add("Sleep stage ", np.where(NAMES == "REM", "R", NAMES)[stages])
        np.testing.assert_array_equal(letters, expected)
        print(f"MNE {version('mne')}: the EDF+ annotations")

        write_format(folder / "night.txt", "lines", stages)
        hypnogram = yasa.Hypnogram.from_integers(np.loadtxt(folder / "night.txt", int))
        names = np.where(NAMES == "W", "WAKE", np.where(NAMES == "?", "ART", NAMES))
        np.testing.assert_array_equal(hypnogram.hypno.to_numpy().astype(str), names[stages])
        print(f"YASA {version('yasa')}: one stage a line")
        theirs = read_hypno(str(folder / "night.txt"), verbose=False)
        np.testing.assert_array_equal(theirs, np.where(stages < 0, 9, stages))
        print(f"sleep-utils {version('sleep-utils')}: one stage a line")

        write_format(folder / "night.annot", "luna", stages)
        project = lunapi.proj()
        project.silence(True)
        night = project.empty_inst("night", len(stages) * 30, 1, startdate="02.01.20", starttime="22.40.00")
        night.attach_annot(str(folder / "night.annot"))
        read = np.array([{"R": "REM", "L": "?"}.get(name, name) for name in night.stages()["STAGE"]])
        np.testing.assert_array_equal(read, NAMES[stages])  # L: Luna takes `?` at both ends for the time with lights on
        print(f"Luna {version('lunapi')}: annot")

        issues = validate_bids(sys.argv[1], folder / "bids", stages)
        said = {kind: [issue["key"] for issue in issues[kind]] for kind in ("errors", "warnings")}
        print(f"BIDS validator {subprocess.check_output([sys.argv[1], '--version'], text=True).strip()}: {said}")
        if said["errors"]:
            sys.exit(1)


if __name__ == "__main__":
    main()
