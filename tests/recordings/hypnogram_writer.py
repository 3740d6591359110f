"""Write the hypnogram of one night in every form that is read, as the programs themselves write it."""

import datetime as dt
import json
from itertools import groupby

import mne
import numpy as np
from edf_writer import START, write_hypnogram, write_profusion

# Of one sleep epoch, as Sleep-EDF's hypnograms call it after "Sleep stage ": M stands for "Movement time"
AASM = {"W": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "R", "?": "?", "M": "?"}
YASA = {"W": "WAKE", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "REM", "?": "UNS", "M": "ART"}
YASA_CODES = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4, "?": -2, "M": -1}
RK_CODES = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 4, "R": 5, "?": 9, "M": 6}
NSRR = {
    "W": "Wake|0", "1": "Stage 1 sleep|1", "2": "Stage 2 sleep|2", "3": "Stage 3 sleep|3", "4": "Stage 4 sleep|4",
    "R": "REM sleep|5", "?": "Unscored|9", "M": "Movement|6",
}  # fmt: skip
USLEEP = {"W": "Wake", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "REM", "?": "UNKNOWN", "M": "UNKNOWN"}
STAGE = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4, "?": -1, "M": -1}
"""What all forms must be read to."""


def runs(letters):
    """Onset in s, duration in s and letter of each run."""
    onset = 0
    for letter, run in groupby(letters):
        duration = 30 * len(list(run))
        yield onset, duration, letter
        onset += duration


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def edf_annotations(folder, stem, letters, start):
    text = {"M": "Movement time"}
    named = [(text.get(letter, f"Sleep stage {letter}"), duration // 30) for _, duration, letter in runs(letters)]
    return write_hypnogram(folder / f"{stem}-Hypnogram.edf", named, start)


def bids(folder, stem, letters, start):
    rows = [f"{onset:.1f}\t{duration:.1f}\tSleep stage {AASM[x]}\tn/a" for onset, duration, x in runs(letters)]
    return write_lines(folder / f"{stem}_events.tsv", ["onset\tduration\ttrial_type\tresponse_time", *rows])


def edfbrowser_seconds(folder, stem, letters, start):
    rows = [f"+{onset}.0000000,{duration}.0000000,Sleep stage {x}" for onset, duration, x in runs(letters) if x != "M"]
    return write_lines(folder / f"{stem}_annotations.csv", ["Onset,Duration,Annotation", *rows])


def edfbrowser_clock(folder, stem, letters, start):
    rows = [
        f"{start + dt.timedelta(seconds=onset):%H:%M:%S.%f}0;{duration};Sleep stage {AASM[x]}"
        for onset, duration, x in runs(letters)
    ]
    return write_lines(folder / f"{stem}_annotations.txt", ["Onset;Duration;Annotation", *rows])


def edfbrowser_dates(folder, stem, letters, start):
    """Without durations, one sleep epoch after the other."""
    rows = [
        f"{(start + dt.timedelta(seconds=30 * position)).isoformat()}|Sleep stage {AASM[x]}"
        for position, x in enumerate(letters)
    ]
    return write_lines(folder / f"{stem}_annotations.txt", ["Onset|Annotation", *rows])


def usleep_tsv(folder, stem, letters, start):
    rows = [f"{onset}\t{duration}\t{USLEEP[x]}" for onset, duration, x in runs(letters)]
    return write_lines(folder / f"{stem}.tsv", ["init_sec\tduration_sec\tstage", *rows])


def usleep_ids(folder, stem, letters, start):
    return write_lines(
        folder / f"{stem}.ids", [f"{onset},{duration},{USLEEP[x]}" for onset, duration, x in runs(letters)]
    )


def own_csv(folder, stem, letters, start):
    rows = [f"{30.0 * i},30.0,{AASM[x]},0.1,0.2,0.3,0.2,0.2,0.3" for i, x in enumerate(letters)]
    return write_lines(folder / f"{stem}.csv", ["onset,duration,stage,p_W,p_N1,p_N2,p_N3,p_REM,confidence", *rows])


def yasa_csv(folder, stem, letters, start):
    rows = [f"{position},{YASA[x]}" for position, x in enumerate(letters)]
    return write_lines(folder / f"{stem}_hypno.csv", ["Epoch,Stage", *rows])


def yasa_names(folder, stem, letters, start):
    return write_lines(folder / f"{stem}.txt", [YASA[x] for x in letters])


def yasa_codes(folder, stem, letters, start):
    np.savetxt(path := folder / f"{stem}_hypno.txt", [YASA_CODES[x] for x in letters])
    return path


def rk_codes(folder, stem, letters, start):
    return write_lines(folder / f"{stem}_stages.txt", [RK_CODES[x] for x in letters])


def visbrain_ends(folder, stem, letters, start):
    """Each run ends at its last sample, of 100 in a second."""
    names = YASA | {"W": "Wake", "M": "Art", "?": "Art"}
    rows = [f"{names[x]}\t{onset + duration - 0.01:.2f}" for onset, duration, x in runs(letters)]
    return write_lines(folder / f"{stem}_hypno.txt", [f"*Duration_sec\t{30 * len(letters)}", "*Datafile\tx.edf", *rows])


def visbrain_seconds(folder, stem, letters, start):
    """One code for each second, and codes of its own in the file that describes them."""
    codes = {"W": 5, "1": 3, "2": 2, "3": 1, "4": 1, "R": 4, "?": -1, "M": -1}
    description = ["time 1", "W 5", "N1 3", "N2 2", "N3 1", "REM 4", "Art -1"]
    write_lines(folder / f"{stem}_hypno_description.txt", description)
    return write_lines(folder / f"{stem}_hypno.txt", np.repeat([codes[x] for x in letters], 30))


def elan(folder, stem, letters, start):
    head = ["time_base 1.000000", "sampling_period 0.01", f"epoch_nb {30 * len(letters)}", "epoch_list"]
    codes = RK_CODES | {"?": -1, "M": -2}
    return write_lines(folder / f"{stem}.hyp", [*head, *np.repeat([codes[x] for x in letters], 30)])


def profusion(folder, stem, letters, start):
    return write_profusion(folder / f"{stem}-profusion.xml", [RK_CODES[x] for x in letters])


def nsrr(folder, stem, letters, start):
    def event(kind, concept, onset, duration):
        return (
            f"<ScoredEvent><EventType>{kind}</EventType><EventConcept>{concept}</EventConcept>"
            f"<Start>{onset:.1f}</Start><Duration>{duration:.1f}</Duration></ScoredEvent>"
        )

    events = [event("Stages|Stages", NSRR[x], onset, duration) for onset, duration, x in runs(letters)]
    events.insert(0, event("", "Recording Start Time", 0, 30 * len(letters)))
    events.append(event("Respiratory|Respiratory", "Hypopnea|Hypopnea", 55.5, 14.2))
    return write_lines(
        folder / f"{stem}-nsrr.xml",
        ['<?xml version="1.0" encoding="UTF-8" standalone="no"?>', "<PSGAnnotation>", "<EpochLength>30</EpochLength>"]
        + ["<ScoredEvents>", *events, "</ScoredEvents>", "</PSGAnnotation>"],
    )


def yasa_dates(folder, stem, letters, start):
    """Of a Hypnogram with a start: the name of the second column is that of the scorer."""
    rows = [f"{start + dt.timedelta(seconds=30 * i)},{YASA[x]}" for i, x in enumerate(letters)]
    return write_lines(folder / f"{stem}.csv", ["Time,YASA", *rows])


def yasa_json(folder, stem, letters, start):
    night = {"values": [YASA[x] for x in letters], "n_stages": 5, "freq": "30s", "start": None, "scorer": "YASA"}
    (folder / f"{stem}_hypno.json").write_text(json.dumps(night | {"proba": None}, indent=2))
    return folder / f"{stem}_hypno.json"


def gssc_csv(folder, stem, letters, start):
    rows = [f"{i},{30.0 * i},{YASA_CODES[x]}" for i, x in enumerate(letters)]
    return write_lines(folder / f"{stem}.csv", [f"Hypnogram of {stem}", "Epoch,Time,Stage", *rows])


def mne_annotations(letters, start=None):
    onsets, durations, names = zip(*runs(letters), strict=True)
    start = start and start.replace(tzinfo=dt.UTC)
    return mne.Annotations(onsets, durations, [f"Sleep stage {AASM[x]}" for x in names], orig_time=start)


def mne_csv(folder, stem, letters, start):
    """Without a start, as of data without one: MNE counts from 1970."""
    mne_annotations(letters).save(path := folder / f"{stem}-annot.csv", verbose="ERROR")
    return path


def mne_txt(folder, stem, letters, start):
    """Counted from a minute before the recording."""
    before = mne_annotations(letters, start - dt.timedelta(seconds=60))
    before.onset += 60
    before.save(path := folder / f"{stem}-annot.txt", verbose="ERROR")
    return path


def mne_fif(folder, stem, letters, start):
    mne_annotations(letters, start).save(path := folder / f"{stem}-annot.fif", verbose="ERROR")
    return path


def luna_annot(folder, stem, letters, start):
    rows = [f"{AASM[x]}\t.\t.\t{onset:.3f}\t{onset + duration:.3f}\t." for onset, duration, x in runs(letters)]
    head = ["# N1", "# N2 | a description", "class\tinstance\tchannel\tstart\tstop\tmeta"]
    return write_lines(folder / f"{stem}.annot", [*head, *rows])


def luna_changes(folder, stem, letters, start):
    """Only where the stage changes, in clock times; each lasts until the next."""
    rows = [f"{AASM[x]} . {start + dt.timedelta(seconds=onset):%H:%M:%S} ..." for onset, _, x in runs(letters)]
    rows[-1] = rows[-1].replace("...", f"+{list(runs(letters))[-1][1]}")
    return write_lines(folder / f"{stem}.annot", rows)


def luna_eannot(folder, stem, letters, start):
    return write_lines(folder / f"{stem}.eannot", [AASM[x] for x in letters])


def npy(folder, stem, letters, start):
    np.save(path := folder / f"{stem}_hypnogram.npy", [STAGE[x] for x in letters])
    return path


def remlogic(folder, stem, letters, start):
    rows = [
        f"{AASM[x]}\tSupine\t{start + dt.timedelta(seconds=30 * i):%H:%M:%S}\tSLEEP\t30" for i, x in enumerate(letters)
    ]
    head = [
        "RemLogic Event Export",
        "Patient:\tn1",
        f"Recording Date:\t{start:%d/%m/%Y}",
        "",
        "Events Included:",
        "SLEEP-S0",
        "",
    ]
    columns = "Sleep Stage\tPosition\tTime [hh:mm:ss]\tEvent\tDuration[s]"
    return write_lines(folder / f"{stem}.txt", [*head, columns, *rows])


FORMS = (
    edf_annotations, bids, edfbrowser_seconds, edfbrowser_clock, edfbrowser_dates, usleep_tsv, usleep_ids, own_csv,
    yasa_csv, yasa_names, yasa_codes, rk_codes, visbrain_ends, visbrain_seconds, elan, profusion, nsrr,
    yasa_dates, yasa_json, gssc_csv, mne_csv, mne_txt, mne_fif, luna_annot, luna_changes, luna_eannot, npy, remlogic,
)  # fmt: skip

LETTERS = [*"WWWW111W222M22333444432222?2222RRRRR1RRRMM22WWW??"]
"""Of a short night."""


def write_form(form, folder, stem, letters=LETTERS, start=START):
    return form(folder, stem, letters, start)
