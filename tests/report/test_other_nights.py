"""Networks evaluated on other nights: `python -m report FILE --on nights`."""

import json

import numpy as np
import openpyxl
import pytest
from checkpoints import write_checkpoint
from report_inputs import predictions, write_experiment
from scripts import REPORT, ROOT, call, contents, run

from report.__main__ import evaluate_on, main
from report.results import read_results
from scoring.share import main as share
from utils.checkpoint import BEST
from utils.experiment import read_predictions
from utils.recording import write_recording

NIGHTS = ("SC4001E0", "x1", "x2", "y1")


@pytest.fixture
def place(tmp_path, make_recording):
    """A shared file of one network that was trained on the first of four nights, and the nights."""
    for seed, name in enumerate(NIGHTS):
        recording = make_recording(15, seed=seed, subject=name[0] if len(name) == 2 else "")
        write_recording(tmp_path / f"nights/{name}.npz", recording)
    data = {"train": {"SC4001E0": "1"}, "valid": {}, "test": {"SC4011E0": "2"}}
    write_checkpoint(tmp_path / "Exp1/fold_0" / BEST, data=data)
    call(share, [tmp_path / "Exp1", "--output", tmp_path / "file/net.safetensors"], tmp_path)
    return tmp_path


def evaluate(place, *more):
    return call(main, ["file/net.safetensors", "--on", "nights", *more], place)


def evaluate_alone(place, name, network="file/net.safetensors"):
    """Evaluate without writing the report, which takes seconds."""
    return evaluate_on(place / network, place / "nights", place / name)


def test_the_whole_report_is_written_without_folds_and_with_what_to_know_first(place):
    code, out, err = evaluate(place)
    assert code == 0, err
    folder = place / "net_on_nights"
    report = json.loads((folder / "report.json").read_text())
    assert list(report["protocols"]) == ["other_nights"]
    assert report["protocols"]["other_nights"]["label"] == "networks trained elsewhere, evaluated once on these nights"
    assert {row["recording"]: row["subject"] for row in report["per_recording"]} == {"x1": "x", "x2": "x", "y1": "y"}
    assert report["intervals"]["n_subjects"] == 2
    left_out = "1 night left out (trained on this recording): SC4001E0."
    assert left_out in report["remarks"]
    assert left_out in err
    assert "earlier version" not in err
    page = (folder / "report.html").read_text()
    assert f'<p class="partial">{left_out}</p>' in page
    assert "<h1>net_on_nights</h1>" in page
    assert "fold" not in page[page.index("<nav") : page.index('id="config-title"')].lower()
    assert "learning" not in page[page.index("<h1>") :].lower()
    workbook = openpyxl.load_workbook(folder / "net_on_nights_classification_report.xlsx")
    assert "per fold" not in workbook.sheetnames
    assert [cell.value for cell in workbook["remarks"]["B"]][1:] == report["remarks"]
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        *("confusion_matrix", "f1", "hypnogram", "bland_altman", "reliability", "review")
    }


def test_the_evaluation_is_kept_and_read_again_and_its_report_can_be_written_again(place):
    evaluate(place, "--output", "on")
    before = contents(place / "on")
    code, _, err = evaluate(place, "--output", "on")
    assert code == 0
    assert "on: evaluated before, on the same nights; the report is written again." in err
    after = contents(place / "on")
    assert after["predictions.npz"] == before["predictions.npz"]
    (place / "on/report.json").unlink()
    assert call(main, ["on"], place)[0] == 0
    assert (place / "on/report.json").read_bytes() == before["report.json"][0]


@pytest.mark.parametrize("change", ["another network", "another night", "another file", "an experiment"])
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(place, make_recording, change):
    if change == "another file":
        (place / "on").mkdir()
        (place / "on/notes.txt").write_text("mine")
    elif change == "an experiment":
        (place / "Exp1").rename(place / "on")
    else:
        evaluate_alone(place, "on")
    if change == "another network":
        write_checkpoint(place / "Exp1/fold_0" / BEST, seed=1)
        call(share, [place / "Exp1", "--output", place / "file/net.safetensors", "--overwrite"], place)
    elif change == "another night":
        write_recording(place / "nights/z1.npz", make_recording(seed=8))
    before = contents(place / "on")
    code, _, err = evaluate(place, "--output", "on")
    assert (code, err) == (1, "on: holds something else than this evaluation. Pass another --output.\n")
    assert contents(place / "on") == before


def test_two_networks_are_compared_on_the_same_nights(place):
    evaluate_alone(place, "a")
    write_checkpoint(place / "Exp2/fold_0" / BEST, seed=1, data={"train": {}, "valid": {}, "test": {"q": "1"}})
    evaluate_alone(place, "b", "Exp2")
    code, out, err = call(main, ["a", "b"], place)
    assert code == 0, err
    assert "A = a, B = b: 3 shared recordings of 2 subjects." in out
    assert out.count("Protocol other_nights") == 1
    assert "last_epoch" not in out
    assert len([line for line in out.splitlines() if line.startswith(("a  ", "b  "))]) == 2


def test_an_evaluation_is_compared_with_an_experiment_that_tested_the_same_nights(place):
    evaluate_alone(place, "a")
    of_a = read_predictions(place / "a")
    nights = {name: (of_a.y_true[rows], of_a.y_true[rows]) for name, rows in of_a.nights().items()}
    folds = {0: predictions(nights, pattern="(.).")}
    folds[0].sleep_epoch[:] = of_a.sleep_epoch
    write_experiment(place / "right", folds)
    code, out, err = call(main, ["a", "right"], place)
    assert code == 0, err
    assert "Protocol other_nights of A, released of B" in out
    difference = 100 * (1 - (of_a.y_true == of_a.y_pred).mean())
    assert difference > 1
    assert "100.0" in out


def test_the_stages_of_the_report_are_those_of_the_networks(place):
    results = read_results(evaluate_alone(place, "on"))
    of_file = results.predictions
    assert results.protocol == "other_nights"
    assert np.isclose(of_file.probabilities.sum(1), 1, atol=1e-5).all()
    np.testing.assert_array_equal(of_file.probabilities.argmax(1), of_file.y_pred)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Exp1", "--output", "on"], "--output is the folder of an evaluation: pass --on"),
        (["Exp1", "Exp1", "--on", "nights"], "--on evaluates one file or experiment"),
        (["file/net.safetensors"], "file/net.safetensors: holds networks, but no results. Pass --on"),
        (["Exp1", "--on", "nowhere"], "nowhere: no such folder. Pass a folder of prepared npz files with --on."),
        (["Exp1", "--on", "file"], "file: no npz files here"),
        (["nowhere", "--on", "nights"], "nowhere: no such checkpoint."),
    ],
)
def test_what_cannot_be_evaluated_is_refused(place, arguments, message):
    code, _, err = call(main, arguments, place)
    assert code in (1, 2)
    assert message in err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": 3, "remarks": []}', '{"config": {}, "remarks": 1}'])
def test_an_evaluation_that_was_changed_is_refused_by_name(place, content):
    evaluate_alone(place, "on")
    (place / "on/evaluation.json").write_text(content)
    code, _, err = call(main, ["on"], place)
    assert code == 1
    assert err.startswith("on/evaluation.json: cannot be read")
    assert err.count("\n") == 1


def test_the_command_evaluates_in_a_folder_of_its_own(place):
    code, out, err = run([*REPORT, "file/net.safetensors", "--on", "nights"], place, PYTHONPATH=str(ROOT))
    assert code == 0, err
    assert "Protocol other_nights" in err
    assert (place / "net_on_nights/report.html").is_file()
