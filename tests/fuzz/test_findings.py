"""What fuzzing has found, and the sound files that it begins with."""

from pathlib import Path

import pytest
from readers import READERS

from utils.errors import UserError

FINDINGS = sorted((Path(__file__).parent / "findings").glob("*/*"))


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_finding_is_read_or_refused_by_name(path):
    read, _, _ = READERS[path.parent.name]
    try:
        read(path)
    except UserError as error:
        assert path.name in str(error)  # noqa: PT017 (either will do)


@pytest.mark.parametrize("name", READERS)
def test_the_files_that_fuzzing_begins_with_are_refused_for_no_damage(name, tmp_path):
    read, write_seeds, _ = READERS[name]
    write_seeds(tmp_path)
    n_read = 0
    for path in sorted(tmp_path.iterdir()):
        try:
            read(path)
            n_read += 1
        except UserError as error:
            assert path.name in str(error)  # noqa: PT017
    assert n_read > 0
