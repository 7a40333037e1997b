"""Writes the screenshots of the documentation: the report, wide and narrow, and the review page.

`python docs/screenshots.py SWEEP` takes them of a measured sweep; it needs Chromium and the package playwright.

Invariant: nothing of the sweep changes but its report, which is written again.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from jobs.report.sweep_page import write_report
from storage.layout import SweepLayout

HERE = Path(__file__).parent
WIDE, NARROW = (1400, 900), (390, 844)  # pixels
COLOURS = 128  # of a PNG with a palette, which is a third of the size


def main(sweep: Path) -> None:
    """Write the three screenshots of a sweep beside this file."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("docs/screenshots.py: no Chromium here; install it (Debian: apt-get install chromium)")
    report = write_report(SweepLayout(sweep)).absolute().as_uri()
    with sync_playwright() as playwright, review_link(sweep) as link:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shoot(browser, report, WIDE, HERE / "report.png")
        shoot(browser, report, NARROW, HERE / "report-narrow.png")
        shoot(browser, link, WIDE, HERE / "review.png", wait_for="img")
        browser.close()


@contextmanager
def review_link(sweep: Path) -> Iterator[str]:
    """Serve the review page of a sweep, and give the link that lets one browser in."""
    command = [sys.executable, "-m", "jobs.cli", "review", str(sweep), "--reviewer", "you", "--pairs", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stderr is not None
            found = (re.search(r"http://\S+/enter#\S+", line) for line in served.stderr)
            yield next(match[0] for match in found if match)
        finally:
            served.terminate()


def shoot(browser: Any, address: str, size: tuple[int, int], path: Path, wait_for: str = "body") -> None:
    """Save the first screen of a page as a PNG with a palette."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")
    page.goto(address)
    page.wait_for_selector(wait_for)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
    page.close()
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
