import re

import pytest

from prepare_datasets.sleep_edf_files import find_table, missing_nights, read_records
from utils.errors import UserError


def test_the_published_files_are_those_of_mnes_table():
    records = read_records(find_table())
    assert len(records) == 306
    subjects = {record.subject for record in records}
    assert set(range(83)) - subjects == {39, 68, 69, 78, 79}
    assert missing_nights(records, subjects) == [
        "The data set has no night 2 of subject 13, 1 of subject 36, 1 of subject 52."
    ]
    assert len([record for record in records if record.subject < 20]) == 2 * 39
    assert ("SC4001E0-PSG.edf", "adabd3b01fc7bb75c523a974f38ee3ae4e57b40f") in {(r.name, r.sha1) for r in records}
    assert all(re.fullmatch("[0-9a-f]{40}", record.sha1) for record in records)


@pytest.mark.parametrize("text", ["", "subject,night,fname\n0,1,a.edf\n", "subject,night,sha,fname\nx,1,0,a.edf\n"])
def test_a_table_that_is_none_is_refused(tmp_path, text):
    table = tmp_path / "records.csv"
    table.write_text(text)
    with pytest.raises(UserError, match="records.csv: no table of files"):
        read_records(table)
    with pytest.raises(UserError, match="nowhere.csv: no table of files"):
        read_records(tmp_path / "nowhere.csv")
