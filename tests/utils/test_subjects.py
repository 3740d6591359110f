import pytest

from utils.subjects import nights_pattern, subject_of


@pytest.mark.parametrize(
    ("recording", "subject"),
    [
        ("SC4001E0", "00"),
        ("SC4002E0", "00"),
        ("SC4131E0", "13"),
        ("sc4131e0", "13"),
        ("ST7011j0", "ST701"),
        ("Jose\u0301", "Jos\u00e9"),
        ("SC4822G0", "82"),
        ("ST7011J0", "ST701"),
        ("ST7012J0", "ST701"),
        ("shhs1-200001", "shhs1-200001"),
        ("SC4001E0-again", "SC4001E0-again"),
        ("xSC4001E0", "xSC4001E0"),
        ("night 3", "night 3"),
    ],
)
def test_the_subject_follows_from_the_name(recording, subject):
    assert subject_of(recording) == subject


@pytest.mark.parametrize(
    ("pattern", "recording", "subject"),
    [(r"^p(\d+)", "p07_night2", "07"), (r"sub-(\w+?)_", "study_sub-ab_ses-1", "ab"), (r"SC4\d\d(\d)", "SC4002E0", "2")],
)
def test_a_pattern_finds_the_subject_anywhere_in_the_name(pattern, recording, subject):
    assert subject_of(recording, pattern) == subject


@pytest.mark.parametrize(
    ("recordings", "pattern", "subjects"),
    [
        (["subj1_night1", "subj1_night2", "subj2_night1"], r"^(.+)_night\d+$", ["subj1", "subj1", "subj2"]),
        (["P01N1", "P01N2", "P02N1", "P02N2"], r"^(.+)N\d+$", ["P01", "P01", "P02", "P02"]),
        (["a-1", "a-2", "b-1"], r"^(.+)\-\d+$", ["a", "a", "b"]),
    ],
)
def test_names_that_look_like_several_nights_of_a_subject_give_the_pattern_that_groups_them(
    recordings, pattern, subjects
):
    assert nights_pattern(recordings) == pattern
    assert [subject_of(name, pattern) for name in recordings] == subjects


@pytest.mark.parametrize(
    "recordings",
    [
        ["p01", "p02", "p03"],
        ["1001", "1002", "2001"],
        ["shhs1-200001", "shhs1-200002"],
        ["night1", "night2"],
        ["anna", "bert"],
        ["a_2019", "b_2020"],
        ["subj1_night1", "subj1_night2", "anna"],
        ["subj1_night1", "subj1_visit1", "subj2_night1"],
    ],
)
def test_other_names_give_no_pattern(recordings):
    assert nights_pattern(recordings) == ""
