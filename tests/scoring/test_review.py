import csv
import datetime as dt
import json

import edfio
import mne
import numpy as np
import pytest
from checkpoints import write_experiment
from scipy.signal import butter, sosfiltfilt
from scripts import ROOT, call

import predict
from prepare_datasets import prepare_recordings
from recordings.hypnograms import read_hypnogram
from scoring.night import REVIEW, Night, Scoring, page_of, result_files, write_night
from scoring.review import packed, write_index, write_review
from utils.errors import UserError

START = dt.datetime(2020, 1, 2, 23, 50, 30)
N, FS = 40, 100
MARKUP = "<img src=x onerror=alert(1)>&'\"{{n}}#?%41"
NAMES = ("W", "N1", "N2", "N3", "REM", "?")


def eeg(n, seed=0):
    """Noise whose size and colour change from sleep epoch to sleep epoch, in microvolts."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 1, (n, 30 * FS)) * rng.uniform(5, 60, (n, 1))
    signal[::2] = np.cumsum(signal[::2], axis=1) / 5
    return np.clip(signal, -1000, 1000).ravel()


def write_edf(path, signal, start=START):
    one = edfio.EdfSignal(signal, FS, label="EEG Fpz-Cz", physical_dimension="uV", physical_range=(-1000.0, 1000.0))
    recording = edfio.Recording(startdate=start.date())
    edfio.Edf([one], recording=recording, starttime=start.time(), data_record_duration=1).write(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A night with a flat part and a scorer's hypnogram, scored with its page, and one whose name holds markup."""
    place = tmp_path_factory.mktemp("review")
    write_experiment(place / "saved", n_folds=1)
    signal = eeg(N)
    signal[5 * 30 * FS : 8 * 30 * FS] = 7
    write_edf(place / "night 1.edf", signal)
    write_edf(place / f"{MARKUP}.edf", eeg(4))
    (place / "scorer.txt").write_text("\n".join(np.random.default_rng(1).choice(NAMES, N)))
    for name, more in (("night 1", ["--hypnogram", "scorer.txt"]), (MARKUP, [])):
        arguments = ["--checkpoint", "saved", "--output_dir", "scored", "--review", f"{name}.edf", *more]
        code, _, err = call(predict.main, arguments, place)
        assert (code, err) == (0, "")
    return place


@pytest.fixture
def page(browser, place):
    """The page of the first night, opened for the first time."""
    return ready(browser.open(place / "scored/night 1.html"))


def ready(page):
    """Wait until the signal is there."""
    page.wait_for_selector("#signal:not([aria-busy])")
    return page


def keys(page, *names):
    for name in names:
        page.keyboard.press(name)


def written(page, name):
    return page.inner_text(f"#{name}")


def save(page, what, folder):
    with page.expect_download() as download:
        page.click(f"#save-{what}")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stages_of(path):
    return [row["stage"] for row in rows(path)]


def test_a_night_is_corrected_saved_and_read_back_by_all_who_shall_read_it(browser, page, place, tmp_path):
    stages = stages_of(place / "scored/night 1.csv")
    assert stages[5:8] == ["?"] * 3
    assert written(page, "time") == "23:50:30"
    keys(page, "w", "1", "2", "3", "r", "2", "?", "ArrowRight", "w")
    corrected = [*NAMES[:5], "N2", "?", stages[7], "W", *stages[9:]]
    n_changed = sum(map(str.__ne__, stages, corrected))
    assert written(page, "time") == "23:55:00"
    assert written(page, "n-changed") == str(n_changed)
    assert written(page, "n-looked") == "10 of 40"
    total = 0.5 * sum(stage not in "W?" for stage in corrected)
    assert page.inner_text("[data-of=corrected][data-statistic=total]") == f"{total:.1f}"

    table, edf, lines = (save(page, what, tmp_path) for what in ("csv", "edf", "lines"))
    assert [path.name for path in (table, edf, lines)] == [
        "night 1_reviewed.csv", "night 1_reviewed-Hypnogram.edf", "night 1_reviewed.txt"
    ]  # fmt: skip
    assert stages_of(table) == corrected
    assert [row["review"] for row in rows(table)[4:11]] == [
        "changed" if stages[at] != corrected[at] else "looked at" if at < 10 else "" for at in range(4, 11)
    ]
    codes = [NAMES.index(stage) if stage != "?" else -1 for stage in corrected]
    assert lines.read_text() == "".join(f"{code}\n" for code in codes)
    assert read_hypnogram(table, N).tolist() == read_hypnogram(edf, N, START.isoformat()).tolist() == codes
    annotations = mne.read_annotations(edf)
    assert annotations.description[:3].tolist() == ["Sleep stage W", "Sleep stage N1", "Sleep stage N2"]
    reviewed = edfio.read_edf(edf)
    assert dt.datetime.combine(reviewed.startdate, reviewed.starttime) == START
    assert reviewed.annotations[-1].onset + reviewed.annotations[-1].duration == 30 * N

    for number, file in enumerate((table, edf)):
        scored = tmp_path / f"scored {number}"
        arguments = [
            "--checkpoint",
            place / "saved",
            "--output_dir",
            scored,
            place / "night 1.edf",
            "--hypnogram",
            file,
        ]
        assert call(predict.main, arguments, tmp_path)[0] == 0
        both = [a == b for a, b in zip(stages, corrected, strict=True) if "?" not in (a, b)]
        agreement = json.loads((scored / "night 1.json").read_text())["agreement"]
        assert (agreement["n"], agreement["accuracy"]) == (len(both), pytest.approx(np.mean(both)))
        nights = tmp_path / f"nights {number}"
        nights.mkdir()
        (nights / "night 1-PSG.edf").symlink_to(place / "night 1.edf")
        (nights / file.name).symlink_to(file)
        arguments = ["--data_dir", nights, "--output_dir", nights / "npz", "--select_ch", "EEG Fpz-Cz", "--jobs", 1]
        code, _, err = call(prepare_recordings.main, arguments, tmp_path)
        assert (code, err) == (0, "")
        with np.load(nights / "npz/night 1.npz") as night:
            prepared = night["y"].tolist()
        assert prepared == [code for code in codes if code >= 0]
    assert browser.complaints() == []


def test_a_night_that_was_cut_where_its_scorer_begins_is_read_back_in_its_place(browser, place, tmp_path):
    """The scorer's sleep epochs begin 12.5 s after the recording, and so do those of the corrected files."""
    scorer = "onset,duration,stage\n" + "".join(f"{12.5 + 30 * i},30,N2\n" for i in range(9))
    (tmp_path / "scorer.csv").write_text(scorer)
    common = ["--checkpoint", place / "saved", place / "night 1.edf", "--review", "--output_dir"]
    assert call(predict.main, [*common, tmp_path / "a", "--hypnogram", "scorer.csv"], tmp_path)[0] == 0
    page = ready(browser.open(tmp_path / "a/night 1.html"))
    table, edf = save(page, "csv", tmp_path), save(page, "edf", tmp_path)
    assert [row["onset"] for row in rows(table)[:2]] == ["12.5", "42.5"]
    assert edf.read_bytes() == (tmp_path / "a/night 1-Hypnogram.edf").read_bytes()
    assert mne.read_annotations(edf).onset[0] == 12.5
    for file in (table, edf):
        scored = tmp_path / file.stem
        assert call(predict.main, [*common, scored, "--hypnogram", file], tmp_path)[0] == 0
        assert json.loads((scored / "night 1.json").read_text())["agreement"]["accuracy"] == 1


def test_files_without_a_correction_are_those_of_predict(page, place, tmp_path):
    table, edf = save(page, "csv", tmp_path), save(page, "edf", tmp_path)
    lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
    assert lines == (place / "scored/night 1.csv").read_text().splitlines()
    assert edf.read_bytes() == (place / "scored/night 1-Hypnogram.edf").read_bytes()


@pytest.mark.parametrize("in_bed", [None, (0, 29)])
def test_figures_are_those_of_the_json_file(browser, tmp_path, in_bed):
    hypnogram = np.random.default_rng(3).integers(-1, 5, 30)
    stages = np.r_[[-1, -1, 0, 0, 0, 1], np.arange(20) % 5, 0, -1, -1, -1]
    page = ready(browser.open(write_made(tmp_path, stages=stages, in_bed=in_bed, hypnogram=hypnogram)))
    description = json.loads((tmp_path / "made.json").read_text())
    figures, agreement = description["sleep_statistics"], description["agreement"]
    for of in ("network", "corrected"):
        for statistic, name in {
            "inBed": "time_in_bed_min",
            "total": "total_sleep_time_min",
            "sleepLatency": "sleep_latency_min",
            "remLatency": "rem_latency_min",
            "wakeAfterOnset": "waso_min",
        }.items():
            shown = page.inner_text(f"[data-of={of}][data-statistic={statistic}]")
            assert shown == ("–" if figures[name] is None else f"{figures[name]:.1f}")
        shown = page.inner_text(f"[data-of={of}][data-statistic=efficiency]")
        assert shown == f"{100 * figures['sleep_efficiency']:.1f}"
        for stage, name in enumerate(NAMES[:5]):
            share = "" if name == "W" else f" ({figures[f'percent_{name}']:.1f}\u00a0%)"
            shown = page.inner_text(f"[data-of={of}][data-stage-row='{stage}']")
            assert shown == f"{figures[f'minutes_{name}']:.1f}{share}"
        shown = page.inner_text(f"[data-agreement={of}]")
        assert shown == f"{100 * agreement['accuracy']:.1f} %, {agreement['kappa']:.2f}"
    assert int(written(page, "n-differences")) == agreement["n"] - round(agreement["n"] * agreement["accuracy"])


def test_u_goes_to_the_least_certain_that_was_not_looked_at(page, place):
    confidence = [float(row["confidence"] or 2) for row in rows(place / "scored/night 1.csv")]
    for at in np.argsort(confidence)[: N - 3]:
        keys(page, "u")
        assert f"sleep epoch {at + 1} of {N}" in written(page, "about")
    keys(page, "u")
    assert "Every scored sleep epoch was looked at." == written(page, "hint")
    assert written(page, "n-looked") == f"{N - 3} of {N}"


@pytest.mark.parametrize(
    ("key", "code", "stage"),
    [("ц", "KeyW", "W"), ("W", "KeyZ", "W"), ("?", "Minus", "?"), ("0", "Digit0", "W"), ("5", "Digit5", "REM")],
)
def test_keys_of_other_keyboards_set_a_stage(page, key, code, stage):
    press = "(key) => document.body.dispatchEvent(new KeyboardEvent('keydown', { ...key, bubbles: true }))"
    page.evaluate(press, {"key": key, "code": code})
    assert written(page, "about").startswith("sleep epoch 2 of")
    keys(page, "ArrowLeft")
    assert written(page, "stage") == {"?": "not scored"}.get(stage, stage)


@pytest.mark.parametrize("key", ["u", "w"])
def test_a_key_that_is_held_looks_at_one_sleep_epoch(page, key):
    page.keyboard.down(key)
    before = written(page, "n-looked")
    for _ in range(3):
        page.keyboard.down(key)
    assert written(page, "n-looked") == before


def test_after_a_stage_the_page_can_go_to_the_least_certain(page, place):
    confidence = [float(row["confidence"] or 2) for row in rows(place / "scored/night 1.csv")]
    page.click("#to-least-certain")
    keys(page, "u", "w")
    assert f"sleep epoch {np.argsort(confidence)[1] + 1} of" in written(page, "about")


def test_d_goes_to_the_next_difference_and_a_click_to_what_is_below_it(page, place):
    scorer, stages = (place / "scorer.txt").read_text().split("\n"), stages_of(place / "scored/night 1.csv")
    different = [at for at in range(N) if "?" not in (scorer[at], stages[at]) and scorer[at] != stages[at]]
    for at in [at for at in different if at > 0][:3]:
        keys(page, "d")
        assert f"sleep epoch {at + 1} of {N}" in written(page, "about")
    box = page.locator("#place").bounding_box()
    page.mouse.click(box["x"] + 46 + (box["width"] - 56) * 30.5 / N, box["y"] + 60)
    assert f"sleep epoch 31 of {N}" in written(page, "about")
    keys(page, "ArrowLeft", "Shift+ArrowLeft")
    assert f"sleep epoch 20 of {N}" in written(page, "about")


def test_undo_and_redo_go_back_to_where_the_change_was(page, place, tmp_path):
    stages = stages_of(place / "scored/night 1.csv")
    others = ["w" if stage != "W" else "2" for stage in stages]
    keys(page, others[0], others[1], "ArrowRight", "ArrowRight", "Control+z")
    assert written(page, "about").startswith("sleep epoch 2 of")
    assert written(page, "stage") == stages[1]
    assert written(page, "n-changed") == "1"
    keys(page, "Control+z", "Control+z")
    assert written(page, "n-changed") == "0"
    assert page.is_disabled("#undo")
    keys(page, "Control+y", "Control+Shift+z")
    assert written(page, "n-changed") == "2"
    keys(page, "Control+z", "Control+z", others[2])
    assert page.is_disabled("#redo")


def test_work_survives_closing_and_is_discarded_only_after_a_question(page, tmp_path):
    keys(page, "u", "w", "u", "2", "3")
    before = [written(page, name) for name in ("n-changed", "n-looked", "time")]
    stages = stages_of(save(page, "csv", tmp_path))
    keys(page, "ArrowRight")
    again = page.context.new_page()
    again.goto(page.url)
    ready(again)
    page.close()
    assert [written(again, "n-changed"), stages_of(save(again, "csv", tmp_path))] == [before[0], stages]
    asked = []
    again.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    again.click("#reset")
    assert written(again, "n-changed") == before[0]
    again.once("dialog", lambda dialog: dialog.accept())
    again.click("#reset")
    assert written(again, "n-changed") == "0"
    assert "Discard" in asked[0]
    again.reload()
    assert written(again, "n-changed") == "0"


def test_two_windows_of_one_night_show_the_same_work(page):
    other = page.context.new_page()
    other.goto(page.url)
    keys(ready(other), "2", "w", "3")
    page.wait_for_selector(f"#n-changed:text-is('{written(other, 'n-changed')}')")


def test_work_that_could_not_be_kept_is_not_replaced_by_that_of_another_window(page):
    other = page.context.new_page()
    other.goto(page.url)
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
    keys(page, "2", "w", "3")
    n_changed = written(page, "n-changed")
    assert "keeps nothing" in written(page, "state")
    page.evaluate("() => { window.arrived = new Promise((done) => addEventListener('storage', () => done())); }")
    keys(ready(other), "ArrowRight")
    page.evaluate("window.arrived")
    assert written(page, "n-changed") == n_changed


def test_a_page_to_which_the_browser_goes_back_shows_the_work_that_was_done_since(page):
    keys(page, "2", "w")
    page.evaluate("""() => {
        const key = Object.keys(localStorage).find((each) => each.includes(":night 1:"));
        const entry = JSON.parse(localStorage.getItem(key));
        localStorage.setItem(key, JSON.stringify({ ...entry, changes: {}, looked: [[0, 20]] }));
        window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    }""")
    assert [written(page, name) for name in ("n-changed", "n-looked")] == ["0", "20 of 40"]


def test_the_work_on_another_night_of_the_same_name_is_not_offered(browser, tmp_path):
    page = ready(browser.open(write_made(tmp_path / "a")))
    keys(page, *"w123r")
    page.goto(write_made(tmp_path / "b", seed=1, start=START + dt.timedelta(seconds=12)).as_uri())
    assert page.is_hidden("#notice")


def test_the_last_work_on_other_scorings_is_offered(browser, tmp_path):
    scorings = {which: write_made(tmp_path / which, seed=ord(which)) for which in "abc"}
    # Corrected in both orders, one of which is that of their checksums
    for first, second in ("ab", "ba"):
        page = ready(browser.open(scorings[first]))
        keys(page, *"w1")
        page.goto(scorings[second].as_uri())
        page.click("text=Leave them")
        keys(ready(page), *"w123r?")
        n_changed = written(page, "n-changed")
        page.goto(scorings["c"].as_uri())
        assert f"{n_changed} corrections of another scoring" in written(page, "notice")


def test_the_work_on_another_scoring_is_offered_and_never_taken_over_unasked(browser, tmp_path):
    for which in ("a", "b"):
        write_made(tmp_path / which, seed=ord(which))
    page = ready(browser.open(tmp_path / "a/made.html"))
    keys(page, *"w123r")
    n_changed = int(written(page, "n-changed"))
    page.goto((tmp_path / "b/made.html").as_uri())
    assert written(page, "n-changed") == "0"
    assert f"{n_changed} corrections of another scoring" in written(page, "notice")
    stages = stages_of(tmp_path / "b/made.csv")
    keys(ready(page), "ArrowRight", "ArrowRight", "ArrowRight")
    page.reload()  # there was no answer, so it asks again
    page.click("text=Take them over")
    table = save(ready(page), "csv", tmp_path)
    taken, first = stages_of(table), stages_of(tmp_path / "a/made.csv")
    decided = [stage if stage != before else "" for stage, before in zip([*NAMES[:5]], first, strict=False)]
    assert len(list(filter(None, decided))) == n_changed
    assert taken == [*(stage or before for stage, before in zip(decided, stages, strict=False)), *stages[5:]]
    looked_at = {1, 2, 3} | {at for at, stage in enumerate(decided) if stage}  # what was found right is not among them
    assert written(page, "n-looked") == f"{len(looked_at)} of 30"
    keys(page, "Control+z")
    assert written(page, "n-changed") == "0"
    keys(page, "Control+y")
    page.reload()
    assert page.is_hidden("#notice")
    assert stages_of(save(ready(page), "csv", tmp_path)) == taken
    page.goto((tmp_path / "a/made.html").as_uri())
    assert written(page, "n-changed") == str(n_changed)


def test_a_browser_that_keeps_nothing_asks_before_the_work_is_lost(browser, place, tmp_path):
    nothing = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('none'); } });"
    page = ready(browser.open(place / "scored/night 1.html", before=nothing))
    assert "keeps nothing" in written(page, "state")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    keys(page, "w", "1", "2")
    save(page, "csv", tmp_path)
    page.goto(page.url)
    assert asked == []
    keys(ready(page), "w", "1", "2")
    page.goto("about:blank")
    assert asked == ["beforeunload"]


def test_a_name_with_markup_stands_as_text(browser, place):
    page = ready(browser.open(place / f"scored/{MARKUP}.html"))
    assert page.inner_text("h1") == MARKUP
    assert page.title().startswith(MARKUP)
    page.goto((place / "scored/index.html").as_uri())
    page.click("a >> nth=0")
    assert page.inner_text("h1") == MARKUP
    assert browser.complaints() == []
    assert page.evaluate("document.images.length") == 0


def test_nothing_is_asked_of_the_internet_and_nothing_else_runs(browser, place):
    asked = []
    page = ready(browser.open(place / "scored/night 1.html"))
    page.on("request", lambda request: asked.append(request))
    page.evaluate("""() => {
        const image = new Image();
        image.src = "https://example.org/x.png";
        document.body.insertAdjacentHTML("beforeend", "<p id=bad onclick='window.run = 1'>x</p>");
        document.getElementById("bad").click();
    }""")
    page.wait_for_timeout(50)
    assert page.evaluate("window.run") is None
    assert len(browser.complaints()) == 2  # of the policy of the page
    assert [request.failure for request in asked if request.url.startswith("http")] == ["csp"]


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_scrolls_sideways_and_all_is_drawn(browser, place, width):
    page = ready(browser.open(place / "scored/night 1.html", width))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = """id => {
        const { width, height } = document.getElementById(id);
        const { data } = document.getElementById(id).getContext("2d").getImageData(0, 0, width, height);
        return new Set(new Uint32Array(data.buffer)).size;
    }"""
    page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert page.evaluate(colours, "tracks") > 200
    assert page.evaluate(colours, "signal") > 50
    before = page.evaluate("document.getElementById('signal').toDataURL()")
    for key in ("f", "ArrowUp", "ArrowRight"):
        keys(page, key)
        after = page.evaluate("document.getElementById('signal').toDataURL()")
        assert after != before
        before = after
    before = page.evaluate("document.getElementById('tracks').toDataURL()")
    keys(page, "+")
    assert page.evaluate("document.getElementById('tracks').toDataURL()") != before


def test_without_a_mouse_and_without_eyes(browser, place):
    page = ready(browser.open(place / "scored/night 1.html"))
    reached = []
    while "to-least-certain" not in reached:
        keys(page, "Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached[:4] == ["Skip to the sleep epoch", "closer", "place", "larger"]  # the whole night is shown
    page.focus("[data-stage='2']")
    keys(page, "Space")
    assert page.evaluate("document.getElementById('said').ariaLive") == "polite"
    keys(page, "ArrowLeft")
    said = " ".join(written(page, "said").split())
    stage, scorer = stages_of(place / "scored/night 1.csv")[0], (place / "scorer.txt").read_text().split("\n")[0]
    assert said.startswith("23:50:30 N2 sleep epoch 1 of 40, probability ")
    assert ("changed from" in said) == (stage != "N2")
    assert said.endswith(f"scorer: {'no stage' if scorer == '?' else scorer}")
    assert page.get_attribute("#place", "aria-valuetext") == said.replace(" N2 ", ", N2, ")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        node.get("name", {}).get("value")
        for node in nodes
        if any(entry["name"] == "focusable" and entry["value"]["value"] for entry in node.get("properties", []))
    ]
    assert all(focusable)
    assert len(focusable) > 20


def test_the_focus_stays_on_the_page_when_a_button_is_switched_off_or_goes(browser, tmp_path):
    for which in ("a", "b"):
        write_made(tmp_path / which, seed=ord(which))
    page = ready(browser.open(tmp_path / "a/made.html"))
    keys(page, *"w123r")
    while page.is_enabled("#undo"):
        page.focus("#undo")
        keys(page, "Enter")
    assert page.evaluate("document.activeElement.id") == "place"
    keys(page, "Control+y")
    page.goto((tmp_path / "b/made.html").as_uri())
    page.focus("text=Leave them")
    keys(page, "Enter")
    assert page.evaluate("document.activeElement.id") == "place"


def test_arrows_scroll_a_table_that_is_wider_than_the_page(page):
    page.evaluate("document.querySelector('.scroll table').style.width = '2000px'")
    page.focus(".scroll")
    keys(page, "ArrowRight")
    assert "sleep epoch 1 of" in written(page, "about")
    assert any(page.evaluate("document.querySelector('.scroll').scrollLeft") for _ in range(1000))  # smoothly
    page.evaluate("document.querySelector('.scroll table').style.width = ''")
    keys(page, "ArrowRight")
    assert "sleep epoch 2 of" in written(page, "about")


def test_the_signal_is_that_of_the_recording_filtered_as_scipy_does(browser, place):
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 30, 120 * FS).cumsum() * 0.05 + rng.normal(0, 20, 120 * FS) + 100
    signal[7000:7100] = np.nan
    text, step_uv = packed(signal.astype(np.float32))
    script = (ROOT / "scoring/review_page/signal.js").read_text()
    page = browser.open(place / "scored/night 1.html")
    run = f"""async ([samples, stepUv, begin, end]) => {{
        const night = {{ fs: {FS}, stepUv }};
        {script}
        packed = await unpack(samples);
        return [false, true].map((filtered) => Array.from(microvolts(begin, end, filtered), (x) => x === x ? x : null));
    }}"""
    begin, end = 3000, 7200
    raw, filtered = (np.array(values, float) for values in page.evaluate(run, [text, step_uv, begin, end]))
    np.testing.assert_allclose(raw, signal[begin:end], atol=0.051)
    sections = np.vstack(
        [butter(2, 0.3, "highpass", fs=FS, output="sos"), butter(2, 35, "lowpass", fs=FS, output="sos")]
    )
    expected = sosfiltfilt(sections, signal[:7000])
    assert np.isnan(filtered[4000:4100]).all()
    np.testing.assert_allclose(filtered[:3000], expected[begin : begin + 3000], atol=2)
    assert np.nanstd(filtered[:3000] - expected[begin : begin + 3000]) < 0.3


def write_made(folder, n=30, signal=None, start=START, seed=0, stages=None, **changes):
    """Write the page of a night that nobody recorded."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), n).astype(np.float32)
    stages = probabilities.argmax(axis=1) if stages is None else stages
    night = Night("made", "EEG", start, Scoring(stages, probabilities), **changes)
    files = result_files(folder, night.name) | {REVIEW: page_of(folder, night.name)}
    write_night(files, night, {"scoring": {}})
    signal = rng.normal(0, 20, n * 30 * FS) if signal is None else signal
    write_review(files, night, signal.astype(np.float32), FS)
    return files[REVIEW]


def test_a_night_of_one_sleep_epoch_and_without_a_start_counts_from_zero(browser, tmp_path):
    page = ready(browser.open(write_made(tmp_path, n=1, start=None)))
    assert written(page, "time") == "0:00:00"
    keys(page, "w", "ArrowLeft", "u", "d", "+", "-", "Control+z", "2")
    assert stages_of(save(page, "csv", tmp_path)) == ["N2"]
    assert mne.read_annotations(save(page, "edf", tmp_path)).description.tolist() == ["Sleep stage N2"]
    assert browser.complaints() == []


def test_a_night_may_lose_all_its_stages(browser, tmp_path):
    page = ready(browser.open(write_made(tmp_path, n=2)))
    keys(page, "?", "?")
    assert page.inner_text("[data-of=corrected][data-statistic=total]") == "–"
    assert stages_of(save(page, "csv", tmp_path)) == ["?", "?"]
    assert browser.complaints() == []


def test_a_night_of_8_h_is_small_and_one_of_22_h_shows_and_steps_in_time(browser, tmp_path):
    rng = np.random.default_rng(0)
    signal = (rng.normal(0, 30, 22 * 3600 * FS).cumsum() * 0.05) % 400 - 200 + rng.normal(0, 10, 22 * 3600 * FS)
    hypnogram = rng.integers(0, 5, 22 * 120)
    eight = write_made(tmp_path / "8 h", n=8 * 120, signal=signal[: 8 * 3600 * FS])
    assert eight.stat().st_size < 8e6
    timer = """
        window.times = [];
        addEventListener("keydown", () => {
            const begin = performance.now(), { port1, port2 } = new MessageChannel();
            port1.onmessage = () => window.times.push(performance.now() - begin);
            requestAnimationFrame(() => port2.postMessage(0)); // after the frame is drawn
        }, true);"""
    whole = write_made(tmp_path / "22 h", n=22 * 120, signal=signal, hypnogram=hypnogram)
    paints = []
    for _ in range(3):  # the machine may do other things meanwhile
        page = ready(browser.open(whole, before=timer))
        page.screenshot()  # waits for a frame
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    assert min(paints) < 1000
    for key in [*["ArrowRight"] * 10, *"fw123r", *["u"] * 10, "Control+z"]:
        keys(page, key)
        page.wait_for_timeout(20)
    assert np.median(page.evaluate("window.times")) < 50


def test_a_page_and_a_list_that_are_not_ours_stay(place, tmp_path):
    arguments = ["--checkpoint", place / "saved", "--output_dir", tmp_path, "--review", place / "night 1.edf"]
    (tmp_path / "night 1.html").write_text("mine")
    code, _, err = call(predict.main, arguments, tmp_path)
    assert code == 1
    assert "night 1.html: there already" in err
    (tmp_path / "night 1.html").unlink()
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UserError, match=r"index\.html: there already, and no list of scored nights"):
        call(predict.main, arguments, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert call(predict.main, [each for each in arguments if each != "--review"], tmp_path)[0] == 0
    assert (tmp_path / "index.html").read_text() == "mine"


def test_scoring_again_without_a_page_removes_the_old_one(place, tmp_path):
    arguments = ["--checkpoint", place / "saved", "--output_dir", tmp_path, place / "night 1.edf"]
    assert call(predict.main, [*arguments, "--review"], tmp_path)[0] == 0
    assert (tmp_path / "night 1.html").exists()
    out = call(predict.main, arguments, tmp_path)[1]
    assert "1 kept" in out
    assert (tmp_path / "night 1.html").exists()
    assert "night 1" in (tmp_path / "index.html").read_text()
    assert call(predict.main, [*arguments, "--overwrite"], tmp_path)[0] == 0
    assert not (tmp_path / "night 1.html").exists()
    assert "night 1" not in (tmp_path / "index.html").read_text()
    out = call(predict.main, [*arguments, "--review"], tmp_path)[1]
    assert "1 scored" in out
    assert (tmp_path / "night 1.html").exists()


def test_no_night_takes_the_name_of_the_list(tmp_path):
    with pytest.raises(UserError, match=r"Index: its page would be index\.html"):
        page_of(tmp_path, "Index")


def test_a_start_in_utc_is_told_on_the_page_and_in_the_list(tmp_path):
    page = write_made(tmp_path, start=START.replace(tzinfo=dt.UTC))
    write_index(tmp_path)
    assert "23:50:30 UTC" in page.read_text()
    assert "23:50 UTC" in (tmp_path / "index.html").read_text()


def test_the_same_night_gives_the_same_page(tmp_path):
    pages = [write_made(tmp_path / name).read_bytes() for name in "ab"]
    assert pages[0] == pages[1]
