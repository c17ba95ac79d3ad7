"""report.html as a reader has it: in headless Chromium, by pointer, finger and keyboard. tools/browser.sh installs one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from dagn_pre.benchmarks.downstream import report
from dagn_pre.benchmarks.downstream.report import compare
from tests.benchmarks.downstream import report_runs

pytestmark = pytest.mark.slow
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """The browser's path; without one these tests fail."""
    named = os.environ.get("DAGN_PRE_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if not found or not os.access(found, os.X_OK):
        pytest.fail(f"no Chromium ({named or ', '.join(NAMES)}): run tools/browser.sh, or name one in DAGN_PRE_CHROMIUM")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    report_runs.make(folder)
    report.write(folder)
    return (folder / "report.html").as_uri()


class Visitor:
    """Opens pages and keeps what must not happen: messages of errors, and requests that leave the page."""

    def __init__(self, browser: Browser):
        self.browser, self.wrong, self.contexts = browser, [], []

    def open(self, address: str, width: int = 1280, **options) -> Page:
        context: BrowserContext = self.browser.new_context(viewport={"width": width, "height": 800}, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: self.wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.wrong.append(request.url) if self.leaves(request.url, address) else None)
        page.route(re.compile("^(?!file:|data:)"), lambda route: route.abort())
        page.goto(address)
        return page

    @staticmethod
    def leaves(url: str, address: str) -> bool:
        return not (url.partition("#")[0] == address or url.startswith("data:"))


@pytest.fixture
def visitor(browser) -> Iterator[Visitor]:
    visitor = Visitor(browser)
    yield visitor
    for context in visitor.contexts:
        context.close()
    assert not visitor.wrong


def divider(page: Page) -> float:
    """Where the first picture's divider stands, as a share of the width, measured on the screen."""
    stage = page.locator(".stage").first.bounding_box()
    line = page.locator(".stage .divider").first.bounding_box()
    return (line["x"] + line["width"] / 2 - stage["x"]) / stage["width"]


def test_the_slider_moves_by_pointer_and_keyboard(visitor, address):
    page = visitor.open(address)
    slider, stage = page.locator(".slider").first, page.locator(".stage").first
    assert divider(page) == pytest.approx(0.5, abs=0.01)
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert divider(page) == pytest.approx(0.45, abs=0.01) and slider.get_attribute("aria-valuetext") == "45 % JPEG"
    page.keyboard.press("End")
    assert divider(page) == pytest.approx(1, abs=0.01)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 40)
    page.mouse.down()
    assert divider(page) == pytest.approx(0.8, abs=0.01)
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    assert divider(page) == pytest.approx(0.25, abs=0.01) and slider.input_value() == "25"
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 60)  # no button: it stays
    assert divider(page) == pytest.approx(0.25, abs=0.01)


def test_the_slider_moves_by_finger_and_shows_other_pixels(visitor, address):
    page = visitor.open(address, 390, has_touch=True, is_mobile=True)
    stage = page.locator(".stage").first
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    shots = []
    for share in (0.1, 0.9):
        page.touchscreen.tap(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        assert divider(page) == pytest.approx(share, abs=0.02)
        middle = {"x": box["x"] + 0.3 * box["width"], "y": box["y"] + 0.6 * box["height"], "width": 40, "height": 40}
        shots.append(page.screenshot(clip=middle))
    assert shots[0] != shots[1]  # restored, then JPEG


def test_tabs_switch_by_click_and_arrow_keys(visitor, address):
    page = visitor.open(address)
    tabs, panels = page.get_by_role("tab"), page.locator("[role=tabpanel]")

    def selected() -> list[bool]:
        state = [tab.get_attribute("aria-selected") == "true" for tab in tabs.all()]
        assert [panel.is_visible() for panel in panels.all()] == state
        assert [tab.get_attribute("tabindex") == "0" for tab in tabs.all()] == state
        return state

    assert selected() == [True, False, False]
    tabs.nth(1).click()
    assert selected() == [False, True, False]
    for key, state in (("ArrowRight", 2), ("ArrowRight", 0), ("ArrowLeft", 2), ("Home", 0), ("End", 2)):
        page.keyboard.press(key)
        assert selected().index(True) == state and page.evaluate("document.activeElement.id") == f"tab-{state}"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize(("panel", "before"), [(0, 0), (1, 5)])
def test_the_truth_switch(panel, before, visitor, address):
    """Boxes of the truth come and go on the stage's two layers and the crops; masks of the truth take the others' place."""
    page = visitor.open(address)
    page.get_by_role("tab").nth(panel).click()
    here = page.locator(f"#panel-{panel}")
    truths = here.locator(".box.truth:not(.key *)" if not panel else ".mask")
    sources = [one.get_attribute("href") for one in truths.all()]
    assert truths.count() == before
    here.locator(".slider").first.fill("30")
    here.get_by_label("Truth").check()
    if panel == 0:
        assert truths.count() >= 2 * 2 + 3  # two objects on both layers, at least one in each crop
    else:
        assert truths.count() == before
        assert len(set(sources)) == 3 and len({one.get_attribute("href") for one in truths.all()}) == 1
    assert here.locator(".slider").first.input_value() == "30"  # what was looked at is not lost
    here.get_by_label("Truth").uncheck()
    assert truths.count() == before
    here.get_by_role("checkbox").first.uncheck()
    assert here.locator(".mask, .card .box").count() == 0


def test_the_gallery_shows_what_is_chosen(visitor, address):
    page = visitor.open(address)
    here = page.locator("#panel-0")
    assert here.locator("h5").all_inner_texts() == ["gain & <b>0</b>.png, +21.4"]
    jpeg = here.locator(".before image").get_attribute("href")
    assert jpeg.startswith("data:image/jpeg")
    here.get_by_label("Show").select_option("harm")
    assert here.locator("h5").all_inner_texts() == ["harm & <b>0</b>.png, −8.4"]
    here.locator("select[name=qf]").select_option("40")
    assert here.locator(".before image").get_attribute("href") not in ("", jpeg)
    here.get_by_label("Compare").select_option("original | restored")
    assert here.locator(".before image").get_attribute("href").startswith("data:image/webp")
    assert here.locator(".side").all_inner_texts() == ["original", "restored"]
    crop = here.locator(".crops svg").first
    assert crop.get_attribute("viewBox") != "0 0 128 96"
    assert crop.locator("image").evaluate("node => getComputedStyle(node).imageRendering") == "pixelated"
    assert all(svg.get_attribute("aria-label") for svg in here.locator(".card svg").all())


def test_classes_sort_and_charts_tell_their_values(visitor, address):
    page = visitor.open(address)
    table = page.locator(".sortable").first
    names = lambda: table.locator("tbody th").all_inner_texts()  # noqa: E731
    table.get_by_role("button", name="class").click()
    assert names() == ["car", "road", "sky"] and table.locator("[aria-sort=ascending]").inner_text() == "class"
    table.get_by_role("button", name="JPEG").click()
    assert names() == ["car", "road", "sky"] and table.locator("[aria-sort]").count() == 1
    table.get_by_role("button", name="JPEG").click()
    assert names() == ["sky", "road", "car"]
    chart, tip = page.locator(".chart").first, page.locator("#tip")
    assert tip.is_hidden()
    page.mouse.move(0, 0)  # where focusing scrolls no point under the pointer
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() == "JPEG at QF 10: 21.75 [19.4, 24.4]"
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    chart.locator(".point").nth(2).hover()
    assert tip.inner_text().startswith("JPEG at QF 20")


def test_the_advice_stands_beside_its_figures(visitor, address):
    page = visitor.open(address)
    page.get_by_role("link", name="What to do").click()
    assert page.get_by_text("restore up to QF 40 with dagn-s: max_quality 41, strength 1.").is_visible()
    table = page.get_by_role("region", name="Table of the advice")
    assert table.get_by_role("row").count() == 1 + 3 * 10
    words = {one: table.get_by_text(one, exact=False).count() for one in ("▲ restore", "● not confirmed", "▼ hurts")}
    assert words == {"▲ restore": 5, "● not confirmed": 5, "▼ hurts": 6}


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_does_not_scroll_sideways(width, visitor, address):
    page = visitor.open(address, width)
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 360:  # tables do, in their own box, and a keyboard can get there
        box = page.get_by_role("region", name="Table of scores")
        assert box.evaluate("box => box.scrollWidth > box.clientWidth") and box.get_attribute("tabindex") == "0"
        sizes = page.locator(".chart:visible .tick").first.evaluate("tick => tick.getBoundingClientRect().height")
        assert sizes > 8


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)", by WCAG."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_mode_and_contrast(scheme, visitor, address):
    page = visitor.open(address, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.05) == (scheme == "dark")
    card = page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor")
    for selector, least in (("body", 7), (".note", 4.5), ("nav a", 4.5), ("caption", 4.5)):
        colour = page.evaluate("name => getComputedStyle(document.querySelector(name)).color", selector)
        assert contrast(colour, ground) >= least and contrast(colour, card) >= least
    for kind in ("good", "bad", "even"):
        style = "kind => getComputedStyle(document.querySelector('.chip.' + kind))"
        assert contrast(*(page.evaluate(f"{style}.{part}", kind) for part in ("color", "backgroundColor"))) >= 4.5
    for series in ("jpeg", "0", "1"):  # lines of a chart: 3 to 1
        stroke = page.evaluate("name => getComputedStyle(document.querySelector('.line.s-' + name)).stroke", series)
        assert contrast(stroke, card) >= 3


def test_without_javascript_tables_and_charts_are_there(visitor, address):
    page = visitor.open(address, java_script_enabled=False)
    assert all(panel.is_visible() for panel in page.locator("[role=tabpanel]").all())
    assert page.get_by_role("tablist").count() == 0
    assert page.locator(".chart").count() == 3 * 3 + 1 and page.locator(".chart").last.is_visible()
    assert page.get_by_role("columnheader", name="loss recovered").count() == 2
    assert page.get_by_text("The gallery needs JavaScript").first.is_visible()


def test_the_policy_lets_nothing_in(visitor, address):
    """A script or a request that is put into the page afterwards does not run; the page itself needs neither."""
    page = visitor.open(address)
    assert not visitor.wrong
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.intruder = 1'; document.body.append(s);"
        " const i = new Image(); i.src = 'https://example.invalid/x.png'; document.body.append(i); }"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.intruder") is None
    refused = [text for text in visitor.wrong if "Content Security Policy" in text]
    assert len(refused) == 2 and "script-src" in refused[0] and "img-src" in refused[1]
    visitor.wrong.clear()


def test_it_prints_all_models(visitor, address):
    page = visitor.open(address)
    page.emulate_media(media="print", color_scheme="dark")
    assert all(panel.is_visible() for panel in page.locator("[role=tabpanel]").all())
    assert page.get_by_role("navigation").count() == 0
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 36, 48)"


def test_the_page_of_two_runs(visitor, tmp_path):
    for name in "ab":
        report_runs.make(tmp_path / name, gallery=False)
    (written,) = compare.write(compare.compare(tmp_path / "a", tmp_path / "b"), Path(tmp_path / "c.html"))
    page = visitor.open(written.as_uri(), 360)
    assert page.get_by_role("row").count() == 1 + 3 * 16
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
