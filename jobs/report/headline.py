"""The headline of one sample in a few sentences, the same on the terminal and in reports.

Invariant: each sentence says what one statistic says and no more; where the samples do not pass the quality gate nothing
is said of their diversity but that they collapsed.
"""

import math
from collections.abc import Iterator

from ganlab.quality.copying import DECIDING, MOST_SEEN, Word
from jobs.console.words import magnitude
from jobs.report.table import FAULT_WORDS, Interval, Results, Row, Table, number_words, ratio_words

LEAST_SHOWN = 0.5  # without a duplicate nothing is said where twice as many as among real images might not have shown
DECEIVING = {
    "copies": "it is that of the images they copy",
    "noise": "bad samples look diverse",
    "blur": "blurred samples look alike",
    "far": "bad samples look diverse",
}
"""Why numbers on the diversity of samples with a fault mislead."""


def headline(row: Row, table: Table, here: Results) -> list[str]:
    """Say how diverse a sample is.

    Parameters
    ----------
    row
        Its statistics with one value.
    table
        With the real images, the threshold and the gate.
    here
        The results of the snapshot alone.
    """
    gate, copies = _gate(row, table), copying_words(row, here)
    ratio = row.interval("diversity_ratio")
    if row.passes_gate:
        found = [
            relative_sentence(row),
            _effective_number(row, table, here),
            _distinct(row),
            _concentration(row, here),
            gate,
        ]
    elif ratio is not None and row.collapsed:  # no fault but blur makes so many duplicates
        found = [f"{gate} Collapsed all the same: two generated images are duplicates {relative_words(ratio)}."]
    else:
        found = [f"{gate} Nothing is said of their diversity: {DECEIVING.get(row.fault or '', '')}."]
    return [sentence for sentence in (*found, copies) if sentence]


def relative_words(ratio: Interval) -> str:
    """A diversity ratio as how often generated images are duplicates, against real ones."""
    if ratio.is_lower_bound:
        return f"at most {times_words(ratio.low)} times as often as two real ones"
    if ratio.value == 0:  # no duplicate among the real images, some among the generated ones
        return f"at least {times_words(ratio.high)} times as often as two real ones"
    least, most = times_words(ratio.high), "" if ratio.low == 0 else times_words(ratio.low)
    interval = f"{least} – {most}" if most else f"at least {least}"
    return f"{times_words(ratio.value)} times ({interval}) as often as two real ones"


def times_words(ratio: float) -> str:
    """Words for a diversity ratio: how many times as often generated images are duplicates."""
    return ratio_words(1 / ratio if ratio > 0 else math.inf)


def relative_sentence(row: Row) -> str:
    """First sentence of an answer: the diversity beside that of the real images; it never claims more than theirs."""
    ratio = row.interval("diversity_ratio")
    if ratio is None:
        return "Without real images nothing is known of how diverse they are beside these, nor of their quality."
    if ratio.low == 0 and ratio.is_lower_bound:
        return (
            "Neither two generated images nor two real ones are duplicates: nothing is said of one against the other."
        )
    words = f"two generated images are duplicates {relative_words(ratio)}."
    if ratio.is_lower_bound and ratio.low < LEAST_SHOWN:
        return f"Too few samples to say how diverse they are, without a duplicate among them: {words}"
    if ratio.high >= 1 and ratio.value**2 < LEAST_SHOWN * ratio.low:  # copies among the real images raise the upper end
        return f"Whether they are less diverse than the real images is not known, since copies are among these: {words}"
    if ratio.low <= 1 <= ratio.high:
        return f"No less diverse than the real images, as far as these samples show: {words}"
    if ratio.high < 1:
        return f"Less diverse than the real images: {words}"
    return f"Fewer duplicates than among the real images: {words} Noise in the samples has this effect, too."


def _effective_number(row: Row, table: Table, here: Results) -> str:
    support = row.support
    if support is None:
        return ""
    sentence = f"Effective number of images (order 2): {support} at distance {table.threshold:.4g}"
    if "sensitivity" in here:
        at = {f"{factor:g}": float(here["sensitivity"].sel(distance_factor=factor)) for factor in (0.9, 1.1)}
        sentence += "; " + " and ".join(f"{_at_factor(value)} at {factor}" for factor, value in at.items())
        sentence += " of that distance"
    return f"{sentence}."


def _at_factor(effective_number: float) -> str:
    return "no duplicate" if math.isinf(effective_number) else magnitude(effective_number)


def _distinct(row: Row) -> str:
    seen, unseen = row.values.get("distinct_seen"), row.interval("unseen_share")
    if seen is None or unseen is None:
        return ""
    apart = ", no two of them duplicates" if seen > 1 else ""
    return (
        f"Distinct images seen: {seen:,} of {row.samples:,} samples{apart}; one more sample would duplicate none of the "
        f"{row.samples:,} with probability {unseen.words('.1%')}."
    )


def _concentration(row: Row, here: Results) -> str:
    parts = list(_concentrations(row, here))
    return f"Where the duplicates are: {'; '.join(parts)}." if parts else ""


def _concentrations(row: Row, here: Results) -> Iterator[str]:
    if row.values.get("duplicates") == 0:
        return
    count, share = row.heavy_modes, row.values.get("heavy_mode_share")
    if "largest_mode_mass" in row.values:
        only = " and is the only heavy one" if count == 1 else ""
        yield f"the largest mode holds {number_words(row.values['largest_mode_mass'], '.2%')} of the samples{only}"
    if count > 1 and share is not None:
        yield f"{count:,} heavy modes hold {number_words(share, '.1%')}"
    if "class_duplicates" in here:
        duplicates, samples = (here[f"class_{name}"].fillna(0).values for name in ("duplicates", "samples"))
        if duplicates.sum():
            most = int(duplicates.argmax())
            yield (
                f"class {here['class'].values[most]} holds {number_words(samples[most] / samples.sum(), '.0%')} of the "
                f"samples and {number_words(duplicates[most] / row.values['listed_duplicates'], '.0%')} of the duplicates"
            )


def copying_words(row: Row, here: Results) -> str:
    """Say whether samples copy training images; nothing without real images."""
    word = row.values.get("copying")
    if not word:
        return ""
    held_out = row.values.get("held_out_images")
    control = "" if held_out else " No images are held out: each training image stood in for one in turn."
    if word == Word.UNKNOWN and row.values.get("copied_share_seen", math.inf) <= MOST_SEEN:
        return "Copying can't be said: blur brings samples near to training images, whether they are copies or not."
    if word == Word.UNKNOWN:
        count = f"{held_out:,} held-out images" if held_out else "so few real images"
        return (
            f"Copying can't be said: {count} and {row.samples:,} samples show no share of copies below a half.{control}"
        )
    if here.attrs.get("moved_copies"):
        control = f" Shifts by a pixel and mirror images were looked at, too.{control}"
    seen = number_words(row.values["copied_share_seen"], ".1%")
    if word == Word.NONE_SEEN:
        return f"No sign of copying (exact copies would have been seen from {seen} of the samples on).{control}"
    names = ("copied_share_at", "copied_share_at_low", "copied_share_at_high")
    shares = [Interval(*(float(here[name].sel(near_quantile=near)) for name in names)) for near in DECIDING]
    share = next((each for each in reversed(shares) if each.low > 0), shares[-1])  # that of the tables, where it shows
    return (
        f"Copies: {share.words('.1%')} of the samples lie as near to training images as copies, beyond what "
        f"{'held-out' if held_out else 'other training'} images do.{control}"
    )


def _gate(row: Row, table: Table) -> str:
    if "passes_quality_gate" not in row.values:
        return "Quality gate: not applied, for want of real images."
    passed = f"not passed ({row.fault}: {FAULT_WORDS[row.fault]})" if row.fault else "passed"
    if row.fidelity_ratio is None:
        return f"Quality gate: {passed}; the fidelity ratio is not defined."
    ratio = number_words(row.fidelity_ratio, ".2f")
    return (
        f"Quality gate: {passed}; the samples lie {ratio} times as far from the real images as real ones do "
        f"(at most {table.gate:g} passes)."
    )
