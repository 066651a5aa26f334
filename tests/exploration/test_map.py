"""A map as its readers meet it: names of strangers are text, it works by keyboard and on a phone, it asks nobody."""

from __future__ import annotations

import base64
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from hear_models.cli.map import command
from hear_models.errors import UsageError
from hear_models.exploration import drawing
from hear_models.exploration.layout import choose_layout, lay_out
from hear_models.exploration.page import Point, map_page
from hear_models.exploration.sounds import encoded, loud_clip

RATE = 16_000
HOSTILE = "</script><script>window.hit=1</script><img src=x onerror=window.hit=2> \"'&@@DATA@@\u2028<!--"
WAIT = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

needs_browser = pytest.mark.skipif(
    browser.program() is None or sys.platform != "linux", reason="no Chromium on this machine"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`in/low`, `in/high` and one of a hostile name, five recordings each of half a second."""
    folder = tmp_path_factory.mktemp("map")
    rng, t = np.random.default_rng(0), np.arange(RATE // 2) / RATE
    for name, hertz in (("low", 300), ("high", 3_000), ("<b>&amp;", 900)):
        (folder / "in" / name).mkdir(parents=True)
        for index in range(5):
            samples = 0.3 * np.sin(2 * np.pi * hertz * t) + rng.normal(0, 0.02, len(t))
            soundfile.write(folder / "in" / name / f"a'b\"{index} #1?.wav", samples, RATE)
    return folder


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(folder / "cache"))


def run(*arguments: object):
    return CliRunner().invoke(command, [str(a) for a in (*arguments, "-m", "logmel-stats")])


def data_of(page: Path) -> dict:
    """What the page holds; the escapes are JSON's own."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)[1])


def sounds_of(page: Path) -> list[str]:
    return json.loads(re.search(r'id="sounds">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)[1])


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


# ------------------------------------------------------------------------------------------------ without a browser
def test_a_folder_becomes_a_page_with_its_sounds(folder):
    out = folder / "map.html"
    done = run(folder / "in", "-o", out, "--layout", "pca")
    assert done.exit_code == 0, done.output
    assert "15 points, 3 labels, pca" in done.output
    data = data_of(out)
    assert {tuple(label) for label in data["labels"]} == {("low", 5), ("high", 5), ("<b>&amp;", 5)}
    assert all(0 <= value <= data["steps"] for value in data["x"] + data["y"])
    clips = sounds_of(out)
    assert len(clips) == 15
    (folder / "clip.mp3").write_bytes(base64.b64decode(clips[0]))
    assert 0.4 < soundfile.info(folder / "clip.mp3").duration < 0.7


def test_near_means_alike(folder):
    assert run(folder / "in", "-o", folder / "near.html", "--layout", "pca", "--play", "none").exit_code == 0
    data = data_of(folder / "near.html")
    places = np.stack([data["x"], data["y"]], 1) / data["steps"]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(15) * 9
    labels = np.array(data["label"])
    assert (labels[apart.argmin(1)] == labels).all()


def test_recordings_can_be_linked_and_windows_shown(folder):
    (folder / "pages").mkdir(exist_ok=True)
    out = folder / "pages" / "links.html"
    done = run(folder / "in", "-o", out, "--play", "link", "--window", 0.25, "--layout", "pca")
    assert done.exit_code == 0, done.output
    data = data_of(out)
    assert len(data["x"]) == 30 and len(data["links"]) == 15 and data["parts"][1] == [0.25, 0.5]
    assert all(link.startswith("./../in/") and not set(link) & set("\"'<>#? ") for link in data["links"])
    assert 'id="sounds"' not in out.read_text("utf-8")


def test_many_clips_are_linked_rather_than_embedded(folder, monkeypatch):
    monkeypatch.setattr(drawing, "MOST_EMBEDDED", 1_000)
    done = run(folder / "in", "-o", folder / "auto.html", "--layout", "pca", "--json")
    assert json.loads(done.output)["play"] == "link"


def test_labels_of_a_table(folder):
    names = [f"{place}/a'b\"{index} #1?.wav" for place in ("low", "high") for index in range(5)]
    lines = [
        "filename,category",
        *(f'"{name.replace(chr(34), chr(34) * 2)}",kind {i % 2}' for i, name in enumerate(names)),
    ]
    (folder / "labels.csv").write_text("\n".join(lines))
    done = run(folder / "in", "-o", folder / "t.html", "--labels", folder / "labels.csv", "--play", "none")
    assert done.exit_code == 0, done.output
    assert sorted(map(tuple, data_of(folder / "t.html")["labels"])) == [("(no label)", 5), ("kind 0", 5), ("kind 1", 5)]
    assert "5 recordings are not in" in done.output
    (folder / "other.csv").write_text("path,label\nx.wav,a\n")
    done = run(folder / "in", "-o", folder / "t.html", "--labels", folder / "other.csv")
    assert isinstance(done.exception, UsageError) and "names none of these recordings" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-o", "map.png"), "end in .html"),
        (("-o", "no/map.html"), "cannot be written"),
        (("-o", "m.html", "--clip", "0"), "0.1 to 60"),
    ],
)
def test_wrong_use_is_one_sentence(folder, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(folder / "in", *arguments)
    assert isinstance(done.exception, UsageError) and sentence in str(done.exception)


def test_a_layout_that_is_not_installed_is_told_before_anything_is_embedded(folder, monkeypatch, tmp_path):
    for package in ("umap", "sklearn"):
        monkeypatch.setitem(sys.modules, package, None)
    for layout, package in (("umap", "umap-learn"), ("tsne", "scikit-learn")):
        done = run(folder / "in", "-o", tmp_path / "m.html", "--layout", layout)
        assert isinstance(done.exception, UsageError) and f"needs {package}. Install it: pip" in str(done.exception)
    assert choose_layout("auto", 100) == "pca"  # and the map is drawn all the same


def test_layouts_of_few_points_and_of_equal_ones():
    for n in (1, 2, 3):
        places = lay_out(np.eye(4, dtype=np.float32)[:n], choose_layout("auto", n))
        assert places.shape == (n, 2) and np.isfinite(places).all() and (places >= 0).all() and (places <= 1).all()
    assert np.isfinite(lay_out(np.zeros((20, 4), np.float32), "pca")).all()
    pytest.importorskip("sklearn")
    places = lay_out(np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32), "tsne")
    assert places.shape == (9, 2) and np.isfinite(places).all()


def test_the_loudest_part_is_heard(tmp_path):
    samples = np.zeros(5 * RATE)
    samples[3 * RATE : 4 * RATE] = 0.1 * np.sin(np.arange(RATE))
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    start, clip = loud_clip(tmp_path / "a.wav", None, 1.0)
    assert abs(start - 3) < 0.01 and len(clip) == RATE
    assert len(encoded(np.zeros(100, np.float32))) > 0
    assert loud_clip(tmp_path / "a.wav", (4.5, 9.0), 1.0)[0] == 4.5


# --------------------------------------------------------------------------------------------------- names of strangers
@pytest.fixture(scope="module")
def hostile(folder) -> Path:
    """A page of 300 points in two groups, every text of which is hostile."""
    rng = np.random.default_rng(0)
    points = [
        Point(
            Path(f"{i}.wav"),
            f"{i} {HOSTILE}",
            HOSTILE if i % 2 else "plain",
            tuple(rng.uniform(0.0, 0.4, 2) + i % 2 / 2),
        )
        for i in range(300)
    ]
    silence = base64.b64encode(encoded(np.zeros(RATE // 4, np.float32))).decode()
    text = map_page(points, title=HOSTILE, about=HOSTILE, clips=[silence] * 300)
    (folder / "hostile.html").write_text(text, encoding="utf-8")
    return folder / "hostile.html"


def test_the_page_is_one_file_and_names_are_text(hostile):
    text = hostile.read_text("utf-8")
    found = Elements(text).found
    assert [a.get("type") for tag, a in found if tag == "script"] == ["application/json", "application/json", None]
    assert not [tag for tag, _ in found if tag in ("img", "b", "iframe", "form", "base", "object", "embed")]
    assert not any("src" in a or "style" in a or any(name.startswith("on") for name in a) for _, a in found)
    assert all((a.get("href") or "#").startswith(("#", "data:,")) for _, a in found)
    (policy,) = (a["content"] for _, a in found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "media-src data:" in policy
    assert "url(" not in text and "@import" not in text
    assert data_of(hostile)["names"][7] == f"7 {HOSTILE}"


@pytest.fixture(scope="module")
def tab():
    with browser.Page() as opened:
        yield opened


@pytest.fixture
def opened(tab, hostile):
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(hostile)
    tab.run(WAIT)
    return tab


def chosen(tab) -> str:
    return tab.run("document.getElementById('chosen').textContent")


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_it_shows_and_fits_and_asks_nobody(tab, hostile, width, dark):
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(hostile, width, 900, dark)
    tab.run(WAIT)
    assert tab.complaints == [] and {r for r in tab.requests if not r.startswith("data:")} == {hostile.as_uri()}
    assert tab.run("window.hit") is None and tab.run("document.querySelectorAll('img').length") == 0
    assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
    counted = "[...(() => { const c = document.getElementById('canvas'); const d = new Uint32Array(c.getContext('2d')"
    counted += ".getImageData(0, 0, c.width, c.height).data.buffer); return new Set(d); })()].length"
    assert tab.run(counted) > 5  # ground, and points in two colours with their edges
    assert tab.run("document.querySelectorAll('#legend button').length") == 2


@needs_browser
def test_it_works_by_keyboard(opened):
    opened.run("document.getElementById('canvas').focus()")
    opened.press("ArrowRight")
    first = chosen(opened)
    opened.press("ArrowRight")
    assert "onerror" in first and chosen(opened) != first
    opened.press("Enter")
    assert opened.run("document.getElementById('play').textContent") == "Stop"
    opened.press("Escape")
    assert opened.run("document.getElementById('play').textContent") == "Play"
    assert opened.complaints == []


@needs_browser
def test_one_label_alone_and_a_name_that_is_looked_for(opened):
    legend = "document.querySelectorAll('#legend button')"
    opened.run(f"[...{legend}].find((b) => b.title === 'plain').click()")
    assert opened.run("document.getElementById('count').textContent") == "150 of 300 points"
    assert opened.run(f"[...{legend}].map((b) => b.getAttribute('aria-pressed')).sort().join()") == "false,true"
    opened.run(
        "(() => { const f = document.getElementById('find'); f.value = '12 <';"
        " f.dispatchEvent(new Event('input')); })()"
    )
    shown = opened.run("document.getElementById('count').textContent")
    assert shown == "3 of 300 points"  # 12, 112, 212: even ones are plain
    opened.run("document.getElementById('find').focus()")
    opened.press("Enter")
    assert chosen(opened).startswith("12 <")


@needs_browser
def test_the_wheel_zooms_and_all_of_it_comes_back(opened):
    opened.run("document.getElementById('canvas').focus()")
    opened.press("ArrowRight")
    before = chosen(opened)
    picture = "document.getElementById('canvas').toDataURL()"
    opened.run(WAIT)
    one = opened.run(picture)
    wheel = "new WheelEvent('wheel', { deltaY: -300, clientX: 400, clientY: 400, cancelable: true })"
    opened.run(f"document.getElementById('canvas').dispatchEvent({wheel})")
    opened.run(WAIT)
    assert opened.run(picture) != one and chosen(opened) == before
    opened.run("document.getElementById('all').click()")
    opened.run(WAIT)
    assert opened.run(picture) == one
