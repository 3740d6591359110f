import json
import re

import pytest

from recordings.stage_names import read_stage_names, resolve
from utils.errors import UserError

NAMES = {
    0: ["W", "w", "Wake", "WAKE", "awake", "Sleep stage W", "Stage W", "Sleep_stage_W", "SLEEP-S0", "stage 0", "S0",
        "Sleep stage W@@EEG F4-A1"],
    1: ["N1", "S1", "Stage 1", "Sleep stage 1", "Sleep stage N1", "Stage 1 sleep", "NREM1", "NREM 1", "SLEEP-S1",
        "NonREM1", "Stage I", "Non-REM 1"],
    2: ["N2", "n2", "S2", "Stage 2", "Sleep stage 2", "Sleep stage N2", "Stage 2 sleep", "NREM-2", "SLEEP-S2",
        "Stage II", "NonREM 2", "S II"],
    3: ["N3", "S3", "S4", "N4", "Stage 3", "Stage 4 sleep", "Sleep stage 3", "Sleep stage 4", "Sleep stage N3", "SWS",
        "Stage III", "stage IV"],
    4: ["R", "REM", "rem", "Sleep stage R", "Sleep stage REM", "REM sleep", "SLEEP-REM", "Stage R"],
    -1: ["?", "Sleep stage ?", "Unscored", "SLEEP-UNSCORED", "Movement time", "Movement", "MT", "SLEEP-MT", "ART",
         "UNS", "UNKNOWN", "OUT_OF_BOUNDS", "n/a", "nan", "Artifact"],
    None: ["Lights off", "LIGHTS ON", "lights_off"],
}  # fmt: skip


@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage, names in NAMES.items() for name in names])
def test_the_names_of_both_rules_are_known(stage, name):
    assert resolve([name], "here") == ({name: stage}, ())


RK = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 3, "5": 4, "6": -1, "9": -1, "-1": -1, "-2": -1}
AASM = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "-1": -1, "-2": -1}


def test_numbers_are_the_codes_of_the_rules_that_they_fit():
    told = "codes: -2 and -1 and 6 and 9 are not scored, 0 is W, 1 is N1, 2 is N2, 3 and 4 are N3, 5 is REM"
    assert resolve(RK, "here") == (RK, (told,))
    told = "codes: -2 and -1 are not scored, 0 is W, 1 is N1, 2 is N2, 3 is N3, 4 is REM"
    assert resolve(AASM, "here") == (AASM, (told,))
    assert resolve(["0", "4"], "here", rk=True) == ({"0": 0, "4": 3}, ("codes: 0 is W, 4 is N3",))
    assert resolve("0123520", "here")[0] == {"0": 0, "1": 1, "2": 2, "3": 3, "5": 4}


def test_named_stages_decide_what_a_code_is():
    assert resolve(["W", "1", "2", "3", "4", "R"], "here")[0] == {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4}
    assert resolve(["W", "1", "2", "3", "R"], "here")[0]["3"] == 3
    assert resolve(["W", "1", "2", "N3", "4", "9"], "here")[0]["4"] == 4


NIGHT = "0" * 20 + "11" + "2" * 40 + "3" * 20 + "22" + "4" * 20 + "0"
NIGHT_FROM_1 = "0" * 6 + "11222" + "3" * 40 + "4" * 14 + "333" + "5" * 12 + "133" + "5" * 9 + "1" * 6 + "0" * 6
RK_NAP = "0" * 10 + "1" * 5 + "2" * 20 + "334443344434" + "2" * 10 + "0" * 20
REM_IS_0 = "4" * 8 + "11" + "2" * 20 + "3" * 14 + "22" + "0" * 12 + "1122" + "0" * 9 + "4" * 12
REM_IS_1 = "0" * 8 + "22" + "3" * 20 + "4" * 14 + "33" + "1" * 12 + "00" + "3" * 9 + "1" * 9 + "0" * 12
AASM_STAGES = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "REM"}
RK_STAGES = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "REM"}
FROM_1 = {"0": "?", "1": "W", "2": "N1", "3": "N2", "4": "N3", "5": "REM"}


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        (NIGHT + "5", {"4": "REM", "5": "?"}, {"4": "N3", "5": "REM"}),
        (NIGHT + "5" * 20, {"4": "REM", "5": "?"}, {"4": "N3", "5": "REM"}),  # 4 never beside 3
        (NIGHT + "9", {"4": "REM"}, {"4": "N3"}),
        (NIGHT + "6", {"4": "REM"}, {"4": "N3"}),
        (NIGHT.replace("4", "3") + "5", {"5": "?"}, {"5": "REM"}),
        (NIGHT.replace("4", "3"), {"3": "N3"}, {"3": "REM"}),
        ("00112200", {"2": "N2"}, {"2": "REM"}),
        ([*NIGHT, "N3", "R"], {"4": "N3"}, {"4": "?"}),
        ([*NIGHT, "W"], {"0": "W"}, {"0": "?"}),
        ([*"12345", "R", "W"], {"5": "?"}, {"5": "REM"}),
        (
            "11233345",
            {"1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "REM"},
            {"1": "W", "2": "N1", "3": "N2", "4": "N3", "5": "REM"},
        ),
        (NIGHT_FROM_1, RK_STAGES, FROM_1),
        (NIGHT_FROM_1.replace("111", "1"), RK_STAGES, FROM_1),  # 5 mostly follows 3
        (RK_NAP, AASM_STAGES, AASM_STAGES | {"4": "N3"}),
        (RK_NAP[: RK_NAP.index("4") + 3], AASM_STAGES, AASM_STAGES | {"4": "N3"}),  # ends in its first 4
        (REM_IS_1, AASM_STAGES, AASM_STAGES | {"4": "N3"}),
        (REM_IS_0, AASM_STAGES, AASM_STAGES | {"0": "REM", "4": "W"}),
        ([f"Stage {x}" for x in NIGHT], {"Stage 4": "N3"}, {"Stage 4": "REM"}),
        ([f"stage_{x}" for x in NIGHT], {"stage_4": "N3"}, {"stage_4": "REM"}),
        ([f"Sleep stage {x}" for x in NIGHT], {"Sleep stage 4": "N3"}, {"Sleep stage 4": "REM"}),
        ([f"Stage {x}" for x in NIGHT + "3420"], {"Stage 4": "N3"}, {"Stage 4": "REM"}),  # one of 4 beside 3
        ([f"S{x}".replace("S0", "Wake") for x in NIGHT], {"S4": "N3"}, {"S4": "REM"}),
    ],
)
def test_codes_with_two_readings_are_refused_with_the_json_that_settles_it(tmp_path, names, first, second):
    with pytest.raises(UserError, match="^here: its codes .* can be read in two ways.* --stage_names: ") as error:
        resolve(names, "here")
    readings = re.findall(r"\{.*?\}", str(error.value))
    assert [json.loads(reading) for reading in readings] == [first, second]
    for reading in readings:
        (tmp_path / "names.json").write_text(reading)
        given = read_stage_names(tmp_path / "names.json")
        assert resolve(names, "here", given)[0].items() >= given.items()


def test_nights_of_both_rules_are_read_by_their_order():
    assert resolve(NIGHT, "here")[0]["4"] == 4
    rk_night = "0" * 10 + "1" * 6 + "2" * 20 + "34433443" + "22" + "5" * 9 + "1" + "2" * 9 + "5" * 9 + "0" * 9
    awake_once = rk_night.replace("51", "501")
    assert resolve(awake_once, "here")[0] == {"0": 0, "1": 1, "2": 2, "3": 3, "4": 3, "5": 4}
    assert resolve(rk_night.replace("1" * 6, "11"), "here")[0]["4"] == 3


def test_a_numbered_stage_4_that_is_n3_is_told_where_no_other_name_is_rem():
    assert resolve([f"Stage {x}" for x in RK_NAP], "here") == (
        {"Stage 0": 0, "Stage 1": 1, "Stage 2": 2, "Stage 3": 3, "Stage 4": 3},
        ("codes: Stage 4 is N3",),
    )
    sleep_edf = [f"Sleep stage {x}" for x in ["W", *"12342", "R", *"24R"]]
    assert resolve(sleep_edf, "here") == (
        {"Sleep stage W": 0, "Sleep stage 1": 1, "Sleep stage 2": 2, "Sleep stage 3": 3, "Sleep stage 4": 3,
         "Sleep stage R": 4},
        (),
    )  # fmt: skip
    assert resolve([f"Sleep stage {x}" for x in "0124"], "here", {"Sleep stage 4": 4})[0]["Sleep stage 4"] == 4


def test_numbers_are_whole_however_they_are_written():
    assert resolve(["0.", "2.0", "5.000000000000000000e+00", "-1.0", "03"], "here")[0] == {
        "0.": 0, "2.0": 2, "5.000000000000000000e+00": 4, "-1.0": -1, "03": 3,
    }  # fmt: skip


def test_a_4_in_a_name_is_a_stage_and_no_code():
    assert resolve(["Stage 4", "0"], "here") == ({"Stage 4": 3, "0": 0}, ("codes: 0 is W",))


@pytest.mark.parametrize(
    "name", ["", "7", "2.5", "inf", "sleep", "Stage", "Sleep stage", "N5", "Sleep stage 5", "NREM", "Light", "*"]
)
def test_what_is_not_known_is_not_guessed(name):
    with pytest.raises(UserError, match="here: unknown stages"):
        resolve([name], "here")


def test_unknown_names_are_listed_with_their_counts_and_the_json_that_maps_them(tmp_path):
    names = ["W"] * 5 + ["Schlaf A"] * 2 + ['the "same"'] * 3
    with pytest.raises(UserError) as error:
        resolve(names, "night.csv")
    text = str(error.value)
    assert text.startswith("night.csv: unknown stages 'the \"same\"' (3), 'Schlaf A' (2). ")
    mapped = json.loads(re.search(r"\{.*\}", text)[0])
    assert mapped == {'the "same"': None, "Schlaf A": None}
    file = tmp_path / "names.json"
    file.write_text(json.dumps(mapped | {"Schlaf A": "N2"}))
    stages, _ = resolve(names, "night.csv", read_stage_names(file))
    assert stages == {"W": 0, "Schlaf A": 2, 'the "same"': None}


def test_of_many_unknown_names_the_most_frequent_are_listed():
    names = [f"note {i}" for i in range(500) for _ in range(1 + (i == 77))]
    with pytest.raises(UserError, match=r"unknown stages 'note 77' \(2\), 'note 0' \(1\), .* and 480 more. ") as error:
        resolve(names, "here")
    assert len(str(error.value)) < 1500


def test_what_the_user_says_goes_before_what_is_known():
    assert resolve(["N1", "5", "4", "N2"], "here", {"N1": 0, "5": 0, "4": 4})[0] == {"N1": 0, "5": 0, "4": 4, "N2": 2}
    assert resolve(["0", "4", "5"], "here", {"5": None}) == (
        {"0": 0, "4": 4, "5": None},
        ("codes: 0 is W, 4 is REM, 5 is no stage",),
    )


def test_a_star_stands_for_all_that_is_not_known():
    assert resolve(["N1", "snores", "coughs"], "here", {"*": None})[0] == {"N1": 1, "snores": None, "coughs": None}
    assert resolve(["N1", "snores"], "here", {"*": -1})[0] == {"N1": 1, "snores": -1}


def test_stage_names_are_read_from_json(tmp_path):
    file = tmp_path / "names.json"
    file.write_text(
        json.dumps({" A ": "W", "B": "N1", "C": "n2", "D": "N3", "E": "REM", "F": "?", "G": None}), encoding="utf-8-sig"
    )
    assert read_stage_names(file) == {"A": 0, "B": 1, "C": 2, "D": 3, "E": 4, "F": -1, "G": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "names.json: no JSON"),
        ("\xff", "names.json: no JSON"),
        ('["N1"]', 'no JSON object such as {"Stage V": "REM", "Lights off": null}'),
        ('{"A": "N5"}', r"'A' is said to be \"N5\". It can be W, N1, N2, N3, REM, . \(not scored\) or null"),
        ('{"A": 2}', "'A' is said to be 2. It can be W"),
        ('{"A": {"N1": 3}}', "'A' is said to be {\"N1\": 3}"),
    ],
)
def test_stage_names_that_say_something_else_are_refused(tmp_path, text, message):
    file = tmp_path / "names.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        read_stage_names(file)
    with pytest.raises(UserError, match="nowhere.json: No such file or directory"):
        read_stage_names(tmp_path / "nowhere.json")
