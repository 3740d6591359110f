import pytest
from written_experiments import predictions, write_experiment

from report.results import PROTOCOLS, read_results, subjects_of, typical_recording
from utils.errors import UserError
from utils.experiment import CONTEXT


def fold(name):
    return predictions({name: ([0, 1, 2], [0, 1, 1])})


def test_results_are_those_of_the_finished_folds(tmp_path):
    folds = {2: fold("c"), 0: fold("a")}
    found = read_results(
        write_experiment(tmp_path / "Exp", folds, 3, "holdout", "(.)", {0: [1.5, 2], 2: [10]}),
    )
    assert (found.name, found.num_folds, found.protocol, found.subject_pattern) == ("Exp", 3, "holdout", "(.)")
    assert list(found.folds) == [0, 2]
    assert found.missing == [1]
    assert found.folds[2].recording.tolist() == ["c"] * 3
    assert found.seconds == {0: 3.5, 2: 10}


def test_a_configuration_without_a_protocol_is_of_the_released_one(tmp_path):
    assert read_results(write_experiment(tmp_path, {0: fold("a")})).protocol == "released"


@pytest.mark.parametrize("content", [None, "", "train_epoch\n1\n", "seconds\nlong\n"])
def test_a_fold_that_does_not_tell_its_time_is_left_out(tmp_path, content):
    experiment = write_experiment(tmp_path, {0: fold("a"), 1: fold("b")}, seconds={1: [4]})
    if content is not None:
        (experiment / "fold_0" / "metrics.csv").write_text(content)
    assert read_results(experiment).seconds == {1: 4}


def test_the_time_of_a_model_of_the_night_counts(tmp_path):
    experiment = write_experiment(tmp_path, {0: fold("a"), 1: fold("b")}, seconds={0: [3, 4], 1: [5]})
    (experiment / "fold_0" / CONTEXT).mkdir()
    (experiment / "fold_0" / CONTEXT / "metrics.csv").write_text("train_epoch,seconds\n1,0.5\n2,1\n")
    assert read_results(experiment).seconds == {0: 8.5, 1: 5}


def test_folds_can_be_chosen(tmp_path):
    experiment = write_experiment(tmp_path, {0: fold("a"), 1: fold("b")})
    assert list(read_results(experiment, [1]).folds) == [1]


def test_an_experiment_without_a_finished_fold_is_refused(tmp_path):
    experiment = write_experiment(tmp_path, {0: fold("a")})
    (experiment / "fold_0" / "predictions.npz").unlink()
    with pytest.raises(UserError, match="no fold is finished"):
        read_results(experiment)


def test_a_folder_that_is_no_experiment_is_refused(tmp_path):
    with pytest.raises(UserError, match="no experiment here"):
        read_results(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"data_loader": {"args": {}}}', '{"data_loader": 3}'])
def test_a_damaged_configuration_is_named(tmp_path, content):
    experiment = write_experiment(tmp_path, {0: fold("a")})
    (experiment / "fold_0" / "config.json").write_text(content)
    with pytest.raises(UserError, match="fold_0/config.json: cannot be read"):
        read_results(experiment)


def test_a_protocol_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match="evaluation.protocol is 'best'"):
        read_results(write_experiment(tmp_path, {0: fold("a")}, protocol="best"))


def test_each_protocol_says_what_selected():
    assert PROTOCOLS["holdout"] == "selected on the validation subjects, tested once"


def test_each_sleep_epoch_has_the_subject_of_its_recording():
    recordings = predictions({"SC4012E0": ([0], [0]), "SC4001E0": ([0, 0], [0, 0]), "SC4011E0": ([0], [0])}).recording
    assert subjects_of(recordings, None).tolist() == ["01", "00", "00", "01"]
    assert subjects_of(recordings, "SC40.(.)").tolist() == ["2", "1", "1", "1"]


def test_the_typical_recording_is_that_of_median_accuracy():
    rows = [{"recording": name, "holdout": {"accuracy": value}} for name, value in [("a", 0.9), ("b", 0.2), ("c", 0.5)]]
    report = {"protocols": {"holdout": {}, "last_epoch": {}}, "per_recording": rows}
    assert typical_recording(report) == "c"
