import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import escape
from report_inputs import FIGURES, NIGHT, night_predictions, results, with_context, with_temperatures

from report.page import write_page
from report.plots import write_figures
from report.report import make_report
from report.statistics import few_subjects
from report.wording import NO_LIGHTS

NIGHTS = {"SC4011E0": NIGHT, "SC4012E0": [0, 0, 1, 2, 4, 4, 2, 2], "SC4021E0": NIGHT * 3}
MARKUP = "<b>n&1</b>\"'$x^2$</script>"


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Figures of three recordings in three folds; drawing them takes seconds, so all pages show these."""
    everything = results(night_predictions(NIGHTS))
    return write_figures(tmp_path_factory.mktemp("figures"), make_report(everything), everything)


@pytest.fixture(scope="module")
def write(figures):
    """Write the page of {recording: stages}, a fold for each, after a change to its report."""

    def write(directory, nights, change=lambda report: None, name="Exp1", protocol="released"):
        folds = night_predictions(nights)
        everything = results(folds, protocol, dict.fromkeys(folds, [60, 1]), name=name)
        report = make_report(everything)
        change(report)
        return write_page(directory, report, everything, figures)

    return write


@pytest.fixture(scope="module")
def page(write, tmp_path_factory):
    """Page of three recordings in three folds."""
    return write(tmp_path_factory.mktemp("page"), NIGHTS)


@pytest.fixture(scope="module")
def odd_page(write, tmp_path_factory):
    """Page of one recording, with markup in its name and without N3: no intervals, no standard deviations."""
    return write(tmp_path_factory.mktemp("odd"), {MARKUP: [0, 0, 1, 2, 2, 4, 4, 0]}, name=MARKUP)


@pytest.fixture(scope="module")
def context_page(figures, tmp_path_factory):
    """Page of an experiment with a night context, of recordings with long names; the start of the last is not known."""
    nights = {f"a-recording-with-a-rather-long-name-{number:02}": NIGHT * 90 for number in range(3)}
    folds = with_temperatures(with_context(night_predictions(nights)))
    for fold in (0, 1):
        folds[fold] = replace(folds[fold], start_time=np.full(len(folds[fold].y_true), "2020-01-01T22:43:20"))
    everything = results(folds)
    return write_page(tmp_path_factory.mktemp("context"), make_report(everything), everything, figures)


class Outline(HTMLParser):
    """Elements that are opened but not closed, addresses that are loaded, and the text of the page."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.tags, self.said = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


@pytest.mark.parametrize("which", ["page", "odd_page", "context_page"])
def test_the_page_is_well_formed_and_loads_nothing(which, request):
    text = request.getfixturevalue(which).read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.open == []
    assert all(address.startswith(("data:", "#")) for address in outline.addresses)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [attributes["aria-labelledby"] for _, attributes in outline.tags if "aria-labelledby" in attributes]
    used += [address[1:] for address in outline.addresses if address.startswith("#")]
    assert set(used) <= set(ids)
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in outline.tags if tag == "th")
    assert sum(tag == "table" for tag, _ in outline.tags) == sum(tag == "caption" for tag, _ in outline.tags)


def test_the_headline_names_the_protocol_at_its_figures(write, tmp_path):
    report = make_report(results(night_predictions(NIGHTS), "holdout"))
    text = write(tmp_path, NIGHTS, protocol="holdout").read_text(encoding="utf-8")
    rows = re.findall(r'<th scope="row" class="name">(\w+)<small>(.*?)</small>(.*?)</tr>', text, re.DOTALL)
    assert [row[:2] for row in rows] == [(name, figures["label"]) for name, figures in report["protocols"].items()]
    holdout = report["protocols"]["holdout"]
    low, high = holdout["intervals"]["accuracy"]
    assert f'<span class="value">{100 * holdout["accuracy"]:.1f}</span>' in rows[0][2]
    assert f"<small>{100 * low:.1f} to {100 * high:.1f}</small>" in rows[0][2]
    assert f"{holdout['kappa']:.3f}" in rows[0][2]


def test_few_subjects_are_told_wherever_an_interval_stands(page, odd_page):
    assert page.read_text(encoding="utf-8").count(few_subjects(2)) == 3
    assert odd_page.read_text(encoding="utf-8").count(few_subjects(1)) == 3


def test_sleep_statistics_need_no_lights_and_say_why_and_have_both_means(page):
    text = page.read_text(encoding="utf-8")
    assert str(escape(NO_LIGHTS)) in text
    table = text[text.index('<section id="sleep"') : text.index('<section id="learning"')].replace(NO_LIGHTS, "")
    for words in ("Sleep latency", "efficiency", "Wake after sleep onset", ">W, min"):
        assert words not in table, words
    agreement = make_report(results(night_predictions(NIGHTS)))["protocols"]["released"]["sleep_agreement"]
    figures = agreement["total_sleep_time_min"]
    means = "".join(f'<td class="number">{figures[key]:.1f}</td>' for key in ("true_mean", "predicted_mean"))
    assert f'<th scope="row">Total sleep time, min</th>{means}' in table


def test_calibration_and_review_stand_on_the_page_as_in_the_report(context_page, page):
    text = context_page.read_text(encoding="utf-8")
    folds = with_temperatures(
        with_context(night_predictions({f"a-recording-with-a-rather-long-name-{n:02}": NIGHT * 90 for n in range(3)}))
    )
    report = make_report(results(folds))
    for name, temperatures in (("released", "1.25 to 1.75"), ("context", "2.50 to 3.50")):
        figures = report["protocols"][name]
        assert (
            f"{100 * figures['calibration']['ece']:.1f} %, {100 * figures['calibrated']['ece']:.1f} % with the "
            f"temperatures {temperatures}, fitted on the training subjects of each fold" in text
        )
        for row in report["review"][name]["rows"]:
            low, high = row["intervals"]["kappa"]
            assert f"{row['kappa']:.3f}<small>{low:.3f} to {high:.3f}</small>" in text
            assert f"{row['random']['kappa']:.3f}</td>" in text
    assert report["review"]["released"]["rows"][4]["n_changed"] > 0
    goal = report["review"]["released"]["goal_percent"]
    assert f"Protocol released: kappa is 0.90 or more from {goal} % on." in text
    assert "temperature" not in page.read_text(encoding="utf-8").replace("with_temperature", "")


def test_a_name_with_markup_is_text(odd_page):
    text = odd_page.read_text(encoding="utf-8")
    outline = Outline(text)
    assert "b" not in [tag for tag, _ in outline.tags]
    assert sum(tag == "script" for tag, _ in outline.tags) == 2
    assert outline.said.count(MARKUP) == 3  # as title of the page, as recording and as subject


def test_config_versions_machine_and_seconds_are_on_the_page(page):
    said = " ".join(Outline(page.read_text(encoding="utf-8")).said)
    for part in ('"seed": 123', "Python", "torch", "numpy", "Cores", "3 min 3 s"):
        assert part in said
    assert len(re.findall(r">61</td>", page.read_text(encoding="utf-8"))) == 3


def test_the_same_input_gives_the_same_page(page, write, tmp_path):
    assert write(tmp_path, NIGHTS).read_bytes() == page.read_bytes()


@pytest.mark.parametrize("which", ["page", "odd_page", "context_page"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_browser_draws_every_picture_without_complaint_and_without_scrolling_sideways(
    browser, which, width, request
):
    browser.open(request.getfixturevalue(which), width)
    assert browser.complaints() == []
    pictures = browser.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(pictures) == len(FIGURES) - 1  # the script draws the night in place of the sixth
    assert all(size > 100 for size in pictures)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    sides = "(e => [e.left, e.right, e.height])(document.querySelector('#night svg').getBoundingClientRect())"
    left, right, height = browser.evaluate(sides)
    assert 0 < left < right - 300 < width - 300
    assert height > 400
    drawn = "[...document.querySelectorAll('#night svg path')].filter(path => path.getTotalLength() > 0).length"
    assert browser.evaluate(drawn) >= 15


@pytest.mark.parametrize("which", ["page", "odd_page", "context_page"])
def test_no_table_is_cut_off_on_a_screen_of_1400_pixels(browser, which, request):
    browser.open(request.getfixturevalue(which), 1400)
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    cut = "[...document.querySelectorAll('.scroll, pre')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert browser.evaluate(f"{cut}.map(e => e.innerText.slice(0, 40))") == []


def test_the_drawn_night_has_the_night_context_and_clock_times_where_the_start_is_known(browser, context_page):
    browser.open(context_page)
    buttons = "document.querySelectorAll('#recordings-table tbody button')"
    texts = "[...document.querySelectorAll('#night svg text')].map(e => e.textContent)"
    for number, label, hour in (
        (0, "Clock time", "23:00"),
        (2, "Time since the start of the recording (h:min)", "1:00"),
    ):
        browser.evaluate(f"{buttons}[{number}].click()")
        written = browser.evaluate(texts)
        assert label in written
        assert hour in written
        assert [text for text in written if text.startswith("Predicted")] == [
            "Predicted stages (released)",
            "Predicted stages (context)",
        ]
    assert "100.0 % (context) of 900 sleep epochs right" in browser.evaluate("document.body.innerText")
    # The first sleep epoch is the 21st: it begins at 22:53:20, and 23:00 is 400 s of 27,060 s further.
    browser.evaluate(f"{buttons}[0].click()")
    x = "+[...document.querySelectorAll('#night svg text')].find(e => e.textContent === '23:00').getAttribute('x')"
    width = browser.evaluate("document.querySelector('#night svg').viewBox.baseVal.width")
    sides = (
        "[...document.querySelectorAll('#night svg text')].map(e => e.getBBox()).map(box => [box.x, box.x + box.width])"
    )
    assert all(0 <= left and right <= width for left, right in browser.evaluate(sides))
    assert (browser.evaluate(x) - 48) / (width - 68) == pytest.approx(400 / 27060, abs=1e-4)


def names(browser):
    return browser.evaluate("[...document.querySelectorAll('#recordings-table tbody th')].map(th => th.innerText)")


def shown(browser, column):
    cells = f"[...document.querySelectorAll('#recordings-table tbody tr')].map(row => row.cells[{column}].innerText)"
    return [float(text.replace(",", "")) for text in browser.evaluate(cells)]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_columns_title_sorts_by_keyboard_and_says_how(browser, page, key):
    browser.open(page)
    column, header = 2, "document.querySelectorAll('#recordings-table thead th')[2]"
    assert browser.evaluate(f"{header}.ariaSort") == "none"
    browser.evaluate(f"{header}.querySelector('button').focus()")
    for order, reverse in (("ascending", False), ("descending", True)):
        browser.press(key)
        assert browser.evaluate(f"{header}.ariaSort") == order
        assert shown(browser, column) == sorted([8, 10, 30], reverse=reverse)
    assert names(browser) == ["SC4021E0", "SC4011E0", "SC4012E0"]
    assert (
        browser.evaluate("document.querySelectorAll('#recordings-table [aria-sort]:not([aria-sort=none])').length") == 1
    )


def test_fractions_are_sorted_as_numbers_and_a_missing_one_to_the_end_either_way(browser, write, tmp_path):
    def change(report):
        for row, accuracy in zip(report["per_recording"], (0.75, 0.9, 0.1234), strict=True):
            row["released"]["accuracy"] = accuracy
        report["per_recording"][1]["released"]["kappa"] = None
        for row in report["per_recording"][::2]:
            row["released"]["kappa"] = row["n"] / 100

    browser.open(write(tmp_path, NIGHTS, change))
    title = "document.querySelectorAll('#recordings-table thead button')"
    browser.evaluate(f"{title}[3].click()")
    assert shown(browser, 3) == [12.3, 75, 90]
    for others in (["SC4011E0", "SC4021E0"], ["SC4021E0", "SC4011E0"]):
        browser.evaluate(f"{title}[5].click()")
        assert names(browser) == [*others, "SC4012E0"]


def test_choosing_a_recording_shows_its_night(browser, page):
    browser.open(page)
    said, buttons = "document.getElementById('night-text').innerText", "#recordings-table tbody button"
    before = browser.evaluate("document.querySelector('#night svg').outerHTML")
    name = next(name for name in NIGHTS if name not in browser.evaluate(said))
    browser.evaluate(f"document.querySelectorAll('{buttons}')[{list(NIGHTS).index(name)}].focus()")
    browser.press("Enter")
    night = night_predictions(NIGHTS)[list(NIGHTS).index(name)]
    right = 100 * (night.y_true == night.y_pred).mean()
    assert browser.evaluate(said).startswith(f"Recording {name}: {right:.1f} % (released) of {len(night.y_true)} sleep")
    assert name in browser.evaluate("document.querySelector('#night svg title').textContent")
    assert browser.evaluate("document.querySelector('#night svg').outerHTML") != before
    pressed = "[...document.querySelectorAll('#recordings-table [aria-pressed=true]')].map(e => e.innerText)"
    assert browser.evaluate(pressed) == [name]
    assert browser.complaints() == []


def test_the_drawn_night_has_wake_on_top_and_leaves_dropped_sleep_epochs_blank(browser, write, tmp_path):
    browser.open(write(tmp_path, {"n1": NIGHT}))
    labels = "[...document.querySelectorAll('#night svg text')].map(e => [e.textContent, +e.getAttribute('y')])"
    stages = [label for label in browser.evaluate(labels) if label[0] in ("W", "REM", "N1", "N2", "N3")][:5]
    assert [name for name, _ in sorted(stages, key=lambda label: label[1])] == ["W", "REM", "N1", "N2", "N3"]
    steps = "document.querySelector('#night svg path[stroke-width=\"1\"]').getAttribute('d')"
    begins = [float(x) for x in re.findall(r"M([\d.]+)", browser.evaluate(steps))]
    ends = [float(x) for x in re.findall(r"H([\d.]+)(?=M|$)", browser.evaluate(steps))]
    # Sleep epochs 20 to 24 and 27 to 31 of 12.
    left, width = begins[0], ends[1] - begins[0]
    assert [(x - left) / width for x in (ends[0], begins[1])] == pytest.approx([5 / 12, 7 / 12], abs=1e-3)


def test_without_scripts_all_tables_and_a_night_are_there(browser, page):
    browser.open(page, scripts=False)
    assert browser.evaluate("document.querySelectorAll('button').length") == 0
    assert browser.evaluate("document.querySelector('#night img').naturalWidth") > 100
    assert names(browser) == list(NIGHTS)
    assert not browser.evaluate("document.getElementById('how').checkVisibility()")


def test_the_first_tab_reaches_the_skip_link_and_shows_it(browser, page):
    browser.open(page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.id") == "result"


def accessible(browser):
    """Nodes of the tree that a screen reader is given: role, name, properties."""
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    browser.call("Accessibility.disable")
    return [
        (
            node["role"]["value"],
            node.get("name", {}).get("value", ""),
            {entry["name"]: entry["value"].get("value") for entry in node.get("properties", [])},
        )
        for node in nodes
        if not node["ignored"]
    ]


def test_a_screen_reader_finds_names_headings_in_order_and_no_arrows(browser, page):
    browser.open(page)
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    nodes = accessible(browser)
    named = ("table", "image", "img", "figure", "button", "link", "group", "region", "columnheader", "rowheader")
    by_role = {role: [name for other, name, _ in nodes if other == role] for role in named}
    for role in ("table", "image", "button", "link", "region", "columnheader", "rowheader"):
        assert by_role[role], role
        assert all(name.strip() for name in by_role[role]), role
        assert not [name for name in by_role[role] if set(name) & set("\u2195\u2191\u2193")]
    assert all(name for role, name, properties in nodes if properties.get("focusable"))
    assert len(set(by_role["table"])) == len(by_role["table"])
    levels = [properties["level"] for role, _, properties in nodes if role == "heading"]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert [role for role, _, _ in nodes].count("main") == 1
    night = next(name for role, name, _ in nodes if role in ("image", "img") and "stage probabilities" in name)
    assert "True and predicted hypnogram" in night


def test_every_stop_of_the_tab_key_is_seen(browser, page):
    browser.open(page)
    stops = (
        "[...document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility())"
    )
    for _ in range(browser.evaluate(f"{stops}.length")):
        browser.press("Tab")
        outline = "(s => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)"
        assert browser.evaluate(f"{outline}(getComputedStyle(document.activeElement))")
    assert browser.evaluate("document.activeElement.id || document.activeElement.tagName") == "PRE"


def test_on_paper_nothing_is_cut_off(browser, page):
    browser.open(page, width=718)  # A4 within its margins
    browser.page.emulate_media(media="print")
    cut = "[...document.querySelectorAll('.scroll, pre')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert browser.evaluate(cut) == 0
    shown = "[...document.querySelectorAll('nav, details, .skip, #how')].filter(e => e.checkVisibility()).length"
    assert browser.evaluate(shown) == 0
    header = "getComputedStyle(document.querySelector('#recordings-table thead th')).position"
    assert browser.evaluate(header) == "static"
