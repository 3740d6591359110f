import pytest
from report_inputs import predictions, write_experiment

from report.results import PROTOCOLS, read_results, typical_recording
from utils.errors import UserError
from utils.experiment import CONTEXT


def fold(name, selected=1):
    return predictions({name: ([0, 1, 2], [0, 1, 1])}, selected=selected)


def test_results_are_those_of_the_finished_folds(tmp_path):
    folds = {2: fold("c", selected=4), 0: fold("a")}
    results = read_results(write_experiment(tmp_path / "Exp", folds, 3, "holdout", {0: [1.5, 2], 2: [10]}))
    assert (results.name, results.num_folds, results.protocol) == ("Exp", 3, "holdout")
    assert list(results.folds) == [0, 2]
    assert results.folds[2].recording.tolist() == ["c"] * 3
    assert results.folds[2].selected_train_epoch == 4
    assert results.seconds == {0: 3.5, 2: 10}
    assert results.histories[0]["train_epoch"].tolist() == [1, 2]


def test_folds_that_test_a_recording_twice_are_of_different_runs_and_refused(tmp_path):
    experiment = write_experiment(tmp_path, {0: fold("a"), 1: fold("b"), 2: fold("a")}, 3)
    with pytest.raises(
        UserError, match="the recording a is tested in fold 0 and in fold 2, which are of different runs"
    ):
        read_results(experiment)


@pytest.mark.parametrize("content", ["", "train_epoch\n1\n", "seconds\nlong\n"])
def test_a_damaged_history_is_named(tmp_path, content):
    experiment = write_experiment(tmp_path, {0: fold("a")})
    (experiment / "fold_0" / "metrics.csv").write_text(content)
    with pytest.raises(UserError, match=r"fold_0/metrics.csv: cannot be read"):
        read_results(experiment)


def test_the_time_of_the_night_context_counts(tmp_path):
    experiment = write_experiment(tmp_path, {0: fold("a"), 1: fold("b")}, seconds={0: [3, 4], 1: [5]})
    (experiment / "fold_0" / CONTEXT).mkdir()
    (experiment / "fold_0" / CONTEXT / "metrics.csv").write_text("train_epoch,seconds\n1,0.5\n2,1\n")
    assert read_results(experiment).seconds == {0: 8.5, 1: 5}


def test_the_published_metrics_come_first_then_the_others_of_the_configuration(tmp_path, n1_f1):
    results = read_results(write_experiment(tmp_path, {0: fold("a")}, metrics=["n1_f1", "kappa"]))
    assert list(results.metrics) == ["accuracy", "macro_f1", "kappa", "mgm", "n1_f1"]
    assert results.metrics["n1_f1"] is n1_f1


def test_a_metric_that_is_no_longer_there_is_named_and_left_out(tmp_path, log):
    results = read_results(write_experiment(tmp_path, {0: fold("a")}, metrics=["gone"]))
    assert list(results.metrics) == ["accuracy", "macro_f1", "kappa", "mgm"]
    (message,) = log.messages
    assert message.endswith("fold_0/config.json: no metric gone in model/metric.py any more; the report leaves it out.")


def test_an_experiment_without_a_finished_fold_is_refused(tmp_path):
    experiment = write_experiment(tmp_path, {0: fold("a")})
    (experiment / "fold_0" / "predictions.npz").unlink()
    with pytest.raises(UserError, match="no fold is finished. Train one with train_Kfold_CV.py"):
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


def test_the_typical_recording_is_that_of_median_accuracy():
    rows = [{"recording": name, "holdout": {"accuracy": value}} for name, value in [("a", 0.9), ("b", 0.2), ("c", 0.5)]]
    report = {"protocols": {"holdout": {}, "last_epoch": {}}, "per_recording": rows}
    assert typical_recording(report) == "c"
