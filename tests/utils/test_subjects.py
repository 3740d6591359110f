import pytest

from utils.subjects import subject_of


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
