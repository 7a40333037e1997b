"""From verdicts to results and report."""

import numpy as np
import pytest

from jobs.measuring.answers import write_answers
from jobs.measuring.measure import MeasureContext, measure_sweep
from jobs.report.sweep_page import write_report
from jobs.review.verdict_store import VerdictStore
from jobs.spec.sweep import load_spec
from storage.layout import SweepLayout
from storage.results import open_results
from storage.verdicts import DISTINCT, DUPLICATE, UNDECIDED
from tests.jobs.review.test_choose import chosen

CENTRE = 1.08  # of the reviewers' curve, in units of the automatic threshold


def judge(
    layout: SweepLayout, reviewers: tuple[str, ...], *, blind: bool, upto: int | None = None, seed: int = 0
) -> None:
    """Simulated people: a logistic curve of the distance, the same for all."""
    choice = chosen(layout, blind)
    verdicts = VerdictStore(layout, choice, "test", lambda: "2026-11-22T00:00:00+00:00")
    random = np.random.default_rng(seed)
    for reviewer in reviewers:
        for number, shown in enumerate(verdicts.order(reviewer)[:upto]):
            chance = 1 / (1 + np.exp((shown.distance / choice.threshold - CENTRE) / 0.04))
            verdict = DUPLICATE if random.random() < chance else DISTINCT
            verdicts.record(
                reviewer, number, UNDECIDED if random.random() < 0.02 else verdict, f"{reviewer}{number:08d}"
            )


def results_of(layout: SweepLayout):
    spec = load_spec(layout.spec)
    measured = measure_sweep(MeasureContext(layout, spec.collisions, 2**30, map, lambda *done: None), spec.trials())
    write_answers(layout, spec, spec.trials(), measured.real)
    return open_results(layout).load()


def test_without_verdicts_nothing_is_said(sweep: SweepLayout) -> None:
    results = results_of(sweep)
    assert not {"verdicts", "calibrated_threshold", "calibrated_support_size"} & set(results)
    assert "What people said" not in write_report(sweep).read_text("utf-8")


def test_verdicts_calibrate_results_and_report(sweep: SweepLayout) -> None:
    judge(sweep, ("Ada", "Bob"), blind=True)
    results = results_of(sweep)
    threshold = CENTRE * float(results["threshold"])
    assert results["calibrated_threshold_low"] <= threshold <= results["calibrated_threshold_high"]
    assert float(results["calibrated_threshold"]) == pytest.approx(threshold, rel=0.05)
    curve = results["duplicate_probability"].values
    assert (np.diff(curve) <= 0).all()
    assert (results["duplicate_probability_low"] <= curve).all()
    assert (results["duplicate_probability_high"] >= curve).all()
    # People are laxer than the automatic threshold, so they see fewer distinct images than it does.
    size, low, high = (results[f"calibrated_support_size{end}"].values for end in ("", "_low", "_high"))
    assert ((low < size) & (size < high) & (size < results["support_size"].values)).all()
    assert float(results["real_calibrated_support_size"]) < float(results["real_support_size"])
    assert (int(results["reviewers"]), float(results["identical_control_duplicates"])) == (
        2,
        pytest.approx(1, abs=0.15),
    )
    assert results["agreement_kappa_low"] < results["agreement_kappa"] < results["agreement_kappa_high"]
    assert float(results["agreement_kappa"]) > 0.6
    assert set(results["flagged_verdict"].values.ravel().tolist()) == {DUPLICATE}
    assert (results["n_judged_samples"].values == 4).all()
    share = results["judged_collisions"].values / 4
    np.testing.assert_allclose(results["judged_collision_probability"].values, share)
    page = write_report(sweep).read_text("utf-8")
    for words in ("What people said", "2 people gave", "Judged duplicates", "calibrated threshold", "kappa 0."):
        assert words in page
    assert page.count("A judged duplicate of") == 40


def test_measuring_again_comes_to_the_same_bits(sweep: SweepLayout) -> None:
    judge(sweep, ("Ada",), blind=False, upto=60)
    first = results_of(sweep)
    assert results_of(sweep).identical(first)
    assert first["agreement_pairs"] == 0
    assert np.isnan(first["n_judged_samples"].values).all()


def test_a_few_verdicts_leave_much_open(sweep: SweepLayout) -> None:
    judge(sweep, ("Ada",), blind=False, upto=20)
    few = results_of(sweep)
    judge(sweep, ("Bob",), blind=False, upto=200)
    many = results_of(sweep)
    widths = [float(each["calibrated_threshold_high"] - each["calibrated_threshold_low"]) for each in (few, many)]
    assert widths[0] > 1.5 * widths[1]
