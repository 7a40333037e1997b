"""The report and the table of a small sweep, written by the storage functions that a real one is written by."""

import base64
import contextlib
import html
import io
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganlab.statistics.support import Estimate, collision_frequency, collision_probability, estimate
from jobs.cli.show import LONGEST_CELL, show_results
from jobs.console.words import energy_words, magnitude, size
from jobs.measuring.cells import stacked
from jobs.report import page as page_module
from jobs.report.figures import support_chart
from jobs.report.headline import relative_sentence
from jobs.report.sweep_page import answer, write_report
from jobs.report.sweep_table import results_table
from jobs.report.table import Interval, Row, Table, number_words
from jobs.spec.validation import SpecError
from storage.layout import SweepLayout
from storage.reference import write_reference
from storage.results import read_results, write_results
from storage.samples import Samples
from storage.shards import ShardPlan, ShardWriter, create_samples

SIZES = [10, 20, 50, 100]
FLAGGED = 6
GATE = 1.25
REAL_SIZE = 2242.5  # effective number of the real images


class Sweep:
    """Writes a sweep of trials whose samples are drawn from pools of known sizes."""

    def __init__(
        self, root: Path, shape: tuple[int, int, int] = (1, 8, 8), samples: int = 400, real: int = 300
    ) -> None:
        self.layout, self.shape, self.samples, self.random = SweepLayout(root), shape, samples, np.random.default_rng(5)
        self.real = self._pictures(real)
        self.coordinates: dict[str, list[Any]] = {}
        self.cells: list[dict[str, Any]] = []
        self.steps, self.logged = [100, 200], np.arange(0, 201, 1)
        write_reference(self.layout, self.real, fingerprint="real")

    def _pictures(self, count: int) -> np.ndarray:
        """Smooth blobs, so that a person looking at the page sees something."""
        channels, height, width = self.shape
        y, x = np.mgrid[:height, :width] / height
        at = self.random.random((4, count, 1, 1))
        blob = np.exp(-(((y - at[0]) / 0.3) ** 2) - ((x - at[1]) / 0.3) ** 2)
        blob += np.exp(-(((x - at[2]) / 0.2) ** 2)) * at[3]
        return np.repeat((blob.clip(0, 1) * 255).astype(np.uint8)[:, None], channels, axis=1)

    def trial(
        self,
        trial_id: str,
        pool: int,
        *,
        fidelity: float = 1.1,
        status: str = "completed",
        reason: str = "",
        measured: int = 2,
        stored: bool = True,
        **coordinates: Any,
    ) -> None:
        """Add a trial; `measured` of its two snapshots are complete."""
        plan = ShardPlan(tuple((step, self.samples) for step in self.steps), self.shape, self.samples, self.samples)
        images = self._pictures(pool)
        own = self.layout.trial(trial_id)
        drawn = self.random.integers(0, pool, (len(self.steps), self.samples))
        if stored:
            create_samples(own, plan)
            for shard in plan.shards[:measured]:
                ShardWriter(own, plan).write(shard.index, images[drawn[shard.index]])
        for snapshot in range(len(self.steps)):
            if snapshot >= measured:
                self.cells.append({})
                continue
            first, second = np.triu_indices(self.samples, 1)
            same = drawn[snapshot][first] == drawn[snapshot][second]
            pairs = np.stack([first[same], second[same]], axis=1)
            closest = np.stack([first[:FLAGGED], second[:FLAGGED]], axis=1) if len(pairs) < FLAGGED else pairs[:FLAGGED]
            self.cells.append(self._cell(pairs, closest + snapshot * self.samples, fidelity))
        values = {"trial": trial_id, "family": "dcgan", "status": status, "reason": reason} | coordinates
        for name, value in values.items():
            self.coordinates.setdefault(name, []).append(value)

    def _cell(self, pairs: np.ndarray, closest: np.ndarray, fidelity: float) -> dict[str, Any]:
        found: Estimate = estimate(pairs, self.samples)
        frequencies = [collision_frequency(pairs, self.samples, size) for size in SIZES]
        return {
            "diversity_ratio": found.size / REAL_SIZE,
            "diversity_ratio_low": found.low / REAL_SIZE,
            "diversity_ratio_high": found.high / REAL_SIZE,
            "support_size": found.size,
            "support_size_low": found.low,
            "support_size_high": found.high,
            "sample_size_at_half": found.sample_size_at_half,
            "sample_size_at_half_low": found.sample_size_at_half_low,
            "sample_size_at_half_high": found.sample_size_at_half_high,
            "fidelity_ratio": fidelity,
            "precision": 0.8,
            "realistic_share": 0.9,
            "heavy_mode_count": 0,
            "largest_mode_mass": found.largest_mode_mass,
            "is_lower_bound": found.one_sided,
            "samples": self.samples,
            "duplicates": found.duplicates,
            "passes_quality_gate": fidelity <= GATE,
            "collision_probability": [each.probability for each in frequencies],
            "collision_probability_low": [each.low for each in frequencies],
            "collision_probability_high": [each.high for each in frequencies],
            "collision_probability_model": [collision_probability(found.p2, size) for size in SIZES],
            "flagged_index": closest,
            "flagged_distance": 100.0 + np.arange(FLAGGED),
            "reference_index": np.tile([3, 7], (FLAGGED, 1)),
            "reference_distance": np.full((FLAGGED, 2), 250.5),
        }

    def write(self) -> SweepLayout:
        trials = len(self.coordinates["trial"])
        rows = [self.cells[place * len(self.steps) : (place + 1) * len(self.steps)] for place in range(trials)]
        variables: dict[str, Any] = stacked(rows)
        noise = self.random.normal(0, 0.1, (2, trials, len(self.logged)))
        variables |= {
            "generator_loss": noise[0] + 1 + self.logged / 200,
            "discriminator_loss": noise[1] + 1.3 - self.logged / 400,
            "threshold": 103.0,
            "real_samples": len(self.real),
            "real_duplicates": 20,
            "real_support_size": REAL_SIZE,
            "real_support_size_low": 1500.0,
            "real_support_size_high": 3700.0,
        }
        coordinates = self.coordinates | {"step": self.steps, "sample_size": SIZES, "logged_step": self.logged}
        attributes = {
            "title": "a <b>sweep</b> & more",
            "confidence": 0.95,
            "fidelity_gate": GATE,
            "embedding": "pixels",
            "threshold": {"chosen_by": "set in the sweep"},
        }
        self.layout.spec.write_text("provenance: {ganlab: 9.8.7, torch: '<script>'}\n", encoding="utf-8")
        write_results(self.layout, coordinates, variables, attributes)
        return self.layout


SCRIPT = (Path(page_module.__file__).parent / "templates/page.js").read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would be told to load and show."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.images, self.loads, self.open, self.tags = "", [], [], [], set()
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        if tag not in {"meta", "img", "br", "wbr"}:
            self.open.append(tag)
        loading = {"src", "srcset", "href", "xlink:href", "data", "action"}
        self.loads += [value or "" for name, value in attrs if name in loading]
        if tag == "img":
            self.images.append(given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def picture(self, alt: str) -> np.ndarray:
        """The pixels of the first image whose alternative text begins so."""
        address = next(image["src"] for image in self.images if image["alt"].startswith(alt))
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def discriminator(width: int) -> dict[str, int]:
    return {"discriminator_width": width, "discriminator_weights": 60 * width**2, "generator_weights": 30_000}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    """Trials of every kind: below the gate, diverse, without a duplicate, failed, stopped, without samples on disk."""
    sweep = Sweep(tmp_path_factory.mktemp("sweep (1) é") / "digits <i>")
    for seed in (0, 1):
        sweep.trial(f"noise-{seed}", 40, fidelity=1.69, seed=seed, **discriminator(2))
        sweep.trial(f"good-{seed}", 300 + 300 * seed, seed=seed, **discriminator(8))
    sweep.trial("unique", 10**6, seed=0, **discriminator(32))
    sweep.trial("gone", 500, seed=1, stored=False, **discriminator(32))
    sweep.trial(
        "failed",
        500,
        status="failed",
        reason="<script>alert(1)</script>",
        measured=0,
        stored=False,
        seed=2,
        **discriminator(8),
    )
    sweep.trial("stopped", 500, status="stopped", measured=1, seed=2, **discriminator(32))
    sweep.trial("running", 500, status="interrupted", measured=0, seed=3, **discriminator(32))
    return sweep.write()


@pytest.fixture(scope="module")
def page(layout: SweepLayout) -> Page:
    return Page(write_report(layout))


@pytest.fixture(scope="module")
def table(layout: SweepLayout) -> Table:
    return results_table(layout)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> SweepLayout:
    """GANs of one width, and autoencoders without a discriminator at two numbers of hidden units."""
    sweep = Sweep(tmp_path_factory.mktemp("families") / "sweep")
    for number, (family, width, penalty, hidden) in enumerate(
        [("dcgan", 16.0, 10.0, math.nan), ("vae", math.nan, math.nan, 64.0), ("vae", math.nan, math.nan, 4096.0)]
    ):
        for seed in (0, 1):
            own = {"discriminator_width": width, "gradient_penalty": penalty, "hidden_units": hidden}
            sweep.trial(f"{family}-{number}-{seed}", 60 + 90 * number, seed=seed, loss="log" * (number == 0), **own)
    sweep.coordinates["family"] = [name.partition("-")[0] for name in sweep.coordinates["trial"]]
    return sweep.write()


def test_a_hyperparameter_that_a_family_lacks_is_a_dash(families: SweepLayout) -> None:
    table = results_table(families)
    assert table.setting_headings[:5] == [
        *("family", "discriminator width", "gradient penalty", "hidden units", "loss"),
    ]
    assert [row[:5] for row in table.setting_rows] == [
        ["dcgan", "16", "10", "–", "log"],
        ["vae", "–", "–", "64", "–"],
        ["vae", "–", "–", "4,096", "–"],
    ]
    assert [setting.spread.seeds for setting in table.settings if setting.spread] == [2, 2, 2]
    page = Page(write_report(families))
    assert not re.search(r"\b(nan|None)\b", page.text.replace("chunks=None", ""))


def test_a_trial_is_named_by_what_varies_within_its_family(families: SweepLayout) -> None:
    table = results_table(families)
    assert [row.label for row in table.trials[::2]] == [
        "family dcgan, seed 0",
        "family vae, hidden units 64, seed 0",
        "family vae, hidden units 4,096, seed 0",
    ]
    drawn = support_chart(table)
    assert [">dcgan<" in drawn, ">vae, 64<" in drawn, ">vae, 4,096<" in drawn] == [True] * 3
    assert "family, hidden units" in drawn


def test_the_page_is_whole_and_loads_nothing(page: Page) -> None:
    assert not page.open
    assert page.loads
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.loads)
    assert not re.search(r"url\((?!#)|@import", page.source)
    assert not page.tags & {"link", "iframe", "object", "embed"}
    assert not re.search(r"fetch|XMLHttp|import|src", SCRIPT)
    assert all(image["alt"] for image in page.images)


def test_text_from_the_sweep_is_escaped(page: Page) -> None:
    assert "a <b>sweep</b> & more" in page.text
    assert "failed: <script>alert(1)</script>" in page.text
    assert {"b", "i"} & page.tags <= {"b"}
    assert page.source.count("<script") == page.source.count(f"<script>{SCRIPT}</script>") == 1
    assert "torch <script>" in page.text


def test_ids_are_unique_so_that_no_chart_borrows_from_another(page: Page) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page.source)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page.source)) <= set(ids)


def test_the_same_sweep_gives_the_same_bytes(layout: SweepLayout, page: Page) -> None:
    assert write_report(layout).read_text(encoding="utf-8") == page.source
    assert [path.name for path in layout.root.iterdir() if path.name.startswith(".")] == []


def test_the_real_images_stand_under_the_heading_of_their_number(page: Page, table: Table) -> None:
    foot = page.source.split("<tfoot>")[1].split("</tfoot>")[0]
    before, after = map(int, re.findall(r'colspan="(\d+)"', foot))
    headings = table.headings(full=True)
    assert headings[before] == "effective number"
    assert before + 1 + after == len(headings)
    assert f"<td>{table.real_support}</td>" in foot


def test_no_cell_is_cut_in_a_narrow_terminal(
    layout: SweepLayout, table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_results(layout)
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines() if str(layout.root) not in line)
    assert shown.count("…") == sum(len(cell) > LONGEST_CELL for row in table.rows for cell in row)


def test_page_and_terminal_say_the_same(page: Page, table: Table) -> None:
    for row in table.rows:
        for cell in row:
            assert cell in page.text
    for note in table.notes:
        assert note in page.text
    for sentence in answer(table):
        assert sentence in page.text.replace("\u2060", "").replace("\u00a0", " ")


def test_rows_say_what_happened(table: Table) -> None:
    rows = {row.trial: dict(zip(table.columns, row.cells(), strict=True)) for row in table.trials}
    assert {rows["noise-0"][name] for name in ("effective number", "quality gate")} == {"withheld", "not passed: far"}
    assert rows["good-0"]["quality gate"] == "passed"
    assert re.fullmatch(r"\d+ \(\d+ – \d+\)", rows["good-0"]["effective number"])
    assert rows["unique"]["effective number"].startswith("≥ ")
    assert rows["failed"]["quality gate"] == "failed: <script>alert(1)</script>"
    assert rows["failed"]["effective number"] == "–"
    assert rows["stopped"]["quality gate"] == "passed, stopped at step 100"
    assert rows["running"]["quality gate"] == "not measured"
    assert rows["good-1"]["discriminator width"] == "8"


def test_rows_hold_plain_values(table: Table) -> None:
    good = next(row for row in table.trials if row.trial == "good-1")
    assert good.settings == {"discriminator_width": 8}
    assert good.support is not None
    assert 400 < good.support.low < good.support.value < good.support.high < 900
    assert (good.step, good.samples, good.weights["discriminator"]) == (200, 400, 3840)
    assert {row.trial for row in table.trials if row.counts} == {"good-0", "good-1", "unique", "gone"}


def test_trials_that_do_not_pass_the_gate_count_for_nothing(table: Table) -> None:
    spreads = {setting.settings["discriminator_width"]: setting.spread for setting in table.settings}
    assert spreads[2] is None
    assert spreads[8] is not None
    assert spreads[8].seeds == 2
    assert spreads[32] is not None
    assert (spreads[32].seeds, spreads[32].one_sided) == (2, True)
    progress, *sentences = answer(table)
    assert progress.startswith("Not the answer yet: of 9 trials, 6 completed, 1 stopped, 1 failed, 1 interrupted.")
    often = r"at most [\d.]+ to [\d.]+ times as often as two real ones\."
    relative = "Over the trials, two generated images are duplicates " + often
    assert re.fullmatch(relative, sentences[0])
    assert "discriminator width 2 " not in sentences[1]
    assert re.search(r"about \d+ images \(2 seeds: \d+ to \d+\) at discriminator width 8 and at least", sentences[1])
    counted = (
        "Of 9 trials, 4 ran to the end and passed the quality gate; "
        "1 failed, 1 not ended yet, 1 stopped early and 2 made samples too far"
    )
    assert counted in " ".join(sentences)


def test_grids_show_the_last_snapshot(layout: SweepLayout, page: Page) -> None:
    samples = Samples(layout.trial("good-1"))
    first = samples.read(samples.steps[200].start, samples.steps[200].start + 2)
    shown = page.picture("A grid of 200 generated images, discriminator width 8, seed 1")
    assert (shown[:24, :24, 0] == first[0, 0].repeat(3, 0).repeat(3, 1)).all()
    assert (shown[:24, 27:51, 0] == first[1, 0].repeat(3, 0).repeat(3, 1)).all()
    assert shown.shape == (10 * 27 - 3, 20 * 27 - 3, 2)
    assert (shown[..., 1] == 255).mean() > 0.7
    assert "discriminator width 32, seed 1" in page.text
    assert "The images can't be shown" in page.text


def test_pairs_stand_above_their_nearest_training_images(layout: SweepLayout, page: Page) -> None:
    samples, numbers = Samples(layout.trial("good-0")), results_numbers(layout, "good-0")
    shown = page.picture(f"Samples {numbers[0]} and {numbers[1]}, 100 apart")
    pair = samples.take(numbers)
    assert (shown[:48, 51:, 0] == pair[1, 0].repeat(6, 0).repeat(6, 1)).all()
    real = np.asarray(Image.open(io.BytesIO(base64.b64decode(page.images[0]["src"].split(",")[1]))))
    assert real.shape[1] == 20 * 27 - 3
    assert (shown[51:, :48, 0][::6, ::6] == reference_image(layout, 3)).all()
    assert (shown[51:, 51:, 0][::6, ::6] == reference_image(layout, 7)).all()
    assert "104, no duplicate" in page.text


def results_numbers(layout: SweepLayout, trial: str) -> np.ndarray:
    from storage.results import open_results

    return open_results(layout)["flagged_index"].sel(trial=trial).isel(snapshot=-1, flagged=0).values.astype(int)


def reference_image(layout: SweepLayout, number: int) -> np.ndarray:
    from storage.reference import read_reference

    return read_reference(layout).read(number, number + 1)[0, 0]


def test_charts_name_what_they_show(page: Page) -> None:
    drawn = page.source[page.source.index('id="support"') : page.source.index('id="trials"')]
    assert drawn.count("<svg") == 2
    assert drawn.count(">gate not passed<") == 2
    label = "weights of the discriminator (below: its width)"
    for words in ("real images: 2.2k", "geometric mean over seeds", label, "3.8k", "61k"):
        assert f">{words}<" in drawn
    assert "#0" not in re.sub(
        r"url\(#[^)]*\)|href=\"#[^\"]*\"", "", drawn
    )  # every stand-in colour became the page's own


def test_the_chart_calls_a_lower_bound_of_the_real_images_one(table: Table) -> None:
    assert table.real is not None
    bound = replace(table.real, values={**table.real.values, "support_size_high": math.inf})
    assert ">real images: at least 2.2k<" in support_chart(replace(table, real=bound))
    assert "at least" not in support_chart(table)


@pytest.mark.parametrize(
    "kind", ["one trial", "words", "paths", "two numbers", "drawn at random", "nothing passes the gate"]
)
def test_any_sweep_gets_a_report(tmp_path: Path, kind: str) -> None:
    sweep = Sweep(tmp_path / "sweep", shape=(3, 8, 8), samples=100, real=50)
    if kind == "one trial":
        sweep.trial("only", 60, seed=0)
        expected = ["Effective number (order 2): about", "The trial passed the quality gate."]
    elif kind == "words":
        for loss in ("log", "wasserstein-gp"):
            sweep.trial(loss, 60, seed=0, loss=loss)
        expected = ["at loss log and about", "Effective number of images against loss"]
    elif kind == "paths":
        for number in range(3):
            checkpoint = f"model-{number}/unet/diffusion_pytorch_model.safetensors"
            sweep.trial(
                f"t{number}", 60, seed=0, checkpoint=checkpoint, architecture="diffusers/UNet2DModel" * (number + 1)
            )
        expected = ["checkpoint model-0/unet/diffusion_pytorch_model.safetensors"]
    elif kind == "two numbers":
        for place in range(4):
            sweep.trial(f"t{place}", 60, seed=0, discriminator_width=[8, 16][place % 2], latent_dim=[2, 4][place // 2])
        expected = ["at discriminator width 8, latent dim 2", "latent dim 4", "All 4 trials passed the quality gate."]
    elif kind == "drawn at random":
        for place in range(7):
            sweep.trial(f"t{place}", 30 + 10 * place, seed=0, learning_rate=10.0 ** (-place / 2), batch_size=16 + place)
        expected = ["Over 7 settings the effective number (order 2) goes from about", "learning rate 0.1"]
    else:
        sweep.trial("noise", 60, seed=0, fidelity=2.0)
        expected = [
            "Nothing can be said of the diversity",
            "Of 1 trial, none ran to the end and passed the quality gate; 1 made samples too far",
        ]
    page = Page(write_report(sweep.write()))
    for words in expected:
        assert words in page.text
    assert page.loads


def test_a_damaged_shard_leaves_a_gap_that_names_it(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", samples=100)
    sweep.trial("good", 60, seed=0)
    sweep.trial("bad", 60, seed=1)
    layout = sweep.write()
    shard = layout.trial("bad").shard(1)
    shard.write_bytes(shard.read_bytes()[:-1])
    page = Page(write_report(layout))
    assert page.text.count(f"damaged shard {shard}") == 2
    assert "A grid of 100 generated images, seed 0" in [image["alt"] for image in page.images]


def test_a_report_needs_no_training_images(tmp_path: Path) -> None:
    import shutil

    sweep = Sweep(tmp_path / "sweep", samples=100)
    sweep.trial("good", 60, seed=0)
    layout = sweep.write()
    shutil.rmtree(layout.reference)
    page = Page(write_report(layout))
    assert "The real images can't be read here." in page.text
    assert page.picture("Samples")[51:].max() == 0


def test_what_is_left_out_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.report.sweep_page.GRID_BYTES", 3 * 20 * (2 * 64 + 30))
    monkeypatch.setattr("jobs.report.sweep_page.PAIRS_SHOWN", 8)
    monkeypatch.setattr("jobs.report.sweep_page.SETTINGS_SHOWN", 2)
    sweep = Sweep(tmp_path / "sweep", samples=100)
    for width in (2, 4, 8):
        for seed in (0, 1):
            sweep.trial(f"t{width}-{seed}", 60, seed=seed, discriminator_width=width)
    page = Page(write_report(sweep.write()))
    grids = [image["alt"] for image in page.images if image["alt"].startswith("A grid of 20")]
    assert [re.search(r"width (\d), seed (\d)", alt).groups() for alt in grids] == [("2", "0"), ("4", "0"), ("8", "0")]  # type: ignore[union-attr]
    assert "3 more trials are left out here" in page.text
    assert "2 more pairs are left out here" in page.text
    assert "4 more trials are left out here" in page.text
    assert page.text.count("1 more setting is left out here") == 2


def test_a_page_of_many_large_pictures_stays_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the pictures are noise, which no PNG makes smaller."""
    random = np.random.default_rng(0)
    monkeypatch.setattr(Sweep, "_pictures", lambda self, n: random.integers(0, 256, (n, *self.shape), dtype=np.uint8))
    sweep = Sweep(tmp_path / "sweep", shape=(1, 64, 64), samples=100)
    for width in (8, 16, 32, 64):
        for seed in (0, 1, 2):
            sweep.trial(f"t{width}-{seed}", 60, seed=seed, discriminator_width=width)
    page = write_report(sweep.write())
    assert 1_000_000 < page.stat().st_size < 3_000_000
    assert Page(page).text.count("left out here") >= 1


def test_a_sweep_without_results_is_the_users_to_measure(tmp_path: Path) -> None:
    for ask in (write_report, results_table):
        with pytest.raises(SpecError, match=r"no results here yet; run `ganlab measure"):
            ask(SweepLayout(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["one_sided"], r"\(one_sided\)"),
        (["verdict_possible", "code_error", "heavy_modes", "one_sided"], r"\(code_error, heavy_modes, one_sided, …\)"),
    ],
)
def test_results_of_another_version_are_named(tmp_path: Path, names: list[str], named: str) -> None:
    sweep = Sweep(tmp_path / "older")
    sweep.trial("a", 30, seed=0)
    layout = sweep.write()
    assert results_table(layout).trials
    results = read_results(layout).assign({name: 1.0 for name in names})
    shutil.rmtree(layout.results)
    results.to_zarr(layout.results, zarr_format=2)
    for ask in (write_report, results_table):
        with pytest.raises(SpecError, match=rf"another version of ganlab {named}; run `ganlab measure"):
            ask(layout)


def test_the_snippet_withholds_what_the_table_withholds(page: Page, table: Table) -> None:
    code = re.search(r"<pre><code>(.*?)</code></pre>", page.source, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(html.unescape(code[1]), names)
    assert "support_size" in printed.getvalue()
    last = names["shown"].isel(snapshot=-1)
    measured = [row for row in table.trials if row.snapshot == 1]
    assert {row.passes_gate for row in measured} == {True, False}
    for row in measured:
        assert bool(last["support_size"].sel(trial=row.trial).notnull()) is row.passes_gate


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "3"),
        (3.44, "3.4"),
        (9.97, "10"),
        (42.4, "42"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (2_130, "2.1k"),
        (9_960, "10k"),
        (40_400, "40k"),
        (999_600, "1.0M"),
        (12_345_678, "12M"),
        (3.1e9, "3.1G"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
    ],
)
def test_magnitudes(value: float, words: str) -> None:
    assert magnitude(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (64, "64 bytes"),
        (999.4, "999 bytes"),
        (999.6, "1 kB"),
        (2_690_000, "2.69 MB"),
        (999_600, "1 MB"),
        (1.23e15, "1,230 TB"),
    ],
)
def test_sizes(value: float, words: str) -> None:
    assert size(value) == words


@pytest.mark.parametrize(
    ("joules", "words"),
    [(43_200, "12 Wh"), (3.59999e6, "1 kWh"), (1.368e7, "3.8 kWh"), (1.2345e10, "3.43 MWh"), (4.44e12, "1,230 MWh")],
)
def test_energies(joules: float, words: str) -> None:
    assert energy_words(joules) == words


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        (0.0012, "ratio", "0.0012"),
        (3.4e-7, "ratio", "0.00000034"),
        (0.01996, "ratio", "0.020"),
        (0.2957, "ratio", "0.30"),
        (1.999, "ratio", "2.0"),
        (0.0, "ratio", "0"),
        (1.0, "ratio", "1"),
        (1.02, "ratio", "1.02"),
        (0.998, "ratio", "0.998"),
        (0.966, "ratio", "0.97"),
        (22.32, "ratio", "22"),
        (1530.0, "ratio", "1.5k"),
        (math.inf, "ratio", "∞"),
        (math.nan, "ratio", "–"),
        (0.004, ".0%", "0.4%"),
        (0.9961, ".0%", "99.6%"),
        (0.99, ".0%", "99%"),
        (1.0, ".0%", "100%"),
        (0.0, ".1%", "0.0%"),
        (0.00002, ".2%", "0.002%"),
        (0.0004, ".2f", "0.0004"),
        (1.0, ".2f", "1.00"),
        (100.0, ",.0f", "100"),
        (math.nan, ".2f", "–"),
    ],
)
def test_a_number_never_reads_as_none_or_all_of_it_unless_it_is(value: float, form: str, words: str) -> None:
    assert number_words(value, form) == words


def test_measured_in_words() -> None:
    assert str(Interval(2130, 1790, 2510)) == "2.1k (1.8k – 2.5k)"
    assert str(Interval(40_400, 40_400, float("inf"))) == "≥ 40k"


@pytest.mark.parametrize(
    ("values", "collapsed"),
    [
        ({"diversity_ratio_high": 0.0099, "largest_mode_mass": 0.01}, True),
        (
            {"diversity_ratio_high": 0.0101, "largest_mode_mass": 0.5},
            False,
        ),  # at a wide threshold, real images have it too
        ({"diversity_ratio_high": math.inf}, False),  # no duplicate
        ({"largest_mode_mass": 1.0}, False),  # without real images, nothing to hold it against
    ],
)
def test_collapsed_is_said_against_the_real_images(values: dict[str, float], collapsed: bool) -> None:
    row = Row("a", {}, 0, "completed", "", {}, 0, 100, values)
    assert row.collapsed is collapsed


@pytest.mark.parametrize(
    ("ratio", "begins"),
    [
        ((0.2, 0.1, 0.3), "Less diverse than the real images: "),
        ((0.9, 0.7, 1.1), "No less diverse than the real images, as far as these samples show: "),
        ((2.0, 1.5, 2.7), "Fewer duplicates than among the real images: "),
        ((0.5, 0.3, 1.0), "No less diverse than the real images, as far as these samples show: "),
        ((0.05, 0.04, 30.0), "Whether they are less diverse than the real images is not known, since copies are among"),
    ],
)
def test_no_sentence_claims_more_diversity_than_the_real_images_have(
    ratio: tuple[float, float, float], begins: str
) -> None:
    names = ("diversity_ratio", "diversity_ratio_low", "diversity_ratio_high")
    words = relative_sentence(Row("a", {}, 0, "completed", "", {}, 0, 100, dict(zip(names, ratio, strict=True))))
    assert words.startswith(begins)
    assert words.endswith("Noise in the samples has this effect, too.") is (ratio[1] > 1)
