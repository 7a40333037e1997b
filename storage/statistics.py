"""Declarations of every statistic in the results: its name, dimensions, unit, meaning, method, and how it is shown.

Invariant: a statistic is declared here once; variables, missing values, JSON, tables and the reference page derive from
the declaration, and its value from one entry in `jobs.measuring.cells`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["float64", "int64", "bool", "str"]
Table = Literal["diversity", "quality", "published", "cost"]
Mean = Literal["", "arithmetic", "geometric"]

TRIAL = ("trial", "snapshot")
SAMPLE_SIZE = (*TRIAL, "sample_size")
FLAGGED = (*TRIAL, "flagged")
MODE = (*TRIAL, "mode")
COPIED = (*TRIAL, "copied")
DISTANCE = (*TRIAL, "distance")
CLASS = (*TRIAL, "class")
LOGGED = ("trial", "logged")
SETTING = ("setting",)
OF_TRIAL = ("trial",)


@dataclass(frozen=True)
class Variable:
    """One variable of the results.

    Attributes
    ----------
    dims : tuple of str
    units : str
    long_name : str
        What it is, as a plain phrase that names no other variable.
    method : str
        How it is made.
    kind : str
        Type of its elements on disk. A count that is missing reads as NaN, so counts read as float64.
    """

    dims: tuple[str, ...]
    units: str
    long_name: str
    method: str
    kind: Kind = "float64"


@dataclass(frozen=True)
class Statistic:
    """A statistic, with its interval and its control among the real images where it has them.

    Attributes
    ----------
    name, dims, units, long_name, method, kind
        As of `Variable`.
    interval : str
        How the variables ``<name>_low`` and ``<name>_high`` are made; empty when it has no interval.
    real : bool
        The real images have it too: ``real_<name>``, without the dimensions trial and snapshot.
    tables : tuple of str
        Tables in which it stands, in the order of declarations.
    heading, form : str
        Head of its column there, and the form of its cells: a format specification; "images" for numbers to two digits,
        "ratio" for what 1 divides, "squared" for squared distances, "yes" for flags.
    over_seeds : str
        Mean over the seeds of a setting, in the group `settings`: "geometric" for what is compared by ratios; empty when
        it has none.
    matched : bool
        It is also given at matched fidelity: ``<name>_matched``, one for each trial, with its mean over the seeds.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    method: str
    kind: Kind = "float64"
    interval: str = ""
    real: bool = False
    tables: tuple[Table, ...] = ()
    heading: str = ""
    form: str = ""
    over_seeds: Mean = ""
    matched: bool = False

    def variables(self) -> Iterator[tuple[str, Variable]]:
        """Its variables by name."""
        yield from self._with_ends(self.name, self.dims, self.long_name, self.method)
        if self.matched:
            yield from self._with_ends(
                f"{self.name}_matched", OF_TRIAL, f"{self.long_name}, at matched fidelity", _CROSSING
            )
        if self.real:
            dims = tuple(dim for dim in self.dims if dim not in TRIAL)
            yield from self._with_ends(
                f"real_{self.name}", dims, f"{self.long_name}, of the real images themselves", self.method
            )

    def means(self) -> Iterator[tuple[str, Variable]]:
        """Variables of its mean over the seeds of a setting, by name."""
        if not self.over_seeds:
            return
        how = "Student's t at the Dataset's attribute confidence; NaN for one seed"
        if self.over_seeds == "geometric":
            how += "; of the logarithms, and without an upper end if a seed gave a lower bound"
        for name, whose in (
            (self.name, "of the final snapshots of the n_seeds trials"),
            (f"{self.name}_matched", "of the n_matched trials"),
        )[: 1 + self.matched]:
            what = f"{self.over_seeds} mean over seeds: {VARIABLES[name].long_name}"
            yield f"{name}_mean", Variable(SETTING, self.units, what, whose)
            for end, word in (("low", "lower"), ("high", "upper")):
                yield f"{name}_{end}", Variable(SETTING, self.units, f"{what}; {word} end of its interval", how)

    def _with_ends(
        self, name: str, dims: tuple[str, ...], long_name: str, method: str
    ) -> Iterator[tuple[str, Variable]]:
        yield name, Variable(dims, self.units, long_name, method, self.kind)
        for end, word in (("low", "lower"), ("high", "upper")) if self.interval else ():
            how = f"{self.interval}; {word} end of the interval at the Dataset's attribute confidence"
            yield f"{name}_{end}", Variable(dims, self.units, f"{long_name}; {word} end of its interval", how)


_INVERSE_SIMPSON = "1 / p2 with p2 = duplicates / pairs compared: the inverse Simpson number (Hill number of order 2)"
_BALLS = "of balls that reach to the 5th nearest of their own set; as many samples as real images, see scored_images"
_MODES = "modes larger than any of a sample of the real images, or of equally likely ones without them, at 1 %"
_COPIED = "share of samples within that quantile of held-out images' distances to training images, less what is usual"
_BETA = "of samples and held-out images: a binomial law whose chance has a beta law"
_OF_CLASS = "pairs of images of that class alone"
_DEGREES = "from the number of duplicates of each image, see docs/statistics.md"
_JUDGED = "falling fit to the verdicts on pairs of all trials, weighted by the inverse of their chance to be shown"
_EXPECTED = "p2 = pairs that people would call duplicates by duplicate_probability, of the first images / their pairs"
_HELD = "while processes trained it, by the share of a GPU that it has (resources.gpus_per_trial)"
_MODEL = "1 - exp(-s (s - 1) p2 / 2)"
_CROSSING = "between the two last successive snapshots with that fidelity ratio between them"

STATISTICS: tuple[Statistic, ...] = (
    Statistic("samples", TRIAL, "images", "images compared", "all of its committed samples", "int64", real=True),
    Statistic("pairs_compared", TRIAL, "pairs", "pairs compared", "every unordered pair once", "int64", real=True),
    Statistic(
        "duplicates",
        TRIAL,
        "pairs",
        "pairs at most the threshold apart",
        "exact distances of all pairs",
        "int64",
        real=True,
    ),
    Statistic(
        "listed_samples",
        TRIAL,
        "images",
        "samples that heavy modes, classes, realistic support and collision frequencies are of",
        "all of them, or some drawn at random when duplicates are too many to list",
        "int64",
    ),
    Statistic(
        "listed_duplicates",
        TRIAL,
        "pairs",
        "duplicates among the listed samples",
        "all duplicates, or those of the samples drawn at random",
        "int64",
    ),
    Statistic(
        "diversity_ratio",
        TRIAL,
        "1",
        "chance of a duplicate among real images over that among samples",
        "real p2 / p2 at the same distance: 1 for a perfect generator; copies among the real images count for its upper "
        "end alone",
        interval="of both counts and, for a rate of real pairs, of the distance",
        tables=("diversity",),
        heading="diversity ratio",
        form="ratio",
        over_seeds="geometric",
    ),
    Statistic(
        "support_size",
        TRIAL,
        "images",
        "effective number of images (order 2)",
        _INVERSE_SIMPSON,
        interval=_DEGREES,
        real=True,
        tables=("diversity", "published"),
        heading="effective number",
        form="images",
        over_seeds="geometric",
        matched=True,
    ),
    Statistic(
        "sensitivity",
        (*TRIAL, "distance_factor"),
        "images",
        "effective number of images (order 2) at a part of the distance",
        "pairs / pairs within distance_factor times the threshold: of all pairs up to the threshold, beyond it of at "
        "most 10,000 images",
    ),
    Statistic(
        "distinct_seen",
        TRIAL,
        "images",
        "distinct images seen: size of a set no two of which are duplicates",
        "greedy packing by ascending number of duplicates, exact",
        "int64",
        real=True,
        tables=("diversity",),
        heading="distinct seen",
        form=",.0f",
    ),
    Statistic(
        "distinct_seen_share",
        TRIAL,
        "1",
        "distinct images seen, as a share of the images compared",
        "distinct_seen / samples",
        real=True,
        over_seeds="arithmetic",
    ),
    Statistic(
        "distinct_at_common_size",
        TRIAL,
        "images",
        "distinct images expected among as many samples as the smallest snapshot has",
        "rarefaction",
        over_seeds="arithmetic",
        matched=True,
    ),
    Statistic(
        "common_sample_size", (), "images", "samples of the smallest snapshot", "of all measured snapshots", "int64"
    ),
    Statistic(
        "matched_fidelity",
        (),
        "1",
        "fidelity ratio at which trials are compared",
        "of the ratios that the most completed trials reach, by snapshots that pass the quality gate, the one nearest to "
        "the median of their last ones; missing if no two trials reach one",
    ),
    Statistic(
        "unseen_share",
        TRIAL,
        "1",
        "probability that the next image duplicates none of those seen",
        "share of the samples without a duplicate (Good-Turing)",
        interval="score interval",
        real=True,
        tables=("diversity",),
        heading="unseen share",
        form=".0%",
    ),
    Statistic(
        "effective_number",
        (*TRIAL, "order"),
        "images",
        "effective number of images (Hill number); orders 0 and 1 are lower bounds",
        "order 0: Chao 1984; order 1: Chao, Wang, Jost 2013; order 2: 1 / p2",
        interval=_DEGREES,
        real=True,
    ),
    Statistic(
        "distinct_expected",
        (*TRIAL, "sample_multiple"),
        "images",
        "distinct images expected among so many times the images compared",
        "rarefaction, and extrapolation to twice the samples (Chao et al. 2014)",
        interval="leave-one-out",
        real=True,
    ),
    Statistic(
        "rate_distance",
        ("real_rate",),
        "distance",
        "distance within which a share of the pairs of different real images lie",
        "exact distances of at most 16,384 real images, copies set aside",
        interval="of the number of pairs within",
    ),
    Statistic(
        "real_copies", (), "images", "real images set aside as copies of others", "exact and near-exact copies", "int64"
    ),
    Statistic(
        "support_size_at_rate",
        (*TRIAL, "real_rate"),
        "images",
        "effective number of images (order 2) at the distance of a rate of real pairs",
        f"{_INVERSE_SIMPSON}; of at most 10,000 images",
        interval="of the sample and the distance",
    ),
    Statistic(
        "diversity_ratio_at_rate",
        (*TRIAL, "real_rate"),
        "1",
        "chance of a duplicate among real images over that among samples, at the distance of a rate of real pairs",
        "real p2 / p2 of at most 10,000 images",
        interval="of the sample and the distance",
    ),
    Statistic(
        "is_lower_bound",
        TRIAL,
        "1",
        "no duplicate seen: the effective number is a lower bound",
        "duplicates == 0; False where not measured",
        "bool",
    ),
    Statistic(
        "support_size_realistic",
        TRIAL,
        "images",
        "effective number of realistic images (order 2)",
        f"{_INVERSE_SIMPSON}; only samples in the real manifold",
        interval=_DEGREES,
    ),
    Statistic(
        "sample_size_at_half",
        TRIAL,
        "images",
        "sample size at which a duplicate is as likely as not",
        f"smallest s with {_MODEL} at least 1/2",
        interval="that of support_size",
        tables=("published",),
        heading="sample size s at ½",
        form="images",
    ),
    Statistic(
        "collision_probability",
        SAMPLE_SIZE,
        "1",
        "probability of a duplicate in a sample",
        "share of disjoint samples of that size, cut from the snapshot without replacement, that hold a duplicate",
        interval="Wilson",
    ),
    Statistic(
        "collision_probability_model",
        SAMPLE_SIZE,
        "1",
        "probability of a duplicate in a sample, from all pairs",
        _MODEL,
        real=True,
    ),
    Statistic(
        "n_disjoint_samples",
        SAMPLE_SIZE,
        "count",
        "disjoint samples of that many images",
        "images // sample size",
        "int64",
    ),
    Statistic("nonuniformity", TRIAL, "1", "unevenness of the support", "p3 / p2^2; 1 exactly when uniform", real=True),
    Statistic(
        "largest_mode_mass",
        TRIAL,
        "1",
        "share of samples in the largest mode",
        "most duplicates of one image / (samples - 1)",
    ),
    Statistic("heavy_mode_count", TRIAL, "count", "heavy modes", _MODES, "int64"),
    Statistic("heavy_mode_share", TRIAL, "1", "share of samples in heavy modes", _MODES),
    Statistic(
        "support_size_without_modes",
        TRIAL,
        "images",
        "effective number of images (order 2) without the heavy modes",
        f"{_INVERSE_SIMPSON}; without {_MODES}",
        interval=_DEGREES,
        tables=("published",),
        heading="without heavy modes",
        form="images",
    ),
    Statistic(
        "mode_mass", MODE, "1", "share of samples that duplicate the mode's first image", _MODES, interval="Wilson"
    ),
    Statistic(
        "mode_duplicates", MODE, "images", "samples that duplicate the mode's first image", "of all samples", "int64"
    ),
    Statistic(
        "mode_members", MODE, "images", "number of images in the mode", "the first and its listed duplicates", "int64"
    ),
    Statistic(
        "mode_index",
        (*MODE, "copy"),
        "1",
        "images of the mode by their numbers",
        "numbers among the samples of the trial; the first, then others",
        "int64",
    ),
    Statistic(
        "mode_reference_index",
        MODE,
        "1",
        "training image nearest to the mode's first image",
        "number of the real image",
        "int64",
    ),
    Statistic(
        "mode_reference_distance",
        MODE,
        "distance",
        "distance from the mode's first image to that training image",
        "exact distance",
    ),
    Statistic(
        "pair_distance_cdf",
        DISTANCE,
        "1",
        "probability that two images are at most so far apart",
        "share of pairs counted, exact distances",
        real=True,
    ),
    Statistic(
        "pair_distance_cdf_pairs",
        DISTANCE,
        "pairs",
        "pairs counted at that distance",
        "up to the threshold all pairs of the snapshot, beyond it those of some of its images",
        "int64",
        real=True,
    ),
    Statistic(
        "diversity_ratio_at",
        DISTANCE,
        "1",
        "chance of a duplicate among real images over that among samples, at every distance",
        "real_pair_distance_cdf / pair_distance_cdf",
    ),
    Statistic(
        "class_support_size",
        CLASS,
        "images",
        "effective number of images of a class (order 2)",
        _OF_CLASS,
        interval=_DEGREES,
        real=True,
    ),
    Statistic("class_samples", CLASS, "images", "samples of a class", "counted by label", "int64"),
    Statistic("class_duplicates", CLASS, "pairs", "duplicates of a class", _OF_CLASS, "int64"),
    Statistic(
        "class_nonuniformity", CLASS, "1", "unevenness of a class's support", "p3 / p2^2; 1 exactly when uniform"
    ),
    Statistic("class_largest_mode_mass", CLASS, "1", "share of a class's samples in its largest mode", _OF_CLASS),
    Statistic("class_nonuniform", CLASS, "1", "a few images hold much of the class", _MODES, "bool"),
    Statistic(
        "fidelity_ratio",
        TRIAL,
        "1",
        "distance to the real images against that of real ones; 1 is as near",
        "median distance of samples to their nearest training image / the same of held-out real images; missing where "
        "most real images have an exact copy",
        tables=("quality",),
        heading="fidelity ratio",
        form=".2f",
        over_seeds="arithmetic",
    ),
    Statistic(
        "passes_quality_gate",
        TRIAL,
        "1",
        "samples realistic enough for a statement on their diversity",
        "quality_reason is passed; False where not measured",
        "bool",
    ),
    Statistic(
        "quality_reason",
        TRIAL,
        "1",
        "quality gate in one word: passed, or the fault with most samples",
        "passed, copies, noise, blur or far: the fault with most samples, of the Dataset's attribute quality_faults, see "
        "docs/quality.md",
        "str",
    ),
    Statistic(
        "detail_ratio",
        TRIAL,
        "1",
        "fine detail of samples against that of real images; 1 is as much",
        "mean square along the directions of 8x8 patches that hold the last 5 % of real patches' variance / the same of "
        "held-out real images",
        tables=("quality",),
        heading="fine detail",
        form=".2f",
    ),
    Statistic(
        "copying",
        TRIAL,
        "1",
        "copies of training images among the samples in one word: copies, none-seen or unknown",
        "copies: the low end of copied_share_at is above 0 at near_quantile 0.001 or 0.01; none-seen; unknown: half of "
        "the samples might be copies and not be found, as held-out images or samples are too few, or samples blurred",
        "str",
    ),
    Statistic(
        "copied_share",
        TRIAL,
        "1",
        "share of samples that are copies of training images, or as near",
        f"{_COPIED} at near_quantile 0.01",
        interval=_BETA,
        tables=("quality",),
        heading="copied",
        form=".1%",
    ),
    Statistic(
        "copied_share_at",
        (*TRIAL, "near_quantile"),
        "1",
        "share of samples that are copies of training images, or as near, by what is called near",
        _COPIED,
        interval=_BETA,
    ),
    Statistic(
        "copied_share_seen",
        TRIAL,
        "1",
        "share of exact copies that would have been called copies",
        "with probability 0.95, wherever the other samples lie; NaN where none would",
    ),
    Statistic(
        "held_out_images",
        TRIAL,
        "images",
        "held-out images that samples are compared with",
        "0: each training image is held out in turn",
        "int64",
    ),
    Statistic(
        "authenticity",
        TRIAL,
        "1",
        "share of authentic samples",
        "farther from their nearest training image than that is from its own nearest other one (Alaa et al. 2022)",
        tables=("quality",),
        heading="authentic",
        form=".0%",
    ),
    Statistic(
        "held_out_authenticity", TRIAL, "1", "share of authentic held-out images", "as authenticity, of held-out images"
    ),
    Statistic(
        "copying_z",
        TRIAL,
        "1",
        "distances of samples to training images against those of held-out images; far below 0 where samples are nearer",
        "Mann-Whitney statistic less its mean, over its deviation for one law (Meehan et al. 2020)",
    ),
    Statistic(
        "copying_z_in_cells",
        TRIAL,
        "1",
        "distances of samples to training images against those of held-out images, by cells of training images",
        "C_T: mean over k-means cells of training images, weighted by their held-out images (Meehan et al. 2020)",
    ),
    Statistic(
        "copied_index",
        COPIED,
        "1",
        "number of a training image that most samples copy",
        "nearest to most of the samples within the smallest distance that shows copies",
        "int64",
    ),
    Statistic("copied_times", COPIED, "images", "samples that copy that training image", "counted", "int64"),
    Statistic(
        "copy_index",
        COPIED,
        "1",
        "number, in samples.zarr, of the sample nearest to that training image",
        "exact distances",
        "int64",
    ),
    Statistic(
        "copy_distance",
        COPIED,
        "distance",
        "distance from that training image to that sample",
        "exact distance; least over moves where moved copies are looked for",
    ),
    Statistic(
        "copy_move",
        COPIED,
        "1",
        "move that brings that sample so near to that training image",
        "as it is, shifted right, left, down or up by a pixel, or mirrored; where moved copies are looked for",
        "str",
    ),
    Statistic(
        "realistic_share",
        TRIAL,
        "1",
        "share of realistic samples",
        "nearer to a training image than the Dataset's attribute manifold says",
        tables=("quality",),
        heading="realistic",
        form=".1%",
    ),
    Statistic(
        "precision",
        TRIAL,
        "1",
        "share of samples in a real image's ball",
        f"Kynkäänniemi et al. 2019, {_BALLS}",
        tables=("quality",),
        heading="precision",
        form=".1%",
    ),
    Statistic(
        "recall",
        TRIAL,
        "1",
        "share of real images in a sample's ball",
        f"Kynkäänniemi et al. 2019, {_BALLS}",
        tables=("quality",),
        heading="recall",
        form=".1%",
        over_seeds="arithmetic",
        matched=True,
    ),
    Statistic(
        "density",
        TRIAL,
        "1",
        "real images' balls that hold a sample, over 5; 1 when as dense",
        f"Naeem et al. 2020, {_BALLS}",
        tables=("quality",),
        heading="density",
        form=".2f",
    ),
    Statistic(
        "coverage",
        TRIAL,
        "1",
        "share of real images whose ball holds a sample",
        f"Naeem et al. 2020, {_BALLS}",
        tables=("quality",),
        heading="coverage",
        form=".1%",
    ),
    Statistic(
        "scored_images",
        TRIAL,
        "images",
        "samples, and real images, that precision to coverage are of",
        "drawn without replacement",
        "int64",
    ),
    Statistic(
        "frechet_distance",
        TRIAL,
        "distance^2",
        "Fréchet distance to the real images",
        "of means and covariances of all samples, float64; of the real images: one random half against the other",
        real=True,
        tables=("quality",),
        heading="Fréchet distance",
        form="squared",
    ),
    Statistic(
        "frechet_distance_at_infinity",
        TRIAL,
        "distance^2",
        "Fréchet distance to the real images of infinitely many samples",
        "Chong and Forsyth 2020: extrapolated in 1/n from up to 10,000 samples; missing with fewer than four for each "
        "value of a vector",
        tables=("quality",),
        heading="at infinity",
        form="squared",
    ),
    Statistic(
        "kid",
        TRIAL,
        "1",
        "kernel Inception distance to the real images, in the space of the distances",
        "Bińkowski et al. 2018: unbiased squared MMD with the kernel (x·y / d + 1)^3, bytes as 0 to 1, mean of 10 "
        "blocks of up to 1,000 samples and real images",
        interval="of the block estimates, Student's t",
        tables=("quality",),
        heading="KID",
        form="squared",
    ),
    Statistic(
        "vendi_score",
        TRIAL,
        "images",
        "Vendi score: effective number of orthogonal images",
        "Friedman and Dieng 2023: cosine similarity in the space of the distances, of up to 2,000 images; compare only "
        "those of equally many",
        real=True,
    ),
    Statistic(
        "rke",
        TRIAL,
        "images",
        "Rényi kernel entropy score (RKE) of order 2",
        "Jalali et al. 2023: Gaussian kernel, bandwidth the distance within which 1 % of the pairs of real images lie; "
        "of up to 2,000 images, at most their number",
        real=True,
    ),
    Statistic(
        "published_support",
        TRIAL,
        "images",
        "support as the test was published",
        "sample_size_at_half^2 (Arora and Zhang 2017)",
        tables=("published",),
        heading="s²",
        form="images",
    ),
    Statistic(
        "corrected_support",
        TRIAL,
        "images",
        "support of equally likely images that repeat as often in a sample",
        "sample_size_at_half^2 / (2 ln 2)",
        tables=("published",),
        heading="s² / (2 ln 2)",
        form="images",
    ),
    Statistic(
        "theorem_bound",
        TRIAL,
        "images",
        "size of a set that holds all probability",
        "theorem of Arora and Zhang 2017, gamma 1/2, rho 1",
        tables=("published",),
        heading="theorem's bound",
        form="images",
    ),
    Statistic(
        "theorem_applies",
        TRIAL,
        "1",
        "the theorem's condition holds",
        "no heavy mode, which alone makes samples collide; False where not measured",
        "bool",
        tables=("published",),
        heading="theorem applies",
        form="yes",
    ),
    Statistic(
        "flagged_index",
        (*FLAGGED, "member"),
        "1",
        "the two images of a flagged pair",
        "numbers among the samples of the trial",
        "int64",
    ),
    Statistic(
        "flagged_distance", FLAGGED, "distance", "distance of a flagged pair", "the closest pairs, nearest first"
    ),
    Statistic(
        "flagged_verdict", FLAGGED, "1", "people's verdict on a flagged pair", "last ones given; or empty", "str"
    ),
    Statistic(
        "reference_index",
        (*FLAGGED, "member"),
        "1",
        "training image nearest to each image of a flagged pair",
        "number of the real image",
        "int64",
    ),
    Statistic(
        "reference_distance",
        (*FLAGGED, "member"),
        "distance",
        "distance to the training image nearest to each image of a flagged pair",
        "exact distance",
    ),
    Statistic(
        "reconstruction_error",
        TRIAL,
        "value",
        "distance of G(E(x)) to x",
        "root mean square over the values of up to 1,000 training images",
    ),
    Statistic(
        "reconstruction_baseline",
        TRIAL,
        "value",
        "distance of two unrelated training images",
        "as reconstruction_error, with another image for G(E(x))",
    ),
    Statistic(
        "latent_reconstruction_error",
        TRIAL,
        "1",
        "distance of E(G(z)) to z",
        "root mean square over coordinates of 1,000 codes; unrelated ones have 1.41",
    ),
    Statistic(
        "code_normality",
        TRIAL,
        "1",
        "distance of the codes E(x) to a normal law",
        "largest Kolmogorov-Smirnov distance of a coordinate",
    ),
    Statistic(
        "mixture_weight",
        (*TRIAL, "component"),
        "1",
        "learned weight of a generator in a mixture",
        "averaged weights, softmax",
    ),
    Statistic(
        "modes_found",
        TRIAL,
        "modes",
        "known modes of the data that a sample holds",
        "of gaussians-grid, by points within 3 standard deviations of a centre; of stacked-digits, by a classifier of "
        "real digits",
        "int64",
    ),
    Statistic(
        "high_quality_share",
        TRIAL,
        "1",
        "share of samples that count for a mode",
        "points within 3 standard deviations of a centre",
    ),
    Statistic(
        "mode_divergence",
        TRIAL,
        "nat",
        "divergence of the modes' shares from the real ones",
        "Kullback-Leibler, from the uniform law",
    ),
    Statistic(
        "gpu_hours",
        OF_TRIAL,
        "h",
        "GPU time that the trial has held",
        f"{_HELD}; a part of a GPU (MIG) counts as one GPU",
        tables=("cost",),
        heading="GPU-hours",
        form=",.2f",
    ),
    Statistic(
        "gpu_energy",
        OF_TRIAL,
        "J",
        "energy that the trial's GPUs have taken meanwhile",
        f"{_HELD}, of the counters that NVML has for whole GPUs; NaN where one is not known, as of parts of GPUs (MIG)",
        tables=("cost",),
        heading="energy of the GPUs",
        form="energy",
    ),
    Statistic("sweep_gpu_hours", (), "h", "GPU time that all trials have held", "sum of gpu_hours"),
    Statistic("sweep_gpu_energy", (), "J", "energy that the GPUs of all trials have taken", "sum of gpu_energy"),
    Statistic("generator_loss", LOGGED, "1", "loss of the generator", "as logged while training"),
    Statistic("discriminator_loss", LOGGED, "1", "loss of the discriminator", "as logged while training"),
    Statistic("threshold", (), "distance", "distance up to which a pair is a duplicate", "see its attribute chosen_by"),
    Statistic(
        "embedding_accuracy",
        (),
        "1",
        "held-out accuracy of the classifier whose top layer is the embedding",
        "images it never trained on",
    ),
    Statistic(
        "embedding_training_accuracy",
        (),
        "1",
        "accuracy of the embedding's classifier on images it was trained on",
        "of ten times as many images as are held out",
    ),
    Statistic(
        "duplicate_probability",
        ("judged_distance",),
        "1",
        "probability that people call two images so far apart duplicates",
        _JUDGED,
        interval="bootstrap over pairs",
    ),
    Statistic(
        "duplicate_share",
        ("distance_bin",),
        "1",
        "share of verdicts that say duplicate, by distance",
        "undecided counts half",
    ),
    Statistic("judged_pairs", ("distance_bin",), "pairs", "judged pairs by distance", "counted", "int64"),
    Statistic(
        "calibrated_threshold",
        (),
        "distance",
        "distance at which people call half of the pairs duplicates",
        _JUDGED,
        interval="bootstrap over pairs",
    ),
    Statistic(
        "calibrated_support_size",
        TRIAL,
        "images",
        "effective number of images (order 2), by people's verdicts",
        f"1 / p2; {_EXPECTED}",
        interval="of sample and calibration",
        real=True,
    ),
    Statistic(
        "judged_sample_size",
        TRIAL,
        "images",
        "sample size of the published test with people",
        "nearest to sample_size_at_half",
        "int64",
    ),
    Statistic(
        "n_judged_samples",
        TRIAL,
        "count",
        "samples of the published test",
        "those with all closest pairs judged",
        "int64",
    ),
    Statistic(
        "judged_collisions",
        TRIAL,
        "count",
        "samples with a duplicate by people's verdicts",
        "the majority says so of one of the closest pairs",
        "int64",
    ),
    Statistic(
        "judged_collision_probability",
        TRIAL,
        "1",
        "share of samples in which people find a duplicate",
        "judged_collisions / n_judged_samples",
        interval="Wilson",
    ),
    Statistic(
        "judged_published_support",
        TRIAL,
        "images",
        "support as the test was published, by people's verdicts",
        "judged_sample_size^2 where half of the samples collide",
    ),
    Statistic("reviewers", (), "count", "people who judged", "counted by name", "int64"),
    Statistic("verdicts", (), "count", "standing verdicts", "the last one of each person on each pair", "int64"),
    Statistic(
        "agreement_kappa",
        (),
        "1",
        "agreement beyond chance",
        "Cohen's kappa of two people, Fleiss' of more",
        interval="bootstrap over pairs",
    ),
    Statistic(
        "agreement_observed", (), "1", "share of verdicts of two people that are the same", "averaged over pairs"
    ),
    Statistic("agreement_pairs", (), "pairs", "pairs that two or more people judged", "counted", "int64"),
    Statistic("control_kappa", (), "1", "agreement beyond chance on the controls", "as agreement_kappa"),
    Statistic("control_verdicts", (), "count", "verdicts on pairs of real images", "shown blindly", "int64"),
    Statistic(
        "control_duplicates", (), "1", "share of verdicts that call two real images duplicates", "undecided counts half"
    ),
    Statistic(
        "identical_control_verdicts", (), "count", "verdicts on one real image shown twice", "shown blindly", "int64"
    ),
    Statistic(
        "identical_control_duplicates",
        (),
        "1",
        "share of verdicts that call one real image shown twice duplicates",
        "undecided counts half",
    ),
)

VARIABLES: dict[str, Variable] = {name: each for statistic in STATISTICS for name, each in statistic.variables()}
"""Every variable that results may have, by name."""

SETTING_VARIABLES: dict[str, Variable] = {
    "n_trials": Variable(SETTING, "count", "trials of the setting", "counted, in whatever state they are", "int64"),
    "n_seeds": Variable(
        SETTING,
        "count",
        "trials that the means are of",
        "completed, with a final snapshot that is measured and passes_quality_gate",
        "int64",
    ),
    "n_lower_bounds": Variable(
        SETTING,
        "count",
        "trials without a duplicate, whose lower bound enters the means",
        "is_lower_bound among the n_seeds trials",
        "int64",
    ),
    "n_matched": Variable(
        SETTING,
        "count",
        "trials that the means at matched fidelity are of",
        "completed, with snapshots that pass the quality gate on both sides of matched_fidelity",
        "int64",
    ),
    "matched_fidelity": VARIABLES["matched_fidelity"],
    **{name: each for statistic in STATISTICS for name, each in statistic.means()},
}
"""Every variable that the group `settings` of results may have, by name."""

COORDINATES: dict[str, tuple[str, str, str]] = {
    "snapshot": ("snapshot", "steps", "generator step of the snapshot"),
    "step": ("snapshot", "steps", "generator step of the snapshot"),
    "sample_size": ("sample_size", "images", "images drawn together"),
    "logged_step": ("logged", "steps", "generator step of a logged loss"),
    "distance": ("distance", "distance", "largest distance of a pair"),
    "class": ("class", "1", "label of a class"),
    "order": ("order", "1", "order of an effective number"),
    "distance_factor": ("distance_factor", "1", "distance over the distance of duplicates"),
    "sample_multiple": ("sample_multiple", "1", "images over the images seen"),
    "near_quantile": ("near_quantile", "1", "share of held-out images that lie as near to a training image"),
    "real_rate": ("real_rate", "1", "share of the pairs of different real images"),
    "judged_distance": ("judged_distance", "distance", "distance of a pair that people may be asked about"),
    "distance_bin": ("distance_bin", "distance", "middle of an interval of the distance"),
    "setting": ("setting", "1", "number of a setting, in the order of the sweep; in the group settings"),
}
"""Coordinates that do not lie along `trial`, nor describe a setting: dimension, unit, meaning."""


def reserved_names() -> set[str]:
    """Names that mean something of their own in the results, so that no hyperparameter may have them."""
    dims = {dim for about in VARIABLES.values() for dim in about.dims} | {dim for dim, _, _ in COORDINATES.values()}
    return {"trial", "family", "seed", "status", "reason", *VARIABLES, *SETTING_VARIABLES, *COORDINATES, *dims}
