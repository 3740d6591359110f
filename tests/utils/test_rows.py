import pytest
import torch

from utils.rows import Rows


@pytest.mark.parametrize("lengths", [[3], [1, 1, 1, 1, 1], [128, 128, 7], [2, 0, 5], [0, 3], [0]])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_rows_come_back_one_after_the_other(lengths, shape):
    parts = [torch.randint(9, (n, *shape)) for n in lengths]
    rows = Rows()
    for part in parts:
        rows.add(part)
    assert torch.equal(rows.all(), torch.cat(parts))
    assert rows.all().dtype == torch.int64


def test_what_is_added_is_copied_and_what_comes_back_is_a_copy():
    rows, part = Rows(), torch.zeros(2)
    rows.add(part)
    part.fill_(1)
    rows.all().fill_(2)
    assert rows.all().tolist() == [0, 0]
