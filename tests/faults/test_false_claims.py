"""Small files that would make a program take much memory or time, were they believed."""

import json
import time

import edf_writer
import numpy as np
import pytest
import torch
from checkpoints import network, write_checkpoint
from scripts import ROOT

from recordings.edf import read_annotations
from recordings.hypnograms import read_hypnogram
from recordings.reader import read_channel
from recordings.stage_names import read_stage_names
from scoring.networks import load_networks
from trainer.claims import check_checkpoint
from trainer.configuration import read_config
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.recording import read_outline

pytestmark = pytest.mark.usefixtures("memory", "in_time")


@pytest.fixture
def in_time():
    """Allow ten seconds of this process's time."""
    begin = time.process_time()
    yield
    assert time.process_time() - begin < 10


def with_gaps(path, second_s, n_records=2, **changes):
    """Write an EDF+D file of data records of a second, of which the second begins at `second_s`."""
    settings = {"labels": ("EEG",), "seconds": 2, "fs": 10_000, "record_s": 1} | changes
    edf_writer.write_psg(path, annotations=[(0, 1, "a")], **settings)
    edf_writer.edit(path, edf_writer.RESERVED_FIELD, "EDF+D")
    edf_writer.edit(path, edf_writer.N_RECORDS_FIELD, f"{n_records:<8}")
    content = bytearray(path.read_bytes())
    at, said = content.rindex(b"+1\x14\x14"), f"+{second_s}\x14\x14".encode()
    content[at : at + len(said)] = said
    path.write_bytes(content)
    return path


def stretch(path, n_records, n_signals, n_before):
    """Make an EDF file of a few data records one of many, of holes that take no room."""
    header_bytes = 256 * (1 + n_signals)
    record_bytes = (path.stat().st_size - header_bytes) // n_before
    edf_writer.edit(path, edf_writer.N_RECORDS_FIELD, f"{n_records:<8}")
    with path.open("r+b") as file:
        file.truncate(header_bytes + n_records * record_bytes)
    return path


def test_a_gap_that_would_fill_the_memory_is_refused(tmp_path):
    path = with_gaps(tmp_path / "night.edf", 604000)
    with pytest.raises(UserError, match=r"night.edf: gaps of 6.04e\+09 samples"):
        read_channel(path, "EEG")


def test_a_rate_that_would_fill_the_memory_when_it_is_resampled_is_refused(tmp_path):
    path = edf_writer.write_psg(tmp_path / "night.edf", labels=("EEG",), seconds=10_000, fs=1, record_s=1000)
    edf_writer.edit(path, edf_writer.DURATION_FIELD, "1e8     ")
    with pytest.raises(UserError, match="night.edf: 10000 samples at 1e-05 Hz cannot be resampled to 100 Hz"):
        read_channel(path, "EEG", None, 100)


def test_endless_annotations_are_refused(tmp_path):
    path = edf_writer.write_psg(
        tmp_path / "night.edf", labels=("EEG",), seconds=2, fs=2, record_s=1, annotations=[(0, 1, "a")]
    )
    stretch(path, 20_000_000, 3, 2)
    with pytest.raises(UserError, match=r"night.edf: 20000000 data records; at most 2000000 are read"):
        read_annotations(path)
    path = edf_writer.write_annotations(path, [(0, 30, "Sleep stage W" * 40)])
    stretch(path, 1_000_000, 1, 1)
    with pytest.raises(UserError, match=r"night.edf: \d+ bytes of annotations; at most 67108864 are read"):
        read_annotations(path)


def test_a_million_annotations_are_refused(tmp_path):
    path = edf_writer.write_annotations(tmp_path / "night.edf", [(0, 30, "Sleep stage W" * 40)])
    content = bytearray(path.read_bytes())
    n = 1_500_000
    content[512:] = b"+0\x14\x14\0" + b"+0\x14a\x14\0" * n + b"\0" * (n % 2)
    content[256 + 216 : 256 + 224] = f"{(len(content) - 512) // 2:<8}".encode()
    path.write_bytes(content if len(content) % 2 == 0 else content + b"\0")
    with pytest.raises(UserError, match="night.edf: .*annotations; at most|night.edf"):
        read_annotations(path)


@pytest.mark.parametrize("positions", [[0, 2_000_000], [0, 2**40], [5, 1], [0, 0], [-1, 0], [[0, 1]] * 2, [0.5, 1.5]])
def test_positions_that_no_night_has_are_refused(tmp_path, positions):
    path = tmp_path / "night.npz"
    np.savez(path, x=np.ones((2, 3000, 1), np.float32), y=[0, 1], fs=100, sleep_epoch=positions)
    with pytest.raises(UserError, match=r"night.npz: its positions \(sleep_epoch\) are not whole numbers"):
        read_outline(path)


@pytest.mark.parametrize("start_time", ["tonight", "9999-12-31T23:59:59", "0001-01-01"])
def test_a_start_that_is_no_time_of_a_recording_is_refused(tmp_path, start_time):
    path = tmp_path / "night.npz"
    np.savez(path, x=np.ones((2, 3000, 1), np.float32), y=[0, 1], fs=100, start_time=start_time)
    with pytest.raises(UserError, match=f"night.npz: start_time is '{start_time}'"):
        read_outline(path)


def test_a_table_of_one_endless_line_is_refused(tmp_path):
    path = tmp_path / "night.csv"
    path.write_text("onset,stage\n" + "0,W\n" * 60_000 + "," * 600_000 + "\n")
    with pytest.raises(UserError, match="night.csv: 60002 lines, one of which has 600001 cells"):
        read_hypnogram(path, 6)


@pytest.mark.parametrize("name", ["night.csv", "night.xml"])
def test_a_scoring_of_gigabytes_is_refused(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**32)
    with pytest.raises(UserError, match=f"{name}: more than 16777216 bytes"):
        read_hypnogram(tmp_path / name, 6)


def test_onsets_and_ends_beyond_all_numbers_are_refused(tmp_path):
    path = tmp_path / "night.csv"
    path.write_text(f"onset,stage,duration\n0,W,30\n{'9' * 400},W,30\n")
    with pytest.raises(UserError, match="night.csv: onsets such as"):
        read_hypnogram(path, 6)
    path = edf_writer.write_annotations(tmp_path / "night.edf", [(0, 30, "Sleep stage W"), (30, 30, "Sleep stage 1")])
    content = path.read_bytes().replace(b"\x1530\x14Sleep stage W", b"\x15" + b"9" * 400 + b"\x14Sleep stage W")
    content = content[:512] + content[512:] + b"\0" * (len(content) % 2)
    content = content[: 256 + 216] + f"{(len(content) - 512) // 2:<8}".encode() + content[256 + 224 :]
    path.write_bytes(content)
    with pytest.raises(UserError, match="night.edf: 'Sleep stage 1' at 30 s overlaps"):
        read_hypnogram(path, 6)


def test_json_of_many_keys_is_read_in_time_and_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{" + ",".join(f'"seeds{n}": 1' for n in range(100_000)) + ', "seeds7": 2}')
    with pytest.raises(UserError, match="config.json: no valid JSON .the key 'seeds7' stands twice"):
        read_config(path, [])


def test_json_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "names.json"
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="names.json: no JSON"):
        read_stage_names(path)
    with pytest.raises(UserError, match="seed: .* will not do"):
        read_config(ROOT / "config.json", [f"seed={'[' * 50_000}"])


def test_files_that_extend_each_other_without_end_are_refused(tmp_path):
    for number in range(1500):
        (tmp_path / f"{number}.json").write_text(json.dumps({"extends": f"{number + 1}.json"}))
    with pytest.raises(UserError, match=r"\d.json: "):
        read_config(tmp_path / "0.json", [])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arch.args.n_tce_layers", 100_000),
        ("arch.args.d_ff", 30_000_000),
        ("data_loader.args.context", [1_000_000, 1]),
        ("trainer.epochs", 10**9),
        ("data_loader.args.subject_pattern", "(a{99999999999999})"),
        ("data_loader.args.subject_pattern", "(" * 5000),
    ],
)
def test_sizes_beyond_any_experiment_are_refused(key, value):
    with pytest.raises(UserError, match=f"  {key.removesuffix('.args.n_tce_layers').removesuffix('.args.d_ff')}: "):
        read_config(ROOT / "config.json", [f"{key}={json.dumps(value)}"])


@pytest.mark.parametrize("arguments", [{"width": 100_000}, {"n_layers": 100_000}])
def test_a_model_of_the_night_beyond_any_experiment_is_refused(arguments):
    with pytest.raises(UserError, match="context.model: NightGRU takes width from 1 to 1024"):
        read_config(ROOT / "configs/night_context.json", [f"context.model.args={json.dumps(arguments)}"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"config": {"arch": {"type": "AttnSleep", "args": {"n_tce_layers": 100_000}}}}, "n_tce_layers from 1 to 64"),
        ({"config": {"arch": {"type": "AttnSleep", "args": {"d_ff": 30_000_000}}}}, "d_ff from 1 to 10000"),
        ({"config": [1]}, "do not fit"),
        ({"context": [10**9, 0]}, "its context is"),
        ({"context": [0, 0, 0]}, "its context is"),
        ({"context": [-3, 3]}, "its context is"),
        ({"fs": 1e12}, "its fs is"),
        ({"fs": float("nan")}, "its fs is nan"),
    ],
)
def test_a_checkpoint_that_says_odd_things_of_its_network_is_refused(tmp_path, changes, text):
    path = tmp_path / "model.pth"
    write_checkpoint(path)
    state = load_checkpoint(path)
    torch.save(state | {"about": state["about"] | changes}, path)
    with pytest.raises(UserError, match=f"model.pth: .*{text}"):
        load_networks([path])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda value: torch.zeros(1).expand(value.shape), "claims more numbers than there are"),
        (lambda value: value * float("nan"), "holds NaN or infinite numbers"),
    ],
)
def test_a_checkpoint_of_odd_weights_is_refused(tmp_path, change, text):
    path = tmp_path / "model.pth"
    write_checkpoint(path)
    state = load_checkpoint(path)
    name = "tce.layers.0.feed_forward.1.weight"
    torch.save(state | {"model": state["model"] | {name: change(network().state_dict()[name])}}, path)
    with pytest.raises(UserError, match=f"model.pth: {name} {text}"):
        load_networks([path])


@pytest.mark.parametrize("config", [[1], {"data_loader": [1]}, {"seed": torch.ones(3)}])
def test_going_on_from_a_checkpoint_that_says_odd_things_of_its_configuration_is_refused(tmp_path, config):
    write_checkpoint(tmp_path / "model.pth", config=config)
    (tmp_path / "data.json").write_text('{"train": {}, "valid": {}, "test": {}}')
    data = {"train": {}, "valid": {}, "test": {}}
    with pytest.raises(
        UserError, match="model.pth: what it says of itself cannot be understood|trained in another way"
    ):
        check_checkpoint(tmp_path / "model.pth", 0, read_config(ROOT / "config.json", []).values, data)
