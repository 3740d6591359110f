import json

import pytest

from utils.training_use import THIS, TrainingSets, Use, read_training_sets, training_overlap

SETS = {"train": {"SC4001E0": "1-1", "é": "2-2"}, "valid": {"SC4011E0": "3-3"}, "test": {"SC4021E0": "4-4"}}


@pytest.mark.parametrize(
    ("name", "checksum", "use"),
    [
        ("SC4001E0", "", "trained on this recording"),
        ("sc4001e0", "", "trained on this recording"),
        ("e\u0301", "", "trained on this recording"),
        ("renamed", "2-9", "trained on this recording"),
        ("SC4011E0", "", "selected on this recording"),
        ("SC4021E0", "", "tested on this recording"),
        ("SC4022E0", "9-9", "tested on other recordings of its subject"),
        ("another", "9-9", "did not use this recording"),
    ],
)
def test_a_night_is_known_by_name_signal_or_subject(name, checksum, use):
    assert str(TrainingSets(SETS).use_of(name, checksum)) == use


def test_weights_are_selected_on_the_test_set_where_there_is_no_validation_set():
    assert TrainingSets(SETS | {"valid": {}}).use_of("SC4021E0").purposes == ("tested", "selected")


def test_a_pattern_finds_the_subjects():
    sets = TrainingSets({"train": {"anna_1": "1"}, "valid": {}, "test": {"bert_1": "2"}}, "(.*)_")
    assert str(sets.use_of("anna_2")) == "trained on other recordings of its subject"
    assert sets.use_of("anna") == Use()


def test_subjects_of_initial_weights_are_known_under_another_pattern_than_that_of_training():
    initial = {"SC4001E0": "5-5", "anna_1": "6-6"}
    sets = TrainingSets({"train": {"lab01": "1"}, "valid": {}, "test": {"lab02": "2"}, "initial": initial}, r"(lab\d+)")
    assert str(sets.use_of("SC4002E0")) == "trained on other recordings of its subject"
    assert sets.use_of("anna_2") == Use()
    about = {
        "data": sets.sets,
        "config": {"data_loader": {"args": {"subject_pattern": r"(lab\d+)"}}},
        "initial_patterns": ["(.*)_"],
    }
    known = read_training_sets(None, about)
    assert str(known.use_of("anna_2")) == "trained on other recordings of its subject"
    assert known.learned_from({"anna_2": "9-9", "bert_1": "8-8"}, None) == ["anna_2"]


def test_a_recording_of_the_fold_is_learned_even_if_one_of_the_initial_weights_has_its_name():
    sets = TrainingSets({"train": {"night1": "1-1"}, "valid": {}, "test": {}, "initial": {"night1": "2-2"}})
    assert sets.learned_from({"a": "1-5", "b": "2-5", "c": "3-5"}, None) == ["a", "b"]


def test_overlap_is_counted_over_the_networks():
    trained, selected, tested = Use(("trained",)), Use(("tested", "selected")), Use(("tested",))
    assert training_overlap([tested, Use()]) == ""
    assert training_overlap([trained]) == "its network was trained on this recording"
    assert training_overlap([None]) == "what its network trained on is not known"
    assert training_overlap([trained, trained, selected, Use(("trained",), "others"), None]) == (
        f"2 of 5 networks were trained on {THIS}; 1 of 5 networks was trained on others; "
        f"1 of 5 networks was selected on {THIS}; what 1 of 5 networks trained on is not known"
    )


@pytest.mark.parametrize("content", [None, "[", "[]", "{}", '{"train": 1, "valid": 2, "test": 3}', '{"train": ["a"]}'])
def test_what_is_no_list_of_recordings_is_not_known(tmp_path, content):
    if content is not None:
        (tmp_path / "data.json").write_text(content)
    assert read_training_sets(tmp_path / "a.pth", None) is None


def test_recordings_are_read_beside_the_checkpoint(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps(SETS))
    about = {"config": {"data_loader": {"args": {"subject_pattern": "(.).*"}}}}
    assert read_training_sets(tmp_path / "a.pth", about) == TrainingSets(SETS, "(.).*")
    assert read_training_sets(tmp_path / "a.pth", {"config": {"arch": {}}}) == TrainingSets(SETS)


def test_a_file_is_known_by_its_checksum_under_any_name_and_another_file_of_its_name_is_not():
    sets = TrainingSets({"train": {"n1": "1a-2b-ofcc"}, "valid": {}, "test": {"n2": "3c-4d-ofdd"}})
    assert str(sets.use_of("renamed", "ofcc")) == "trained on this recording"
    assert "this recording" not in str(sets.use_of("n1", "ofee")).replace("did not use this recording", "")
    assert str(TrainingSets({"train": {"n1": "1a-2b"}, "valid": {}, "test": {}}).use_of("n1", "ofee")) == (
        "trained on this recording"
    )
