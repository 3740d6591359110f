from dataclasses import replace

import numpy as np
import pytest

from utils.errors import UserError
from utils.experiment import Predictions, fold_directory, is_finished, pooled, read_predictions, write_predictions


def predictions(n=4):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), n).astype(np.float32)
    return Predictions(
        recording=np.array(["SC4001E0"] * (n - 1) + ["shhs1-200001"]),
        subject=np.array(["00"] * (n - 1) + ["shhs1-200001"]),
        start_time=np.array(["2020-01-01T22:30:00"] * (n - 1) + [""]),
        sleep_epoch=np.arange(n, dtype=np.int32),
        y_true=np.arange(n) % 5,
        y_pred=np.zeros(n, int),
        probabilities=probabilities,
        y_pred_last_epoch=np.ones(n, int),
        probabilities_last_epoch=probabilities[::-1],
        selected_train_epoch=7,
    )


@pytest.mark.parametrize("context", [False, True])
def test_predictions_are_read_as_they_were_written(tmp_path, context):
    written = predictions()
    if context:
        written = replace(written, y_pred_context=written.y_true, probabilities_context=written.probabilities)
    write_predictions(tmp_path / "fold_0", written)
    read = read_predictions(tmp_path / "fold_0")
    assert read.arrays.keys() == written.arrays.keys()
    for name, value in written.arrays.items():
        np.testing.assert_array_equal(getattr(read, name), value)
        assert getattr(read, name).dtype == value.dtype
    assert read.selected_train_epoch == 7
    assert [path.name for path in (tmp_path / "fold_0").iterdir()] == ["predictions.npz"]


def test_a_fold_is_finished_when_its_predictions_are_there(tmp_path):
    directory = fold_directory(tmp_path, 3)
    assert directory == tmp_path / "fold_3"
    assert not is_finished(directory)
    write_predictions(directory, predictions())
    assert is_finished(directory)


def test_predictions_of_folds_are_pooled_in_order_and_taken_by_mask_or_position():
    both = pooled([predictions(2), predictions(3)])
    assert both.sleep_epoch.tolist() == [0, 1, 0, 1, 2]
    assert both.selected_train_epoch is None
    assert both.take(both.subject == "00").sleep_epoch.tolist() == [0, 0, 1]
    assert both.take(np.array([4, 0])).recording.tolist() == ["shhs1-200001", "SC4001E0"]


def damaged(path):
    path.write_bytes(path.read_bytes()[:-50])


def another_npz(path):
    np.savez(path, subject=np.zeros(3))


def pickled(path):
    np.savez(path, **vars(predictions()) | {"recording": np.array([{}] * 4, object)})


@pytest.mark.parametrize(
    "spoil", [damaged, another_npz, pickled, lambda path: path.unlink(), lambda path: path.write_text("")]
)
def test_predictions_that_cannot_be_read_are_named_with_the_remedy(tmp_path, spoil):
    write_predictions(tmp_path, predictions())
    spoil(tmp_path / "predictions.npz")
    with pytest.raises(UserError, match=r"predictions.npz: cannot be read .* Remove it and train the fold again"):
        read_predictions(tmp_path)


def test_predictions_of_an_earlier_version_have_no_start(tmp_path):
    earlier = {name: values for name, values in predictions().arrays.items() if name != "start_time"}
    np.savez(tmp_path / "predictions.npz", selected_train_epoch=7, **earlier)
    read = read_predictions(tmp_path)
    assert read.start_time.tolist() == [""] * 4
    assert pooled([read, predictions()]).start_time.tolist()[3:5] == ["", "2020-01-01T22:30:00"]


def test_predictions_of_an_earlier_version_have_no_temperature(tmp_path):
    write_predictions(tmp_path, predictions())
    read = read_predictions(tmp_path)
    assert read.temperature is None
    later = replace(predictions(2), temperature=np.full(2, 1.5))
    assert pooled([later, later]).temperature.tolist() == [1.5] * 4
    for folds in ([read, later], [later, read]):
        assert pooled(folds).temperature is None
        assert len(pooled(folds).y_true) == 6


def test_predictions_of_an_earlier_version_are_refused_in_one_line(tmp_path):
    earlier = {name: values for name, values in predictions().arrays.items() if name != "subject"}
    np.savez(tmp_path / "predictions.npz", **earlier)
    with pytest.raises(UserError, match=r"predictions.npz: an earlier version wrote it, without subjects. [^\n]*$"):
        read_predictions(tmp_path)
