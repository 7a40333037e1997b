"""The page in a real Chromium: what is pressed is what the file holds, whatever happens to page or server."""

import http.client
import json
import random
import re
import threading
import time
from typing import Any

import pytest

from jobs.measuring.measure import REFERENCE
from jobs.review.verdict_store import VerdictStore
from storage.layout import SweepLayout
from storage.verdicts import read_verdicts, standing
from tests.jobs.review.conftest import Served
from tests.jobs.review.test_choose import chosen

WORDS = {"y": "duplicate", "n": "distinct", "u": "undecided"}
ALL_SAVED = "() => document.getElementById('saved').textContent === 'all saved'"
Press = tuple[str, tuple[str, tuple[int, int]], str]  # reviewer, pair, verdict


class Screen:
    """One tab of a reviewer."""

    def __init__(self, browser: Any, served: Served, reviewer: str, context: Any = None, **options: Any) -> None:
        self.context = context or browser.new_context(**options)
        self.context.set_default_timeout(120_000)  # ms: beside other tests a page may be slow
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.served, self.reviewer = served, reviewer
        self.come_in(served)

    def come_in(self, served: Served) -> None:
        """By the token, typed as one would."""
        self.page.goto(f"{served.address}/enter")
        self.page.fill("#secret", served.token)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#name")
        self.page.fill("#name", self.reviewer)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("main#page")

    @property
    def number(self) -> int:
        """Of the pair on the screen."""
        return int(self.page.locator("article.pair").get_attribute("data-number"))

    def shows(self, number: int) -> None:
        """Wait until a pair is on the screen."""
        self.page.wait_for_selector(f'#stage article[data-number="{number}"][data-ready]')

    def press(self, *keys: str) -> None:
        """Judge pair after pair, each when it is on the screen."""
        for key in keys:
            self.page.wait_for_selector("#stage article[data-ready]")
            number = self.number
            self.page.keyboard.press(key)
            self.page.wait_for_function(
                "before => document.querySelector('#stage article')?.dataset.number !== before", arg=str(number)
            )

    def saved(self) -> None:
        """Wait until the page says that all is on disk."""
        self.page.wait_for_function(ALL_SAVED)


def lines_of(layout: SweepLayout, reviewer: str) -> list[tuple[tuple[int, int], str]]:
    return [(line.pair, line.verdict or "undo") for line in read_verdicts(layout) if line.reviewer == reviewer]


def order_of(layout: SweepLayout, reviewer: str, blind: bool = False) -> list[tuple[int, int]]:
    return [shown.pair for shown in chosen(layout, blind).order(reviewer)]


def test_forty_pairs_by_keyboard_with_a_reload_two_reviewers_and_undo(chromium: Any, served: Served) -> None:
    randomly = random.Random(3)
    ada, bob = (Screen(chromium, served, name) for name in ("Ada", "Bob"))
    order = order_of(served.layout, "Ada")
    keys = {name: [randomly.choice("yynnu") for _ in range(40)] for name in ("Ada", "Bob")}
    for turn in range(20):  # both at once
        ada.press(keys["Ada"][turn])
        bob.press(keys["Bob"][turn])
    ada.page.reload()
    ada.shows(20)
    assert ada.page.locator("#done").inner_text().startswith("20 of ")
    for turn in range(20, 40):
        ada.press(keys["Ada"][turn])
        bob.press(keys["Bob"][turn])
    expected = {name: [(pair, WORDS[key]) for pair, key in zip(order, keys[name], strict=False)] for name in keys}
    bob.saved()
    assert lines_of(served.layout, "Bob") == expected["Bob"]

    ada.page.keyboard.press("z")  # takes the last one back, shows it, and another verdict is given
    ada.shows(39)
    ada.press("u")
    ada.page.keyboard.press("ArrowLeft")  # back, and the same verdict again is a line of its own
    ada.shows(39)
    assert ada.page.locator("#undecided").get_attribute("aria-pressed") == "true"
    ada.press("n")
    ada.saved()
    expected["Ada"] += [(order[39], "undo"), (order[39], "undecided"), (order[39], "distinct")]
    assert lines_of(served.layout, "Ada") == expected["Ada"]
    content = served.layout.verdicts.read_bytes()
    assert content.endswith(b"\n")
    assert all(json.loads(line)["page"] for line in content.splitlines())
    held = standing(read_verdicts(served.layout))
    (key,) = (key for key in held if key[2] == order[39] and "Ada" in held[key])
    assert held[key]["Ada"].verdict == "distinct"
    assert not ada.problems
    assert not bob.problems
    assert {url.split("/")[2] for url in ada.asked + bob.asked} == {f"127.0.0.1:{served.port}"}


def test_everything_works_by_touch_on_a_phone(chromium: Any, served: Served) -> None:
    phone = Screen(chromium, served, "Phone", viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    order = order_of(served.layout, "Phone")
    for number, button in enumerate(["duplicate", "distinct", "undecided"]):
        phone.shows(number)
        phone.page.tap(f"#{button}")
    phone.shows(3)
    phone.page.tap("#undo")
    phone.shows(2)
    phone.page.tap("#back")
    phone.shows(1)
    phone.page.tap("#duplicate")
    phone.saved()
    assert lines_of(served.layout, "Phone") == [
        (order[0], "duplicate"),
        (order[1], "distinct"),
        (order[2], "undecided"),
        (order[2], "undo"),
        (order[1], "duplicate"),
    ]
    boxes = [
        phone.page.locator(f"#{name}").bounding_box() for name in ("duplicate", "distinct", "undecided", "back", "undo")
    ]
    assert all(box["height"] >= 44 and box["width"] >= 44 for box in boxes)
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 740 for box in boxes)
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360


CONTRAST = """() => {
  const lit = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255)
    .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (!colour.endsWith(', 0)')) return colour;
    }
  };
  return [...document.querySelectorAll('body *')].filter((each) => !each.disabled && each.checkVisibility()
      && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
    .map((each) => [lit(getComputedStyle(each).color), lit(behind(each)), each.outerHTML.slice(0, 80)])
    .map(([one, other, words]) => [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), words]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_readable(chromium: Any, served: Served, scheme: str) -> None:
    screen = Screen(chromium, served, f"Contrast {scheme}", color_scheme=scheme)
    screen.press("y")
    screen.page.keyboard.press("b")
    screen.shows(0)
    found = screen.page.evaluate(CONTRAST)
    assert len(found) > 10
    assert not [each for each in found if each[0] < 4.5]


def test_a_blind_review_tells_nothing(chromium: Any, sweep: SweepLayout) -> None:
    served = Served(sweep, "--blind")
    try:
        screen = Screen(chromium, served, "Ada")
        sent: list[str] = []
        screen.page.on(
            "response",
            lambda answer: sent.append(answer.text() if "text/html" in answer.headers["content-type"] else ""),
        )
        screen.page.reload()
        order = chosen(sweep, blind=True).order("Ada")
        kinds = [shown.chosen for shown in order]
        upto = (
            max(kinds.index("control"), kinds.index("same")) + 1 if "same" in kinds[:40] else kinds.index("control") + 1
        )
        screen.press(*("y" if shown.chosen == "same" else "n" for shown in order[:upto]))
        screen.saved()
        text = "".join([*sent, screen.page.content()])
        trials = {shown.trial for shown in order}
        for secret in (*trials, "known-support", REFERENCE, "seed", "drawn", "control", "apart", "nearest", "training"):
            assert secret not in text, secret
        for shown in order[:upto]:
            assert f"{shown.distance:.4g}" not in re.sub(r"\d+ of \d+", "", text) or shown.distance == 0
        lines = [line for line in read_verdicts(sweep) if line.reviewer == "Ada"]
        assert [(line.trial, line.pair, line.chosen) for line in lines] == [
            (shown.trial, shown.pair, shown.chosen) for shown in order[:upto]
        ]
        assert all(line.blind for line in lines)
    finally:
        served.kill()


def judging(served: Served, life: int, acknowledged: list[str]) -> threading.Thread:
    """Bob, who judges as fast as he is answered, until nobody answers."""
    session = served.enter("Bob")
    choice = served.ask("GET", "/", None, session)[2].decode().split('data-choice="')[1].split('"')[0]

    def judge() -> None:
        for number in range(400):
            name = f"{life}x{number:08d}"
            form = f"verdict=distinct&number={number}&id={name}&choice={choice}&reviewer=Bob"
            try:
                status, _, _ = served.ask("POST", "/verdict", form.encode(), session)
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                acknowledged.append(name)

    thread = threading.Thread(target=judge)
    before = len(acknowledged)
    thread.start()
    while len(acknowledged) < before + 5:
        time.sleep(0.001)
    return thread


def test_a_tab_that_was_on_its_way_knows_what_another_has_saved_meanwhile(chromium: Any, sweep: SweepLayout) -> None:
    served = Served(sweep)
    try:
        screen = Screen(chromium, served, "Ada")
        screen.press("y")
        screen.saved()
        other = screen.context.new_page()

        def late(route: Any) -> None:
            answer = route.fetch()  # the server knows of one verdict
            screen.press("n", "u")
            screen.saved()
            route.fulfill(response=answer)

        other.route(f"{served.address}/", late, times=1)
        other.goto(f"{served.address}/")
        other.wait_for_selector('#stage article[data-number="3"][data-ready]')
        assert other.inner_text("#done").startswith("3 of ")
        screen.page.keyboard.press("z")
        screen.shows(2)
        screen.saved()
        other.reload()
        other.wait_for_selector('#stage article[data-number="2"][data-ready]')
        screen.context.close()
    finally:
        served.kill()


def test_a_server_killed_at_any_moment_loses_nothing_it_called_saved(chromium: Any, sweep: SweepLayout) -> None:
    served, acknowledged = Served(sweep), list[str]()
    screen = Screen(chromium, served, "Ada")
    screen.press("y", "n")
    screen.saved()
    bob = judging(served, 0, acknowledged)
    time.sleep(0.05 * random.random())
    served.kill()
    bob.join()
    screen.press("u", "y")  # pairs that were fetched before: their verdicts wait in the browser
    screen.page.wait_for_function("() => document.getElementById('problem').textContent.startsWith('Not saved yet')")
    assert len(lines_of(sweep, "Ada")) == 2

    again = Served(sweep, "--port", str(served.port))
    try:
        other = Screen(chromium, again, "Ada", context=screen.context)
        other.shows(4)
        screen.saved()
        given = ["duplicate", "distinct", "undecided", "duplicate"]
        assert lines_of(sweep, "Ada") == list(zip(order_of(sweep, "Ada"), given, strict=False))
        bob = judging(again, 1, acknowledged)
        time.sleep(0.05 * random.random())
    finally:
        again.kill()
        screen.context.close()
    bob.join()
    found = [line.id for line in read_verdicts(sweep) if line.reviewer == "Bob"]
    assert len(acknowledged) >= 10
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + 2  # at most the one under way at each kill
    verdicts = VerdictStore(sweep, chosen(sweep), "v", lambda: "now")
    verdicts.record("Bob", 7, "duplicate", "afterwards")
    lines = read_verdicts(sweep)
    assert lines[-1].id == "afterwards"
    assert len([line for line in sweep.verdicts.read_bytes().splitlines() if line]) <= len(lines) + 2
