"""The page of a leaderboard as its readers meet it: in a browser, by keyboard, on a phone, from a folder, offline."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import browser
import pytest
from leaderboard_records import ESC50, several, write

from hear_models.evaluation.board.choosing import Options
from hear_models.evaluation.board.leaderboard import build
from hear_models.evaluation.board.page import page
from hear_models.evaluation.board.results import gather

HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=2> \"' @@BODY@@"
RELOAD = ("desktop", 1280, False), ("phone", 390, True)

needs_browser = pytest.mark.skipif(
    browser.program() is None or sys.platform != "linux",
    reason="no Chromium on this machine (Debian: apt-get install chromium)",
)


def build_page(folder, **options) -> str:
    return page(build(gather([folder]), Options(**options)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page of two tables (official, toy), with a floor, a hostile name and a task that one model lacks."""
    folder = tmp_path_factory.mktemp("page")
    several(folder / "results", seeds=2)
    several(folder / "results-toy", seeds=1, origin="synthetic", tasks=(ESC50,))
    write(folder / "results", HOSTILE, ESC50, 0, 0.6, family=None, name="hostile", options={"<i>": "</td>&\"'"})
    write(folder / "results", HOSTILE, ESC50, 1, 0.6, family=None, name="hostile", options={"<i>": "</td>&\"'"})
    (folder / "page.html").write_text(build_page(folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "page.html").read_text("utf-8")


@pytest.fixture(scope="module")
def tab():
    with browser.Page() as opened:
        yield opened


@pytest.fixture
def opened(tab, folder):
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(folder / "page.html")
    return tab


# ------------------------------------------------------------------------------------------------ without a browser
class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(text)
    return parser.found


def test_the_page_is_one_file_that_names_no_other(text):
    for tag, attributes in elements(text):
        assert tag not in ("img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:,"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert "url(" not in text and "@import" not in text


def test_names_from_records_are_text_wherever_they_stand(text):
    assert sum(tag == "script" for tag, _ in elements(text)) == 1
    assert "&lt;/script&gt;&lt;script&gt;window.hit=1" in text
    assert "<img" not in text
    assert "@@BODY@@" in text  # of the name: what was filled in is not a template


def test_only_our_own_style_and_script_may_run(text):
    (policy,) = (a["content"] for tag, a in elements(text) if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy and "http" not in policy


def test_the_table_is_a_table_to_a_screen_reader(text):
    found = elements(text)
    heads = [attributes for tag, attributes in found if tag == "th"]
    assert {attributes["scope"] for attributes in heads} == {"col", "row", "rowgroup"}
    assert [a["aria-sort"] for a in heads if "aria-sort" in a] == ["descending", "descending"]  # s(m) of both tables
    assert sum(tag == "caption" for tag, _ in found) == sum(tag == "table" for tag, _ in found) == 2
    buttons = sum(tag == "button" for tag, _ in found)
    assert buttons == sum(attributes["scope"] == "col" for attributes in heads)
    assert all(a.get("aria-hidden") == "true" for tag, a in found if tag == "svg")  # the numbers stand beside
    assert text.count('lang="en"') == 1


def test_no_information_by_colour_alone(text):
    """The best and the tied carry the word, a verdict its words and a sign."""
    assert text.count('<td data-sort="0.85') <= text.count(">best<")
    assert re.findall(r'class="best"(?:(?!</td>).)*?<span class="mark">best</span>', text)
    assert "– not comparable" in text


def test_pool_and_caveats_and_reasons_stand_on_the_page(text):
    assert "worst and best mean of the pool, which is the" in text
    assert "probe seeds only" in text
    assert "no published scores are known for this model" in text
    assert "toy tasks of generated sound" in text
    toy = text[text.index('id="board-1"') :]
    assert 'class="published"' not in toy and 'class="theirs"' not in toy


def ratio(a: str, b: str) -> float:
    """Contrast of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_text_has_enough_contrast_in_light_and_dark(text):
    schemes = re.findall(r":root \{\s*(.*?)\s*\}", text, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for ground in ("ground", "raised", "best"):
            for ink in ("ink", "soft", "accent"):
                assert ratio(colours[ink], colours[ground]) >= 4.5, (ink, ground, scheme)


# -------------------------------------------------------------------------------------------------- in a browser
MODELS = "[...document.querySelectorAll('section tbody')][0].rows"
SHOWN = f"[...{MODELS}].filter((row) => !row.hidden).map((row) => row.cells[0].dataset.sort)"
SORTED = "[...document.querySelectorAll('table')[0].tHead.rows[0].cells].map((c) => c.getAttribute('aria-sort'))"
STATUS = "document.querySelector('output').textContent"


def column(tab, name: str) -> list[str]:
    """The visible text of a column's scores, in the order of the rows."""
    return tab.run(
        "(() => { const t = document.querySelectorAll('table')[0];"
        f"const i = [...t.tHead.rows[0].cells].findIndex((c) => c.dataset.name === {name!r});"
        "return [...t.tBodies[0].rows].map((r) => r.cells[i].dataset.sort) })()"
    )


def click(tab, name: str) -> None:
    tab.run(f"document.querySelectorAll('table')[0].querySelector('th[data-name=\"{name}\"] button').click()")


@needs_browser
def test_a_column_sorts_both_ways_and_missing_scores_stay_last(opened):
    click(opened, "NS-5h")
    falling = column(opened, "NS-5h")
    assert falling[-1] == ""  # the model that lacks the task
    numbers = [float(value) for value in falling[:-1]]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == 3
    assert opened.run(SORTED).count("descending") == 1
    click(opened, "NS-5h")
    rising = column(opened, "NS-5h")
    assert rising[-1] == "" and [float(value) for value in rising[:-1]] == numbers[::-1]
    assert [value for value in opened.run(SORTED) if value] == ["ascending"]
    assert "sorted by NS-5h, ascending" in opened.run(STATUS)


@needs_browser
def test_names_sort_as_names(opened):
    click(opened, "model")
    names = opened.run(SHOWN)
    assert names[-3:] == ["logmel-stats", "mwmae-base", "mwmae-nano"]
    click(opened, "model")
    assert opened.run(SHOWN)[:3] == ["mwmae-nano", "mwmae-base", "logmel-stats"]


def type_into(tab, text: str) -> None:
    tab.run("document.querySelector('input[type=search]').focus()")
    for letter in text:
        tab.press(letter, letter)


@needs_browser
def test_filtering_by_a_name_hides_the_other_models_and_says_how_many_are_left(opened):
    type_into(opened, "MWMAE")
    assert sorted(opened.run(SHOWN)) == ["mwmae-base", "mwmae-nano"]
    assert opened.run(STATUS).startswith("2 of 4 models")
    click(opened, "ESC-50")
    assert sorted(opened.run(SHOWN)) == ["mwmae-base", "mwmae-nano"]  # sorting keeps the filter


@needs_browser
def test_one_column_can_be_chosen_and_published_figures_switched_off(opened):
    visible = "[...document.querySelectorAll('table')[0].tHead.rows[0].cells].filter((c) => c.offsetWidth).length"
    before = opened.run(visible)
    opened.run(
        "(() => { const s = document.querySelector('select'); s.value = '4'; s.dispatchEvent(new Event('change')) })()"
    )
    assert (before, opened.run(visible)) == (7, 2)
    published = (
        "[...document.querySelectorAll('table')[0].querySelectorAll('.published')].filter((p) => p.offsetWidth).length"
    )
    shown = opened.run(published)
    opened.run("document.querySelector('input[type=checkbox]').click()")
    assert shown >= 1
    assert opened.run(published) == 0


@needs_browser
def test_everything_works_by_keyboard_with_a_focus_one_can_see(opened):
    """Tab from the top: skip link, list of tables, filter, columns, tick, scrolling region, then every header."""
    seen = []
    for _ in range(16):
        opened.press("Tab")
        seen.append(
            opened.run(
                "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
                "return [e.tagName, e.textContent.trim().slice(0, 12), s.outlineStyle !== 'none'] })()"
            )
        )
        if seen[-1][1] == "ESC-50":
            break
    assert [tag for tag, _, _ in seen[:3]] == ["A", "A", "A"]
    assert [tag for tag, _, _ in seen[3:7]] == ["INPUT", "SELECT", "INPUT", "DIV"]
    assert all(outline for _, _, outline in seen), seen
    opened.press("Enter")
    assert "sorted by ESC-50, descending" in opened.run(STATUS)


@needs_browser
@pytest.mark.parametrize(("what", "width", "dark"), RELOAD, ids=[what for what, _, _ in RELOAD])
def test_nothing_complains_nothing_runs_and_nothing_is_asked_for(what, width, dark, tab, folder):
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(folder / "page.html", width=width, dark=dark)
    for name in ("model", "s(m)", "seeds", "ESC-50"):
        click(tab, name)
    assert tab.run("window.hit === undefined")
    assert tab.run("document.images.length") == 0
    assert tab.complaints == []
    assert tab.requests == [(folder / "page.html").resolve().as_uri()]


@needs_browser
def test_a_script_that_got_in_would_not_run(tab, folder, text):
    """The content policy, not only the escaping: the same page with a script planted into a cell."""
    planted = folder / "planted.html"
    planted.write_text(text.replace("<tbody>", "<tbody><script>window.hit = 3</script>", 1), encoding="utf-8")
    tab.open(planted)
    assert tab.run("window.hit === undefined")
    tab.open(folder / "page.html")
    tab.complaints.clear()


@needs_browser
def test_a_phone_shows_the_table_without_scrolling_the_page_sideways(tab, folder):
    tab.open(folder / "page.html", width=390, height=844)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.run("document.querySelector('.scroll').scrollWidth <= document.querySelector('.scroll').clientWidth + 1")
    sizes = "[...document.querySelectorAll('tbody b')].map((b) => parseFloat(getComputedStyle(b).fontSize))"
    assert min(tab.run(sizes)) >= 13
    assert "sorted by s(m)" in tab.run(STATUS)
    tab.run(
        "(() => { const s = document.querySelector('select'); s.value = ''; s.dispatchEvent(new Event('change')) })()"
    )
    assert tab.run("document.documentElement.scrollWidth") <= 390  # the region scrolls, not the page


@needs_browser
def test_dark_and_light_follow_the_system(tab, folder):
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.open(folder / "page.html", dark=False)
    light = tab.run(ground)
    tab.open(folder / "page.html", dark=True)
    assert (light, tab.run(ground)) == ("rgb(255, 255, 255)", "rgb(19, 23, 27)")


@needs_browser
def test_intervals_are_drawn_where_the_numbers_are(opened):
    """The dot of the better model lies further right, and every interval holds its dot."""
    circles = opened.run(
        "[...document.querySelectorAll('table')[0].tBodies[0].rows].map((r) => r.cells[r.cells.length - 1])"
        ".filter((c) => c.dataset.sort !== '').map((c) => { const line = c.querySelector('line.width');"
        "return [c.dataset.sort, c.querySelector('circle').getAttribute('cx'),"
        " ...(line ? [line.getAttribute('x1'), line.getAttribute('x2')] : [])].map(Number) })"
    )
    by_score = sorted(circles)
    assert [x for _, x, *_ in by_score] == sorted(x for _, x, *_ in circles)
    for _, x, *ends in circles:
        assert not ends or ends[0] < x < ends[1]


def test_without_a_script_the_table_is_complete(text):
    """The controls are hidden until the script shows them; rows and columns are all there."""
    assert all(
        attributes.get("hidden", "") is None
        for tag, attributes in elements(text)
        if attributes.get("class") == "controls"
    )
    assert "Sorting and filtering need JavaScript" in text
    assert text.count("<tr>") == 2 + 4 + 3


@needs_browser
@pytest.mark.parametrize(("paper", "width"), [("portrait", 718), ("landscape", 1047)])
def test_printed_on_a4_no_column_is_lost(paper, width, tab, tmp_path):
    """Nineteen tasks, with published figures: between margins of a centimetre everything fits."""
    from hear_models.tasks.known_tasks import known_tasks

    for task in known_tasks():
        if known_tasks()[task].evaluation[0] != "mAP":
            for seed in (0, 1):
                write(tmp_path / "results", "mwmae-base", task, seed, 0.8, predictions=False)
                write(
                    tmp_path / "results", "a_module_with_a_long_name", task, seed, 0.7, family=None, predictions=False
                )
    (tmp_path / "page.html").write_text(build_page(tmp_path / "results"), encoding="utf-8")
    tab.open(tmp_path / "page.html", width=width)
    tab.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert tab.run("document.documentElement.scrollWidth") <= width
        edges = "[...document.querySelectorAll('thead th')].map((th) => th.getBoundingClientRect().right)"
        assert max(tab.run(edges)) <= width
        assert len(tab.run(edges)) == 4 + len([t for t in known_tasks().values() if t.evaluation[0] != "mAP"])
        assert tab.run("[...document.querySelectorAll('tbody b')].every((b) => b.offsetWidth > 0)")
    finally:
        tab.call("Emulation.setEmulatedMedia", media="")


@needs_browser
def test_what_is_copied_are_names_and_figures(opened):
    """No "best", no axis, no remark: the clipboard holds what a spreadsheet can use."""
    opened.run("document.addEventListener('copy', (e) => { window.copied = e.clipboardData.getData('text/plain') })")
    opened.run("getSelection().selectAllChildren(document.querySelector('table'))")
    opened.call("Runtime.evaluate", expression="document.execCommand('copy')", userGesture=True)
    rows = [line.split("\t") for line in opened.run("window.copied").split("\n")]
    assert rows[0] == ["model", "rank", "s(m)", "seeds", "NS-5h", "ESC-50", "F50K"]
    assert {len(row) for row in rows} - {1} == {7}  # one: the line above the published rows
    figures = [cell for row in rows[1:] for cell in row[4:]]
    assert all(re.fullmatch(r"-|\d+\.\d( ±\d+\.\d)?", cell) for cell in figures), figures
    plain = opened.run("getSelection().toString()")  # without the script's help, as from a drag over some words
    assert not re.search(r"\bbest\b|axis|none known", plain.split("sort by it.")[1])


@needs_browser
def test_published_rows_sort_and_filter_with_ours_and_stay_below(opened):
    others = "[...document.querySelectorAll('tbody.others')][0].rows"
    click(opened, "ESC-50")
    scores = opened.run(f"[...{others}].slice(1).map((row) => Number(row.cells[5].dataset.sort || -1))")
    assert scores == sorted(scores, reverse=True) and len(scores) > 10
    assert opened.run(f"{others}[0].className") == "group"
    type_into(opened, "base ced")
    assert opened.run(f"[...{others}].filter((row) => !row.hidden).length") == 2
    assert "1 of" in opened.run(STATUS) and "No model has all these words in its name." in opened.run(STATUS)
    opened.run("document.querySelector('input[type=checkbox]').click()")
    assert opened.run(f"{others}[0].offsetWidth") == 0


@needs_browser
def test_a_view_can_be_shared_by_its_address(tab, folder):
    tab.open(folder / "page.html")
    click(tab, "ESC-50")
    click(tab, "ESC-50")
    type_into(tab, "mwmae")
    address = tab.run("location.href")
    tab.open("about:blank")
    tab.open(address)
    assert "sorted by ESC-50, ascending" in tab.run(STATUS)
    assert sorted(tab.run(SHOWN)) == ["mwmae-base", "mwmae-nano"]
    tab.open("about:blank")


@needs_browser
def test_a_long_name_in_the_notes_wraps_on_a_phone(tab, tmp_path):
    for name in ("a" * 90, "b" * 90):
        write(tmp_path / "results", name, ESC50, family=None, name=name[:8])
    (tmp_path / "page.html").write_text(build_page(tmp_path / "results"), encoding="utf-8")
    tab.open(tmp_path / "page.html", width=390, height=844)
    assert tab.run("document.documentElement.scrollWidth") <= 390
