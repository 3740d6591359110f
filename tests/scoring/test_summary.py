import csv
import json

import numpy as np
import pytest

from scoring.night import Night, Scoring, result_files, write_night
from scoring.summary import write_summary
from utils.errors import UserError


def write(folder, name, stages, **changes):
    stages = np.array(stages)
    probabilities = np.where(np.arange(5) == stages[:, None], 0.6, 0.1).astype(np.float32)
    night = Night(name, "EEG", None, Scoring(stages, probabilities), **changes)
    write_night(result_files(folder, name), night, {"scoring": {"channel": "C4", "reference": "M1"}})


def rows(folder):
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_says_in_percent_and_minutes_what_the_json_file_says(tmp_path):
    write(tmp_path, "a, b", [-1, 0, 2, 4, 2, 0], in_bed=(0, 6), hypnogram=np.array([0, 0, 2, 4, -1, 2]))
    (row,) = rows_of(tmp_path)
    assert (row["name"], row["channel"], row["start_time"]) == ("a, b", "C4-M1", "")
    assert (row["n_sleep_epochs"], row["n_unscored"], row["minutes_unscored"]) == ("6", "1", "0.5")
    assert (row["sleep_efficiency_percent"], row["percent_REM"], row["waso_min"]) == ("50.0", "33.3333", "0.5")
    assert (row["persistent_sleep_latency_min"], row["mean_confidence_percent"]) == ("", "60.0")
    assert (row["n_compared"], row["accuracy_percent"]) == ("4", "75.0")
    assert "sleep_efficiency" not in row


def rows_of(folder):
    write_summary(folder)
    return rows(folder)


def test_every_night_in_the_folder_has_a_row_and_other_files_have_none(tmp_path):
    write_summary(tmp_path)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path, "b", [0, 2])
    write(tmp_path, "a", [0, 2, 4])
    (tmp_path / "other.json").write_text('{"scoring": {}}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / ".writing-c.json").write_text((tmp_path / "a.json").read_text())
    assert [row["name"] for row in rows_of(tmp_path)] == ["a", "b"]
    (tmp_path / "a.json").unlink()
    assert [row["name"] for row in rows_of(tmp_path)] == ["b"]


def test_a_night_of_an_earlier_version_has_what_that_version_wrote(tmp_path):
    write(tmp_path, "a", [0, 2, 4])
    said = json.loads((tmp_path / "a.json").read_text())
    del said["sleep_statistics"]["n_awakenings"], said["n_without_signal"]
    (tmp_path / "a.json").write_text(json.dumps(said))
    (row,) = rows_of(tmp_path)
    assert (row["n_awakenings"], row["n_without_signal"], row["total_sleep_time_min"]) == ("", "", "1.0")


def test_a_table_that_is_no_summary_is_never_replaced(tmp_path):
    write(tmp_path, "a", [0, 2, 4])
    (tmp_path / "summary.csv").write_text("name,age\n")
    with pytest.raises(UserError, match="summary.csv: there already, and not from scored nights. Pass"):
        write_summary(tmp_path)
    assert (tmp_path / "summary.csv").read_text() == "name,age\n"
