"""The readers of files that strangers may have made: one function each, and small sound files to begin with."""

import json
from pathlib import Path

import edf_writer as edf
import numpy as np

from recordings.edf import read_annotations, read_channel
from recordings.edf_header import read_header
from utils.errors import UserError
from utils.recording import Recording, open_signal, read_outline, write_recording

ROOT = Path(__file__).resolve().parents[2]
N_SLEEP_EPOCHS = 6
START_TIME = "1989-04-24T16:13:00"


def read_edf(path):
    header = read_header(path)
    for signal in header.signals[:1]:
        read_channel(header, signal.label, keep_gaps=True)


def read_edf_annotations(path):
    read_annotations(path)


def read_stages(path):
    from recordings.hypnograms import read_hypnogram

    read_hypnogram(path, N_SLEEP_EPOCHS, START_TIME)


def read_npz(path):
    open_signal(read_outline(path))


def read_config(path):
    from trainer.configuration import read_config

    read_config(path, [])


def read_checkpoint(path):
    from utils.checkpoint import load_checkpoint

    load_checkpoint(path)


def read_network(path):
    from scoring.networks import load_networks

    try:
        load_networks([path])
    except UserError as error:
        if "Missing key" not in str(error):  # of the seeds' few weights
            raise


def edf_seeds(folder):
    edf.write_psg(folder / "0.edf", seconds=2, fs=4, record_s=1)
    edf.write_psg(folder / "1.edf", labels=("EEG",), seconds=2, fs=2, record_s=2, dimension="mV")
    path = edf.write_psg(folder / "2.edf", labels=("EEG",), seconds=2, fs=2, record_s=1, annotations=[(0, 1, "a")])
    edf.edit(path, edf.RESERVED_FIELD, "EDF+D")


def bdf_seeds(folder):
    path = edf.write_psg(folder / "0.bdf", labels=("EEG",), seconds=2, fs=3, record_s=2)
    edf.edit(path, 0, "\xffBIOSEMI")
    path.write_bytes(path.read_bytes() + bytes(8))  # three bytes a sample


def annotation_seeds(folder):
    edf.write_hypnogram(folder / "0.edf", (("Sleep stage W", 1), ("Sleep stage 4", 2)))
    edf.write_annotations(folder / "1.edf", [(0, 30, "Sleep stage ?")])


def profusion_seeds(folder):
    edf.write_profusion(folder / "0.xml", [0, 1, 2, 3, 4, 5])
    stages = "".join(f"<SleepStage>{stage}</SleepStage>" for stage in range(6))
    study = f"<EpochLength>30</EpochLength><SleepStages>{stages}</SleepStages>"
    (folder / "1.xml").write_text(f"<CMPStudyConfig>{study}</CMPStudyConfig>")


def nsrr_seeds(folder):
    event = (
        "<ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Stage 2 sleep|2</EventConcept>"
        "<Start>{}</Start><Duration>30.0</Duration></ScoredEvent>"
    )
    events = "".join(event.format(30 * number) for number in range(3))
    (folder / "0.xml").write_text(f"<PSGAnnotation><ScoredEvents>{events}</ScoredEvents></PSGAnnotation>")


def csv_seeds(folder):
    for number, text in enumerate(
        (
            "Epoch,Stage\n0,W\n1,N1\n2,N2\n3,N3\n4,R\n5,R\n",
            "W\n1\n2\n3\nR\nR\n",
            "0,30,W\n30,150,N2\n",
            "Wake 30\nN1 180\n",
            "time_base 30\nsampling_period 1\nepoch_list\n0\n1\n2\n3\n5\n5\n",
            "Onset;Annotation\n16:13:00;W\n16:13:30;N1\n",
            "onset,duration,stage\n1989-04-24T16:13:00,180,W\n",
        )
    ):
        (folder / f"{number}.csv").write_text(text)


def tsv_seeds(folder):
    (folder / "0.tsv").write_text("onset\tduration\ttrial_type\n0\t30\tsleep_wake\n30\t60\tN2\n")
    (folder / "1.tsv").write_text("Wake\t30\nN1\t180\n")
    (folder / "2.tsv").write_bytes("init\tstage\n16:13:00\tW\n16:13:30\tN1\n".encode("utf-16"))


def npz_seeds(folder):
    stages = np.arange(2)
    night = Recording(np.ones((2, 3), np.float32), stages, 0.1, "EEG", stages)
    write_recording(folder / "0.npz", night)
    np.savez_compressed(folder / "1.npz", x=np.zeros((1, 2, 1)), y=[0.0], fs=[100])


def config_seeds(folder):
    (folder / "0.json").write_text((ROOT / "config.json").read_text())
    (folder / "1.json").write_text(json.dumps({"extends": str(ROOT / "config.json"), "loss": {"type": "FocalLoss"}}))


def checkpoint_seeds(folder):
    import torch

    from utils.checkpoint import save_checkpoint

    about = {"fs": 100.0, "channel": "EEG", "units": "uV", "stage_names": ["W", "N1", "N2", "N3", "REM"], "fold": 0}
    about |= {"context": [0, 0], "config": {"arch": {"type": "AttnSleep", "args": {"fs": 100, "d_ff": 8}}}}
    state = {"train_epoch": 1, "model": {"weight": torch.ones(2)}, "about": about, "history": [{"train_epoch": 1}]}
    save_checkpoint(folder / "0.pth", state)
    torch.save({"state_dict": {"mrcnn.features2.5.weight": torch.ones(1, 1, 7)}}, folder / "1.pth")


READERS = {
    "edf": (read_edf, edf_seeds, ".edf"),
    "bdf": (read_edf, bdf_seeds, ".bdf"),
    "annotations": (read_edf_annotations, annotation_seeds, ".edf"),
    "profusion": (read_stages, profusion_seeds, ".xml"),
    "nsrr": (read_stages, nsrr_seeds, ".xml"),
    "csv": (read_stages, csv_seeds, ".csv"),
    "tsv": (read_stages, tsv_seeds, ".tsv"),
    "npz": (read_npz, npz_seeds, ".npz"),
    "config": (read_config, config_seeds, ".json"),
    "checkpoint": (read_checkpoint, checkpoint_seeds, ".pth"),
    "network": (read_network, checkpoint_seeds, ".pth"),
}
"""Function that reads a file, function that writes sound ones, and suffix, by the name of what is read."""
