import pytest

from utils.nested import differences, merge, read_json


def test_merging_leaves_both_sides_as_they_were():
    base, changes = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}
    assert merge(base, changes) == {"a": {"b": 3, "c": 2}, "d": 4}
    assert (base, changes) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4})


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ({"type": "A", "args": {"x": 1}}, {"type": "B"}, {"type": "B"}),
        ({"type": "A", "args": {"x": 1}}, {"args": {"y": 2}}, {"type": "A", "args": {"x": 1, "y": 2}}),
        ({"args": {"x": 1}}, {"type": "B"}, {"type": "B", "args": {"x": 1}}),
        ({"type": "A"}, None, None),
        (None, {"type": "A"}, {"type": "A"}),
        ([1, 2], [3], [3]),
    ],
)
def test_components_are_merged_unless_their_types_differ(old, new, merged):
    assert merge({"key": old}, {"key": new}) == {"key": merged}


def test_differences_are_told_by_key():
    old = {"a": {"b": 1, "c": [1]}, "d": None, "e": "x", "same": 0}
    new = {"a": {"b": 2, "c": [1, 2]}, "d": {"f": 1}, "e": "x", "same": 0, "g": True}
    assert differences(old, new) == ["a.b: 1 -> 2", "a.c: [1] -> [1, 2]", 'd: null -> {"f": 1}', "g: null -> true"]
    assert differences(old, old) == []


def test_reading_does_not_need_a_whole_configuration(tmp_path):
    (tmp_path / "base.json").write_text('{"seed": 1, "trainer": {"epochs": 2}}')
    (tmp_path / "mine.json").write_text('{"extends": "base.json", "trainer": {"verbosity": 0}}')
    assert read_json(tmp_path / "mine.json") == {"seed": 1, "trainer": {"epochs": 2, "verbosity": 0}}
