"""Take pictures of the report for the README with a real browser.

    .venv/bin/python -m tools.report_screenshots

Opens reports/index.html of the last run without a network, and writes docs/images/report.png (the top of the page) and
docs/images/report_heatmaps.png (the heatmaps in the dark scheme). Needs chromium: Debian's, or the one in $CHROMIUM.
"""

import os
import shutil
from pathlib import Path
from typing import Literal

import typer
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from artifacts import layout
from pipeline.errors import UserError

IMAGES = Path("docs/images")
_WIDTH = 1280


def main(page: Path = layout.REPORT, images: Path = IMAGES) -> None:
    """Take the pictures."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise UserError("no chromium found; install Debian's package chromium, or set $CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        _take(browser, page, images / "report.png", "light", "h1", 1400)
        _take(browser, page, images / "report_heatmaps.png", "dark", "[id$=-disentanglement]", 1300)
        browser.close()


def _take(browser: Browser, page: Path, image: Path, scheme: Literal["light", "dark"], top: str, height: int) -> None:
    """Write a picture that starts at the first matching element, with 256 colours, a third of the bytes."""
    context = browser.new_context(viewport={"width": _WIDTH, "height": height}, color_scheme=scheme, offline=True)
    opened = context.new_page()
    opened.goto(page.resolve().as_uri())
    opened.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    opened.locator(top).first.evaluate(
        "element => window.scrollTo({ top: element.offsetTop - 16, behavior: 'instant' })"
    )
    opened.screenshot(path=image)
    context.close()
    with Image.open(image) as taken:
        reduced = taken.convert("RGB").quantize(256)
    reduced.save(image, optimize=True)
    print(f"{image}: {image.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    typer.run(main)
