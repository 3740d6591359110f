import importlib.util

import pytest

from utils.board import open_board
from utils.errors import UserError


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed here")
def test_a_missing_tensorboard_is_asked_for_by_name_and_nothing_is_made(tmp_path):
    with pytest.raises(UserError, match=r"the package tensorboard is not installed. Run: pip install tensorboard"):
        open_board(tmp_path / "tensorboard", 1)
    assert list(tmp_path.iterdir()) == []
