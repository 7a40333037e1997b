"""The report in a real browser: the first screen, tables that sort, links, pictures that enlarge, print.

Invariant: the page is a fixture of `test_sweep_page`, written by the code that users run.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.report.sweep_page import write_report
from tests.jobs.report.test_sweep_page import Sweep, discriminator

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep = Sweep(tmp_path_factory.mktemp("report") / "sweep")
    for width, pool, fidelity in ((2, 40, 1.69), (8, 300, 1.1), (32, 900, 1.05)):
        for seed in (0, 1):
            sweep.trial(f"t{width}-{seed}", pool + 100 * seed, fidelity=fidelity, seed=seed, **discriminator(width))
    return write_report(sweep.write())


@pytest.fixture
def page(chromium: Any, path: Path) -> Iterator[Any]:
    """The report on a wide screen; an error of its script fails the test."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown, errors = context.new_page(), []
    shown.on("pageerror", lambda error: errors.append(str(error)))
    shown.goto(path.as_uri())
    yield shown
    context.close()
    assert not errors


def shaded(element: Any) -> bool:
    """True if the right edge of an element differs in colour from most of it."""
    pixels = np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB"), dtype=np.int64)
    paper = np.median(pixels.reshape(-1, 3), axis=0)
    return bool((np.abs(pixels[:, -2] - paper).sum(axis=1) > 20).mean() > 0.5)


def column(page: Any, table: str, number: int) -> list[str]:
    return [
        row.query_selector_all("th, td")[number].inner_text() for row in page.query_selector_all(f"{table} tbody tr")
    ]


def test_answer_figure_and_table_stand_in_the_first_screen(page: Any) -> None:
    for part in (".lead", "#support .wide svg", "#support table"):
        box = page.query_selector(part).bounding_box()
        assert box["y"] + box["height"] <= 900
    assert page.evaluate("document.querySelectorAll('main > details[open]').length") == 0
    assert page.evaluate("document.documentElement.scrollHeight") < 2 * 900


def test_a_table_sorts_by_numbers_both_ways_with_words_last(page: Any) -> None:
    heading = page.query_selector("#support th:has-text('effective')")
    heading.query_selector("button").click()
    assert column(page, "#support", 0) == ["8", "32", "2"]  # what is withheld comes last
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.query_selector("button").click()
    assert column(page, "#support", 0) == ["32", "8", "2"]


def test_a_table_is_copied_as_csv(page: Any) -> None:
    page.click("#support .tools button")
    page.wait_for_selector("text=Copied")
    lines = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert lines[0].startswith("discriminator width,diversity ratio,effective number,")
    assert [line.split(",")[0] for line in lines[1:]] == ["2", "8", "32"]
    assert lines[1].endswith("0 of 2")


def test_a_point_names_its_trial_and_leads_to_its_pictures(page: Any) -> None:
    titles = page.eval_on_selector_all("#support .wide svg title", "all => all.map(each => each.textContent)")
    assert [title.split(":")[0] for title in titles] == [
        f"discriminator width {width}, seed {seed}" for width in (2, 8, 32) for seed in (0, 1)
    ]
    page.eval_on_selector("#support .wide svg a", "a => a.dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    page.wait_for_url(re.compile("#trial-t2-0$"))
    assert page.query_selector("#trial-t2-0 img").is_visible()


def test_a_picture_enlarges_and_goes_back(page: Any) -> None:
    page.click("#samples summary")
    picture = page.query_selector("#samples img")
    before = picture.bounding_box()
    picture.click()
    assert picture.bounding_box()["width"] > 1.8 * before["width"]
    page.mouse.click(700, 450)
    assert picture.bounding_box()["width"] == before["width"]


def test_a_filter_leaves_the_rows_that_hold_the_words(chromium: Any, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", samples=100)
    for seed in range(8):
        sweep.trial(f"t{seed}", 60, seed=seed, discriminator_width=4)
    page = chromium.new_page()
    page.goto(write_report(sweep.write()).as_uri())
    page.click("#trials summary")
    page.fill("#trials input", "t3")
    assert page.eval_on_selector_all("#trials tbody tr", "rows => rows.filter(row => !row.hidden).length") == 1
    page.close()


@pytest.mark.parametrize("width", [390, 1024, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_wider_than_the_page_shows_that_it_goes_on(chromium: Any, path: Path, width: int, scheme: str) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tables = page.query_selector_all(".scroll")
    hidden = [table.evaluate("each => each.scrollWidth - each.clientWidth") for table in tables]
    assert width < 1400 or not any(hidden)
    assert width > 390 or all(pixels > 100 for pixels in hidden[:2])
    for table, pixels in zip(tables, hidden, strict=True):
        if pixels == 0 or pixels > 11:  # the width of the mark itself
            assert shaded(table) == (pixels > 0)
        table.evaluate("each => each.scrollLeft = each.scrollWidth")
        assert not shaded(table)
    page.close()


def test_no_heading_of_a_table_covers_another(chromium: Any, path: Path) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 844})
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.eval_on_selector_all("thead th", "all => all.filter(each => each.scrollWidth > each.clientWidth)") == []
    page.close()


@pytest.mark.parametrize(("width", "shown"), [(390, ".narrow"), (1400, ".wide")])
def test_the_legend_names_every_series_in_full(chromium: Any, tmp_path: Path, width: int, shown: str) -> None:
    sweep = Sweep(tmp_path / "sweep", samples=100)
    losses = ["logistic", "least squares with a gradient penalty on real images", "hinge", "wasserstein"]
    for number, loss in enumerate(losses):
        for size in (4, 16):
            sweep.trial(f"t{number}-{size}", 60 + size, seed=0, loss=loss, **discriminator(size))
    page = chromium.new_page(viewport={"width": width, "height": 844})
    page.goto(write_report(sweep.write()).as_uri())
    edges = page.eval_on_selector(
        f"#support {shown} svg", "svg => [svg.getBoundingClientRect()].map(b => [b.x, b.right])"
    )
    words = page.eval_on_selector_all(
        f"#support {shown} svg text", "all => all.map(e => [e.textContent, e.getBoundingClientRect()])"
    )
    said = " ".join(text for text, _ in words)
    assert all(f"loss {loss}" in said for loss in losses)
    assert all(edges[0][0] <= box["x"] and box["x"] + box["width"] <= edges[0][1] for _, box in words)
    page.close()


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen_and_all_is_there_without_scripts(
    chromium: Any, path: Path, width: int
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 844}, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.query_selector("#support table").is_visible()
    assert "Copy as CSV" not in page.inner_text("body")
    page.click("#trials summary")
    assert page.query_selector("#trials table").is_visible()
    context.close()
    scripted = chromium.new_page(viewport={"width": width, "height": 844})
    scripted.goto(path.as_uri())
    assert scripted.evaluate("document.documentElement.scrollWidth") <= width
    scripted.close()


def test_it_prints_on_few_pages(page: Any) -> None:
    printed = page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 4
