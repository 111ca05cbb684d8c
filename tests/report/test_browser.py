"""The page in a real browser, from a file, without a network: hovering, sorting, copying, phone, schemes, print."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from pipeline.report.inputs import Study
from pipeline.report.page.canvas import scheme
from pipeline.report.page.render import render_page
from pipeline.report.page.sections import model_sections
from pipeline.report.views import pair_grid
from tests.report.studies import make_study

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium found; install Debian's package chromium, or set $CHROMIUM to its path"
)


@dataclass
class Opened:
    """A page, and what the browser complained about or asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def section(self, title: str) -> Locator:
        return self.page.locator("section", has=self.page.get_by_role("heading", name=title, exact=True))


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(models=["small"], paradigms=["standard", "posthoc", "ntk", "tau_jp"], seeds=2)


@pytest.fixture(scope="module")
def path(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render_page(study, {"small": model_sections(study, "small")}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(browser: Browser, path: Path, colours: str = "light", viewport: dict[str, int] = DESKTOP) -> Opened:
    context = browser.new_context(viewport=viewport, color_scheme=colours, offline=True)  # pyright: ignore[reportArgumentType]
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = Opened(context.new_page())
    page, complaints = opened.page, opened.complaints
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "blob:", "data:")) else complaints.append(request.url),
    )
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    return opened


@pytest.fixture(scope="module")
def desktop(browser: Browser, path: Path) -> Iterator[Opened]:
    opened = open_page(browser, path)
    yield opened
    opened.page.context.close()


def test_it_opens_without_a_network_and_without_complaints(desktop: Opened) -> None:
    assert desktop.complaints == []
    plots = desktop.page.locator(".plot")
    assert plots.count() > 20
    assert desktop.page.locator(".plot .main-svg").first.is_visible()
    assert all(plot.locator(".main-svg").count() for plot in plots.all())


def test_hovering_a_bar_shows_its_number_and_interval(desktop: Opened, study: Study) -> None:
    plot = desktop.section("Task by task").locator(".plot").first
    plot.scroll_into_view_if_needed()
    plot.locator(".bars .point path").first.hover(force=True)
    row = study.results.query(
        "paradigm == 'standard' and benchmark == 'single_task' and metric == 'accuracy' and task == 'a'"
    ).iloc[0]
    value, low, high = (100 * row[column] for column in ("value", "ci_low", "ci_high"))
    expect(plot.locator(".hoverlayer")).to_contain_text(f"a: {value:.1f} % [{low:.1f}, {high:.1f}]")


def test_a_pair_is_chosen_and_its_heatmaps_can_be_hovered(desktop: Opened, study: Study) -> None:
    plot = desktop.section("Disentanglement").locator(".plot").first
    plot.scroll_into_view_if_needed()
    plot.locator(".updatemenu-header").click()
    plot.locator(".updatemenu-dropdown-button").filter(has_text="a and c").click()
    heatmaps = study.models["small"].analyses.heatmaps
    shown = plot.evaluate("plot => plot.data.map(trace => trace.z)")
    expected = [
        pair_grid(heatmaps[paradigm], ("a", "c"), distance).round(4).tolist()
        for distance in ("error", "divergence")
        for paradigm in study.paradigms
    ]
    assert shown == expected
    plot.locator(".draglayer .nsewdrag").nth(1).hover(force=True)
    value = expected[1][1][1]  # the middle of the second paradigm's grid
    label = plot.locator(".hoverlayer")
    expect(label).to_contain_text("posthoc, predictions")
    expect(label).to_contain_text(f"α₁ = 0.00, α₂ = 0.00: ξ = {value:.3f}")


def test_hovering_all_pairs_names_both_tasks(desktop: Opened) -> None:
    plot = desktop.section("Disentanglement").locator(".plot").nth(1)
    plot.scroll_into_view_if_needed()
    box = plot.locator(".draglayer .nsewdrag").first.bounding_box()
    assert box
    desktop.page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.05 * box["height"])
    for text in ("a, α = 1.00", "c, α = 1.00", "representations"):
        expect(plot.locator(".hoverlayer")).to_contain_text(text)


def test_sorting(desktop: Opened) -> None:
    table = desktop.section("Summary").locator("table").first

    def column() -> list[float]:
        cells = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
        return [float(cell.split()[0]) for cell in cells]

    heading = table.get_by_role("columnheader", name="single-task")
    before = column()
    assert before not in (sorted(before), sorted(before, reverse=True))
    heading.click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert column() == sorted(before)
    heading.click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert column() == sorted(before, reverse=True)


def test_copying(desktop: Opened) -> None:
    summary = desktop.section("Summary")
    summary.get_by_role("button", name="Copy").first.click()
    expect(desktop.page.get_by_text("Copied 5 rows to clipboard")).to_be_visible()
    text = desktop.page.evaluate("navigator.clipboard.readText()")
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    assert rows[0][:3] == ["paradigm", "single-task", "α"]
    assert {row[0] for row in rows[1:]} == {"zero-shot", "standard", "posthoc", "ntk", "tau_jp"}
    shown = summary.locator("table").first.locator("tbody tr").first.locator("td").all_inner_texts()
    assert rows[1] == shown


def test_it_fits_a_phone(browser: Browser, path: Path) -> None:
    opened = open_page(browser, path, viewport=PHONE)
    page = opened.page
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    outside = "figure => figure.getBoundingClientRect().right"
    assert max(figure.evaluate(outside) for figure in page.locator("figure, .scroll, pre").all()) <= PHONE["width"]
    assert opened.complaints == []
    page.context.close()


@pytest.mark.parametrize("name", ["light", "dark"])
def test_contrast(browser: Browser, path: Path, name: str) -> None:
    """WCAG 2: 4.5 : 1 for text, of the page, of tables and of figures."""
    opened = open_page(browser, path, name)
    page = opened.page
    background = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (background < 0.1) == (name == "dark")
    for selector, property_ in (
        ("body", "color"),
        (".note", "color"),
        ("nav a", "color"),
        ("summary", "color"),
        ("table.sortable td", "color"),
        ("table.sortable th", "color"),
        ("table.sortable small", "color"),
        ("table.sortable strong", "color"),
        (".dt-button", "color"),
        (".plot .xtick text", "fill"),
        (".plot .legendtext", "fill"),
        (".plot .ytitle", "fill"),
    ):
        colours = page.locator(selector).evaluate_all(f"found => found.map(one => getComputedStyle(one).{property_})")
        assert colours, selector
        assert min(contrast(luminance(colour), background) for colour in set(colours)) >= 4.5, selector
    backgrounds = "found => found.map(one => getComputedStyle(one).backgroundColor)"
    for colour in set(page.locator("div.dt-container, table.sortable td").evaluate_all(backgrounds)):
        assert colour == "rgba(0, 0, 0, 0)" or luminance(colour) == background
    page.context.close()


def test_it_follows_the_scheme_while_it_is_open(browser: Browser, path: Path) -> None:
    opened = open_page(browser, path, "light")
    text = opened.page.locator(".plot .xtick text").first
    for name in ("light", "dark", "light"):
        opened.page.emulate_media(color_scheme=name)  # pyright: ignore[reportArgumentType]
        expect(text).to_have_css("fill", rgb(scheme(dark=name == "dark")["layout"]["font"]["color"]))
    assert opened.complaints == []
    opened.page.context.close()


def test_print(browser: Browser, path: Path, tmp_path: Path) -> None:
    """From a dark screen: light, figures as wide as the paper, no buttons."""
    opened = open_page(browser, path, "dark")
    page = opened.page
    page.evaluate(
        """addEventListener("beforeprint", () => {
            window.printed = [...document.querySelectorAll(".plot")].map(plot => plot._fullLayout.width);
            window.colour = getComputedStyle(document.querySelector(".plot .xtick text")).fill;
        })"""
    )
    assert page.pdf(path=tmp_path / "page.pdf", format="A4").startswith(b"%PDF")
    assert set(page.evaluate("window.printed")) == {340, 700}
    assert luminance(page.evaluate("window.colour")) < 0.1
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Copy").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.complaints == []
    page.context.close()


def rgb(colour: str) -> str:
    """Return ``#rrggbb`` as a browser writes it."""
    return f"rgb({', '.join(str(int(colour[start : start + 2], 16)) for start in (1, 3, 5))})"


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of ``rgb(…)``."""
    channels = [int(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
