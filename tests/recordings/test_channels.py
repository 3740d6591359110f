import pytest

from recordings.channels import find_channel, find_derivation
from utils.errors import UserError


@pytest.mark.parametrize(
    ("labels", "name", "label"),
    [
        (["EEG Fpz-Cz", "eeg fpz-cz"], "EEG Fpz-Cz", "EEG Fpz-Cz"),
        (["EOG", "eegFPZ - cz"], "EEG Fpz-Cz", "eegFPZ - cz"),
        (["EOG", "Fpz-Cz"], "EEG Fpz-Cz", "Fpz-Cz"),
        (["EOG", "EEG C4-M1"], "C4-M1", "EEG C4-M1"),
        (["EEG Fpz-Cz", "Fpz - Cz"], "FPZ-CZ", "Fpz - Cz"),
    ],
)
def test_an_exact_name_goes_before_case_and_spaces_and_these_before_the_word_eeg(labels, name, label):
    assert find_channel(labels, name, "a.edf") == label
    assert find_derivation(labels, name, None, "a.edf") == (label,)


def test_the_aliases_of_a_data_set_come_after_the_exact_name():
    aliases = {"EEG C3-A2": ("EEG(sec)", "EEG2"), "EEG C4-A1": ("EEG",)}
    labels = ("EEG(SEC)", "EEG", "EEG C4-A1")
    assert find_channel(labels, "EEG C3-A2", "a.edf", aliases) == "EEG(SEC)"
    assert find_channel(labels, "EEG C4-A1", "a.edf", aliases) == "EEG C4-A1"
    assert find_channel(labels, "EEG", "a.edf", aliases) == "EEG"
    with pytest.raises(UserError, match=r"no channel 'EEG C3-A2' \(nor 'EEG\(sec\)', 'EEG2'\). The file has 'EOG'"):
        find_channel(["EOG"], "EEG C3-A2", "a.edf", aliases)


def test_the_word_eeg_alone_is_no_name_of_another_channel():
    with pytest.raises(UserError, match="no channel 'C4'"):
        find_channel(["EEG", "eeg "], "C4", "a.edf")
    assert find_channel(["EEG", "C4"], "eeg", "a.edf") == "EEG"


@pytest.mark.parametrize(
    ("labels", "name", "pair"),
    [
        (["Cz", "Fpz"], "Fpz-Cz", ("Fpz", "Cz")),
        (["Cz", "Fpz"], "EEG Fpz-Cz", ("Fpz", "Cz")),
        (["EEG Fpz", "EEG Cz"], "EEG Fpz-Cz", ("EEG Fpz", "EEG Cz")),
        (["C4", "a1 "], "C4 - A1", ("C4", "a1 ")),
        (["C4-Ref", "M1-Ref"], "C4-Ref-M1-Ref", ("C4-Ref", "M1-Ref")),
    ],
)
def test_a_name_with_a_minus_is_the_difference_of_two_channels(labels, name, pair):
    assert find_derivation(labels, name, None, "a.edf") == pair


def test_a_channel_of_that_name_goes_before_the_difference():
    assert find_derivation(["Fpz", "Cz", "fpz-cz"], "Fpz-Cz", None, "a.edf") == ("fpz-cz",)


def test_a_reference_is_a_channel_of_its_own():
    assert find_derivation(["M1", "EEG C4", "C4-M1"], "C4", "M1", "a.edf") == ("EEG C4", "M1")
    with pytest.raises(UserError, match="a.edf: no channel 'M2'. The file has 'M1', 'C4'. Pass one with --select_ch."):
        find_derivation(["M1", "C4"], "C4", "M2", "a.edf")


@pytest.mark.parametrize("name", ["Fpz-Cz", "-Cz", "Fpz-", "-", "Fpz-Fpz"])
def test_half_a_difference_is_answered_with_what_there_is(name):
    with pytest.raises(UserError, match=f"a.edf: no channel '{name}'. The file has 'Fpz', 'Pz'"):
        find_derivation(["Fpz", "Pz"], name, None, "a.edf")


def test_a_name_of_two_channels_is_refused_also_as_a_side():
    with pytest.raises(UserError, match="2 channels go by 'fpz' \\('Fpz', 'FPZ'\\)"):
        find_derivation(["Fpz", "FPZ", "Cz"], "fpz", None, "a.edf")
    with pytest.raises(UserError, match="no channel 'fpz-Cz'"):
        find_derivation(["Fpz", "FPZ", "Cz"], "fpz-Cz", None, "a.edf")
