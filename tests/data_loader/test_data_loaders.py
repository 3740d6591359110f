import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loader import data_loaders
from data_loader.data_loaders import Batches, SleepEpochs, class_counts, find_recordings, neighbours
from utils import ranks
from utils.errors import UserError
from utils.recording import Recording, read_outline, write_recording

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
FS = 10


def write(folder, name, stages=(0, 1, 2), fs=FS, n_samples=None, signal=None):
    """Write a short night at 10 Hz whose values number its sleep epochs: sleep epoch k is around 100 k."""
    n_samples = n_samples or 30 * fs
    if signal is None:
        noise = np.random.default_rng(list(name.encode())).normal(0, 10, (len(stages), n_samples))
        signal = 100 * np.arange(len(stages))[:, None] + noise
    stages = np.array(stages)
    write_recording(
        folder / f"{name}.npz", Recording(signal.astype(np.float32), stages, fs, "EEG", np.arange(len(stages)))
    )
    return signal.astype(np.float32)


def test_the_recordings_of_a_folder_are_found_by_name(tmp_path):
    for name in ("b", "a", "c"):
        write(tmp_path, name, stages=(0, 4))
    (tmp_path / ".writing-d.npz").write_bytes(b"half of it")
    (tmp_path / "notes.txt").write_text("no recording")
    outlines = find_recordings(tmp_path)
    assert [outline.name for outline in outlines] == ["a", "b", "c"]
    assert outlines[0].stages.tolist() == [0, 4]
    assert (outlines[0].n_samples, outlines[0].fs, outlines[0].channel) == (300, 10, "EEG")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such folder. Pass the folder .* with --np_data_dir"):
        find_recordings(tmp_path / "nowhere")


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(UserError, match="no npz files here. Prepare recordings first"):
        find_recordings(tmp_path)


def test_all_problems_of_all_recordings_are_named_at_once(tmp_path):
    write(tmp_path, "a")
    (tmp_path / "damaged.npz").write_bytes(b"PK nothing")
    write(tmp_path, "fast", fs=20)
    write(tmp_path, "long", n_samples=301)
    write(tmp_path, "none", stages=())
    write(tmp_path, "odd", stages=(0, 5, -1, 5))
    with pytest.raises(UserError) as caught:
        find_recordings(tmp_path)
    first, *problems = str(caught.value).splitlines()
    assert first == f"{tmp_path}: 5 problems:"
    for problem, text in zip(
        problems,
        [
            "damaged.npz: not a readable npz file",
            "fast.npz: 20 Hz, but a.npz has 10 Hz. Use one rate.",
            "long.npz: 301 samples per sleep epoch, but 30 s at 10 Hz are 300.",
            "none.npz: no sleep epochs in it.",
            "odd.npz: stages [-1, 5] are not 0 to 4 (W, N1, N2, N3, REM).",
        ],
        strict=True,
    ):
        assert problem.strip().startswith(text)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["night0", "night0 (1)"], r"night0 \(1\).npz, night0.npz: the same signal. Leave one"),
        (["Jose\u0301", "Jos\u00e9"], "Jos.*npz, Jos.*npz: the same name in two spellings"),
        (["night", "NIGHT"], "NIGHT.npz, night.npz: the same name in two spellings"),
    ],
)
def test_the_same_night_twice_is_refused_with_both_names(tmp_path, make_recording, names, problem):
    for seed, name in enumerate(names):
        same = problem.endswith("Leave one")
        write_recording(tmp_path / f"{name}.npz", make_recording(10 + (not same) * seed, seed=0 if same else seed))
    with pytest.raises(UserError, match=problem):
        find_recordings(tmp_path)


def test_a_night_that_was_prepared_twice_is_refused_whatever_its_scorings_left_of_it(tmp_path, make_recording):
    for n, name in enumerate(("night0", "second scorer", "other channel")):
        source = json.dumps({"recording": {"name": f"{name}.edf", "bytes": 1000, "crc32": "0a"}})
        channel = "C4" if name == "other channel" else "Fpz"
        write_recording(tmp_path / f"{name}.npz", make_recording(10 + n, seed=n, made_from=source, channel=channel))
    with pytest.raises(UserError, match="night0.npz, second scorer.npz: prepared from the same recording. Leave one"):
        find_recordings(tmp_path)


def test_a_length_that_is_wrong_in_every_recording_is_refused(tmp_path):
    for name in ("a", "b"):
        write(tmp_path, name, n_samples=250)
    with pytest.raises(UserError, match=r"a.npz: 250 samples(.|\n)*b.npz: 250 samples"):
        find_recordings(tmp_path)


def test_recordings_of_another_rate_than_the_configuration_are_refused_with_the_remedy(tmp_path):
    write(tmp_path, "a", fs=125)
    assert len(find_recordings(tmp_path, 125)) == 1
    text = r"a.npz: 125 Hz, but data_loader.args.fs is 100. Pass --set data_loader.args.fs=125, or prepare"
    with pytest.raises(UserError, match=text):
        find_recordings(tmp_path, 100)


def spoilt(value, where=(1, 3)):
    signal = np.random.default_rng(0).normal(0, 30, (3, 300))
    signal[where] = value
    return signal


SIGNALS = {
    "NaN": (spoilt(np.nan), "holds NaN or infinite values"),
    "one infinity": (spoilt(np.inf), "holds NaN or infinite values"),
    "both infinities": (spoilt([np.inf, -np.inf], (1, slice(0, 2))), "holds NaN or infinite values"),
    "zeros": (np.zeros((3, 300)), "is constant. Was the channel recorded"),
    "one value": (np.full((3, 300), -7.3), "is constant. Was the channel recorded"),
    "one value and the next": (np.tile([5000.0, 5000.0005], (3, 150)), "is constant. Was the channel recorded"),
    "volts": (
        spoilt(1) * 1e-6,
        "standard deviation is 2.9e-05; EEG in microvolts has 2 to 1000. Are the values z-scored",
    ),
    "millivolts": (spoilt(1) * 1e-3, "standard deviation is 0.029"),
    "nanovolts": (spoilt(1) * 1e3, r"standard deviation is 2.9e\+04"),
    "z-scored": (spoilt(1) / spoilt(1).std(), "standard deviation is 1; .* Are the values z-scored"),
    "just too small": (spoilt(1) * 1.99 / spoilt(1).std(), "standard deviation is 1.99"),
    "just too large": (spoilt(1) * 1001 / spoilt(1).std(), r"standard deviation is 1e\+03"),
}


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_that_cannot_be_eeg_in_microvolts_is_refused(tmp_path, kind):
    signal, text = SIGNALS[kind]
    write(tmp_path, "fine")
    write(tmp_path, "spoilt", signal=signal)
    with pytest.raises(UserError, match=rf"^spoilt.npz: the signal('s)? {text}"):
        SleepEpochs(find_recordings(tmp_path), CPU)


@pytest.mark.parametrize("std", [2.01, 999])
def test_a_signal_that_is_just_small_or_large_enough_is_accepted(tmp_path, std):
    write(tmp_path, "a", signal=spoilt(1) * std / spoilt(1).std())
    assert len(SleepEpochs(find_recordings(tmp_path), CPU).stages) == 3


def test_all_signals_that_cannot_be_eeg_are_named_at_once(tmp_path):
    write(tmp_path, "a", signal=np.zeros((3, 300)))
    write(tmp_path, "b")
    write(tmp_path, "c", signal=spoilt(np.nan))
    with pytest.raises(UserError, match=r"^a.npz: .* is constant.*\nc.npz: .* NaN .*$"):
        SleepEpochs(find_recordings(tmp_path), CPU)


@pytest.fixture
def nights(tmp_path):
    """Three nights with 3, 4 and 2 sleep epochs, and their signals."""
    stages = {"a": (0, 1, 2), "b": (3, 4, 4, 2), "c": (2, 0)}
    return tmp_path, {name: write(tmp_path, name, stages[name]) for name in stages}


@pytest.fixture(params=[False, True], ids=["read from the files", "held by the device"])
def data(request, nights):
    return SleepEpochs(find_recordings(nights[0]), CPU, resident=request.param)


def test_sleep_epochs_are_numbered_one_recording_after_the_other(data):
    assert data.stages.tolist() == [0, 1, 2, 3, 4, 4, 2, 2, 0]
    assert data.indices(["a"]).tolist() == [0, 1, 2]
    assert data.indices(["c", "a"]).tolist() == [7, 8, 0, 1, 2]


def test_batches_in_order_give_each_signal_with_its_stage(nights, data):
    signals = nights[1]
    batches = list(Batches(data, data.indices(["c", "b"]), batch_size=4, shuffle=False))
    assert [len(stages) for _, stages in batches] == [4, 2]
    assert len(Batches(data, data.indices(["c", "b"]), 4, False)) == 2
    signal, stages = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert signal.shape == (6, 1, 300)
    assert signal.dtype == torch.float32
    assert stages.dtype == torch.int64
    np.testing.assert_array_equal(signal[:, 0].numpy(), np.concatenate([signals["c"], signals["b"]]))
    assert stages.tolist() == [2, 0, 3, 4, 4, 2]


def test_shuffled_batches_give_each_sleep_epoch_once_with_its_stage(nights, data):
    by_first_value = {
        night[row, 0]: stage
        for night, stages in zip(nights[1].values(), ([0, 1, 2], [3, 4, 4, 2], [2, 0]), strict=True)
        for row, stage in enumerate(stages)
    }
    for signal, stages in Batches(data, torch.arange(9), batch_size=2, shuffle=True):
        for row, stage in zip(signal[:, 0], stages, strict=True):
            assert by_first_value.pop(np.float32(row[0])) == stage
    assert by_first_value == {}


def test_each_pass_draws_a_new_order_from_torchs_generator(data):
    batches = Batches(data, torch.arange(9), batch_size=9, shuffle=True)

    def orders(seed, n=3):
        torch.manual_seed(seed)
        return [next(iter(batches))[0][:, 0, 0].tolist() for _ in range(n)]

    first = orders(1)
    assert len({tuple(order) for order in first}) == 3
    assert orders(1) == first
    assert orders(2) != first


def test_the_stages_of_all_sleep_epochs_come_in_the_order_of_the_indices(data):
    for shuffle in (False, True):
        assert Batches(data, data.indices(["c", "b"]), 4, shuffle).stages.tolist() == [2, 0, 3, 4, 4, 2]


def test_a_batch_names_the_recordings_of_its_sleep_epochs(nights, data):
    names = {night[row, 0]: name for name, night in nights[1].items() for row in range(len(night))}
    batches = Batches(data, torch.arange(9), batch_size=2, shuffle=True)
    for _ in range(2):
        for number, (signal, _) in enumerate(batches):
            assert batches.recordings(number) == sorted({names[first] for first in signal[:, 0, 0].numpy()})


# Several ranks


def by_each_of(monkeypatch, n_ranks, batches):
    """What each rank reads in one pass: the first value of every sleep epoch, by batch."""
    passes = []
    for rank in range(n_ranks):
        monkeypatch.setattr(ranks, "world_size", lambda: n_ranks)
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(ranks, "from_first", lambda order: order)
        torch.manual_seed(0)
        passes.append([signal[:, 0, 0].tolist() for signal, _ in batches])
    return passes


@pytest.mark.parametrize(("n_ranks", "sizes"), [(2, [[2, 2, 1], [2, 2, 1]]), (3, [[2, 2, 1], [1, 1, 1], [1, 1, 1]])])
def test_ranks_share_each_shuffled_batch_and_take_as_many_steps(data, monkeypatch, n_ranks, sizes):
    batches = Batches(data, torch.arange(9), batch_size=4, shuffle=True)
    (alone,) = by_each_of(monkeypatch, 1, batches)
    shares = by_each_of(monkeypatch, n_ranks, batches)
    assert [[len(batch) for batch in share] for share in shares] == sizes
    assert len(batches) == 3
    for whole, *parts in zip(alone, *shares, strict=True):
        # The last batch is one sleep epoch, which every rank trains on, so that none waits for another.
        assert sum(parts, []) == whole if len(whole) > 1 else parts == n_ranks * [whole]


@pytest.mark.parametrize("n_ranks", [2, 4, 10])
def test_what_the_ranks_read_in_order_is_together_all_sleep_epochs_once(data, monkeypatch, n_ranks):
    batches = Batches(data, torch.arange(9), batch_size=4, shuffle=False)
    (alone,) = by_each_of(monkeypatch, 1, batches)
    shares = by_each_of(monkeypatch, n_ranks, batches)
    assert sum((sum(share, []) for share in shares), []) == sum(alone, [])
    assert max(len(batch) for share in shares for batch in share) <= 4


def test_every_rank_reads_in_the_order_that_rank_0_drew(data, monkeypatch):
    monkeypatch.setattr(ranks, "from_first", lambda order: torch.arange(len(order)))
    (batch,) = Batches(data, torch.tensor([3, 1, 8]), batch_size=9, shuffle=True)
    assert torch.equal(batch[0], data.read(torch.tensor([3, 1, 8]))[0])


def test_without_shuffling_no_random_number_is_drawn(data):
    state = torch.get_rng_state()
    list(Batches(data, torch.arange(9), batch_size=2, shuffle=False))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("n", "batch_size", "sizes"), [(9, 3, [3, 3, 3]), (9, 4, [4, 4, 1]), (2, 128, [2])])
def test_the_last_short_batch_is_kept(data, n, batch_size, sizes):
    batches = Batches(data, torch.arange(n), batch_size, shuffle=True)
    assert [len(stages) for _, stages in batches] == sizes
    assert len(batches) == len(sizes)


def test_what_is_done_to_a_batch_does_not_reach_the_next_pass(data):
    batches = Batches(data, torch.arange(9), batch_size=9, shuffle=False)
    before = next(iter(batches))[0].clone()
    signal, stages = next(iter(batches))
    signal.zero_()
    stages.zero_()
    assert torch.equal(next(iter(batches))[0], before)
    assert data.stages.sum() == 18


def test_sleep_epochs_are_counted_by_stage(nights, data):
    assert data.class_counts(["a", "b", "c"]) == [2, 1, 3, 1, 2]
    assert data.class_counts(["a"]) == [1, 1, 1, 0, 0]
    assert class_counts(find_recordings(nights[0])) == [2, 1, 3, 1, 2]


def test_recordings_in_the_layouts_of_other_toolkits_give_the_same_batches(tmp_path):
    signal = np.random.default_rng(0).normal(0, 30, (3, 300)).astype(np.float32)
    layouts = {
        "plain": signal,
        "column": signal[:, :, None],
        "row": signal[:, None],
        "double": signal.astype(np.float64),
        "fortran": np.asfortranarray(signal),
        "big endian": signal.astype(">f4"),
    }
    for name, x in layouts.items():
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.array([0.0, 1.0, 2.0]), fs=np.array([10]))
    np.savez_compressed(tmp_path / "compressed.npz", x=signal, y=np.array([0, 1, 2]), fs=10)
    data = SleepEpochs([read_outline(path) for path in sorted(tmp_path.glob("*.npz"))], CPU)  # one night, seven times
    for name in [*layouts, "compressed"]:
        ((batch, stages),) = Batches(data, data.indices([name]), 3, shuffle=False)
        np.testing.assert_array_equal(batch[:, 0].numpy(), signal, err_msg=name)
        assert stages.tolist() == [0, 1, 2]


# Context


@pytest.mark.parametrize(
    ("sleep_epoch", "before", "after", "expected"),
    [
        ([0, 1, 2], 0, 0, [[0], [1], [2]]),
        ([0, 1, 2], 1, 1, [[0, 0, 1], [0, 1, 2], [1, 2, 2]]),
        ([5, 6, 7], 1, 0, [[0, 0], [0, 1], [1, 2]]),
        ([5, 6, 7], 0, 1, [[0, 1], [1, 2], [2, 2]]),
        # 7 was dropped: 6 and 8 do not touch
        ([5, 6, 8, 9], 1, 1, [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]),
        ([0, 1, 2, 3], 2, 0, [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]),
        ([0, 1, 2, 3], 0, 2, [[0, 1, 2], [1, 2, 3], [2, 3, 3], [3, 3, 3]]),
        # 2 was dropped: for 3 there is nothing before, for 4 the 3 stands in for the 2
        ([0, 1, 3, 4], 2, 0, [[0, 0, 0], [0, 0, 1], [2, 2, 2], [2, 2, 3]]),
        ([7], 2, 3, [[0] * 6]),
        ([0, 2], 2, 0, [[0, 0, 0], [1, 1, 1]]),
        ([0, 2], 0, 2, [[0, 0, 0], [1, 1, 1]]),
    ],
)
def test_the_neighbours_touch_in_time_or_the_nearest_that_does_stands_in(sleep_epoch, before, after, expected):
    assert neighbours(np.array(sleep_epoch), before, after).tolist() == expected


@pytest.fixture(params=[False, True], ids=["read from the files", "held by the device"])
def resident(request):
    return request.param


def test_a_batch_with_context_has_the_sleep_epochs_before_and_after_in_the_order_of_time(nights, resident):
    signals = nights[1]
    data = SleepEpochs(find_recordings(nights[0]), CPU, context=(1, 1), resident=resident)
    ((signal, stages),) = Batches(data, data.indices(["b", "c"]), 6, shuffle=False)
    assert signal.shape == (6, 1, 900)
    b, c = signals["b"], signals["c"]
    expected = [[b[0], b[0], b[1]], [b[0], b[1], b[2]], [b[1], b[2], b[3]], [b[2], b[3], b[3]]]
    expected += [[c[0], c[0], c[1]], [c[0], c[1], c[1]]]  # a night ends where it ends: none of b's
    np.testing.assert_array_equal(signal[:, 0].numpy(), np.array(expected).reshape(6, 900))
    assert stages.tolist() == [3, 4, 4, 2, 2, 0]


def test_a_context_on_one_side_is_fine(nights, resident):
    data = SleepEpochs(find_recordings(nights[0]), CPU, context=(0, 1), resident=resident)
    ((signal, _),) = Batches(data, data.indices(["c"]), 6, shuffle=False)
    c = nights[1]["c"]
    np.testing.assert_array_equal(signal[:, 0].numpy(), np.array([[c[0], c[1]], [c[1], c[1]]]).reshape(2, 600))


def test_the_context_does_not_cross_a_gap(tmp_path, resident):
    x = np.random.default_rng(0).normal(0, 30, (4, 300)).astype(np.float32)
    recording = Recording(x, np.array([0, 1, 2, 3]), FS, "EEG", np.array([3, 4, 6, 7]))
    write_recording(tmp_path / "a.npz", recording)
    data = SleepEpochs(find_recordings(tmp_path), CPU, context=(1, 1), resident=resident)
    ((signal, _),) = Batches(data, torch.arange(4), 4, shuffle=False)
    expected = [[x[0], x[0], x[1]], [x[0], x[1], x[1]], [x[2], x[2], x[3]], [x[2], x[3], x[3]]]
    np.testing.assert_array_equal(signal[:, 0].numpy(), np.array(expected).reshape(4, 900))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open files are counted in /proc")
def test_more_recordings_than_a_process_may_open_files_are_fine(tmp_path):
    for number in range(50):
        write(tmp_path, f"n{number}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 20, hard))
    try:
        data = SleepEpochs(find_recordings(tmp_path), CPU)
        assert len(list(Batches(data, torch.arange(150), 50, shuffle=False))) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_signals_that_the_device_holds_are_not_read_from_their_files_any_more(nights):
    def mapped():
        lines = Path("/proc/self/maps").read_text().splitlines()
        return sorted(line.split("/")[-1] for line in lines if str(nights[0]) in line)

    if not sys.platform.startswith("linux"):
        pytest.skip("mapped files are read from /proc")
    data = SleepEpochs(find_recordings(nights[0]), CPU)
    assert mapped() == ["a.npz", "b.npz", "c.npz"]
    del data
    data = SleepEpochs(find_recordings(nights[0]), CPU, resident=True)
    assert mapped() == []
    assert len(list(Batches(data, torch.arange(9), 3, shuffle=False))) == 3


def test_signals_that_are_to_be_held_where_they_cannot_fit_are_refused(nights, monkeypatch):
    monkeypatch.setattr(data_loaders, "_memory_bytes", lambda device: 9 * 300 * 4 - 1)
    with pytest.raises(UserError, match=r"resident is true, but the signals take 0.0 GB and cpu has 0.0 GB"):
        SleepEpochs(find_recordings(nights[0]), CPU, resident=True)
    SleepEpochs(find_recordings(nights[0]), CPU)
    monkeypatch.setattr(data_loaders, "_memory_bytes", lambda device: 9 * 300 * 4)
    SleepEpochs(find_recordings(nights[0]), CPU, resident=True)


MEASURE = """
import sys
from pathlib import Path
import torch
from data_loader.data_loaders import Batches, SleepEpochs, find_recordings

def peak():
    # VmHWM, unlike ru_maxrss, knows nothing of the process that started this one
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

outlines = find_recordings(Path(sys.argv[1]))
before = peak()
data = SleepEpochs(outlines, torch.device("cpu"), context=(1, 1))
n = sum(len(signal) for signal, _ in Batches(data, torch.arange(len(data.stages)), 128, shuffle=True))
assert n == len(data.stages)
print((peak() - before) / (4 * 3000 * n))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_the_data_is_in_memory_once_however_often_it_is_gone_through(tmp_path):
    rng = np.random.default_rng(0)
    night = rng.normal(0, 30, (500, 3000)).astype(np.float32)  # 6 MB
    for number in range(20):
        night[0, 0] = number
        write_recording(
            tmp_path / f"n{number:02d}.npz", Recording(night, np.arange(500) % 5, 100, "EEG", np.arange(500))
        )
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # the rest are buffers, of a size that does not depend on the data's; a second copy would make 2
    assert float(measured.stdout) < 1.6


def test_npz_files_are_found_in_any_case_and_each_name_stands_once(prepared):
    folder = prepared("a", "b")
    (folder / "b.npz").rename(folder / "b.NPZ")
    assert [outline.name for outline in find_recordings(folder)] == ["a", "b"]
    (folder / "a.NPZ").hardlink_to(folder / "a.npz")
    with pytest.raises(UserError, match=r"a\.(npz|NPZ), a\.(npz|NPZ): the same signal. Leave one"):
        find_recordings(folder)
