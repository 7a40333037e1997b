"""The sweep file: what it expands to, what it refuses and with which line, and which changes keep a trial's id."""

import copy
import pickle
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ganlab.data.datasets.digits import DigitsSettings
from ganlab.models.train_settings import TrainSettings
from jobs.spec.search_space import Parameter, draw
from jobs.spec.sweep import Spec, SpecError, TrialSettings, check_spec, difference, load_spec, shipped_sweeps
from jobs.spec.validation import Fault, validate
from storage.statistics import reserved_names

PLAIN = """
name: small
dataset: {name: digits}
model: {family: dcgan, discriminator_width: {grid_search: [4, 8]}}
train: {steps: 100}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    file = tmp_path / "a sweep.yaml"
    file.write_text(PLAIN)
    return file


def spec_of(**sections: Any) -> Spec:
    return check_spec(yaml.safe_load(PLAIN) | sections)


def refusal(path: str | Path, *overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


# --- what a file expands to ---


def test_only_name_dataset_and_family_are_required(tmp_path: Path) -> None:
    (tmp_path / "least.yaml").write_text("{name: least, dataset: {name: digits}, model: {family: dcgan}}")
    (trial,) = load_spec(tmp_path / "least.yaml").trials()
    assert trial.seed == 0
    assert trial.model.family == "dcgan"
    assert trial.dataset.name == "digits"
    assert trial.id.startswith("dcgan-")
    assert len(trial.id) == len("dcgan-") + 10


def test_grids_combine_as_a_product_with_every_seed() -> None:
    spec = spec_of(
        model={
            "family": "dcgan",
            "discriminator_width": {"grid_search": [4, 8]},
            "latent_dim": {"grid_search": [2, 3]},
        },
        seeds=[7, 9],
    )
    trials = spec.trials()
    found = [(trial.model.discriminator_width, trial.model.latent_dim, trial.seed) for trial in trials]
    assert found == [(w, d, s) for w in (4, 8) for d in (2, 3) for s in (7, 9)]
    assert len({trial.id for trial in trials}) == 8
    varying = spec.hyperparameters(trials)
    assert list(varying) == ["discriminator_width", "latent_dim"]
    assert [varying["latent_dim"][trial.id] for trial in trials] == [2, 2, 3, 3, 2, 2, 3, 3]


def test_random_draws_are_few_reproducible_and_a_prefix_of_more_draws() -> None:
    def spec(trials: int, seed: int = 0) -> Spec:
        return spec_of(
            model={"family": "dcgan", "discriminator_width": {"choice": list(range(1, 100))}},
            train={"learning_rate": {"loguniform": [1e-5, 1e-3]}, "ema_decay": {"uniform": [0.5, 0.9]}},
            search={"algorithm": "random", "trials": trials, "seed": seed},
        )

    few, many = spec(5).trials(), spec(9).trials()
    assert [trial.id for trial in few] == [trial.id for trial in many][:5]
    assert {trial.id for trial in many}.isdisjoint(trial.id for trial in spec(9, seed=1).trials())
    for trial in many:
        assert 1e-5 <= trial.train.learning_rate <= 1e-3
        assert 0.5 <= trial.train.ema_decay <= 0.9


def test_every_grid_point_gets_the_same_draws() -> None:
    search = {"algorithm": "random", "trials": 3}
    trials = spec_of(train={"learning_rate": {"uniform": [0.1, 0.2]}}, search=search).trials()
    rates = {width: [t.train.learning_rate for t in trials if t.model.discriminator_width == width] for width in (4, 8)}
    assert rates[4] == rates[8]
    assert len(set(rates[4])) == 3


def test_equal_draws_are_one_trial() -> None:
    spec = spec_of(
        model={"family": "dcgan", "latent_dim": {"choice": [2, 3]}}, search={"algorithm": "random", "trials": 20}
    )
    assert sorted(trial.model.latent_dim for trial in spec.trials()) == [2, 3]


def test_draws_spread_over_their_range() -> None:
    uniform = [draw(Parameter(("train", "x"), "uniform", (0, 1)), 0, k) for k in range(2000)]
    assert 0.47 < sum(uniform) / 2000 < 0.53
    below = [draw(Parameter(("train", "x"), "loguniform", (1e-4, 1)), 0, k) < 1e-2 for k in range(2000)]
    assert 0.45 < sum(below) / 2000 < 0.55
    chosen = [draw(Parameter(("train", "x"), "choice", ("a", "b", "c")), 0, k) for k in range(2000)]
    assert all(550 < chosen.count(value) < 800 for value in "abc")


def test_optuna_hands_its_space_over_and_resolves_suggestions() -> None:
    spec = spec_of(
        model={"family": "dcgan", "discriminator_width": {"choice": [4, 8]}},
        train={"steps": 100, "learning_rate": {"loguniform": [1e-5, 1e-3]}},
        search={"algorithm": "optuna", "trials": 6},
    )
    assert [(word.key, word.kind, word.values) for word in spec.space()] == [
        ("model.discriminator_width", "choice", (4, 8)),
        ("train.learning_rate", "loguniform", (1e-5, 1e-3)),
    ]
    assert len(spec.trials()) == 6
    trial = spec.trial({"model.discriminator_width": 8, "train.learning_rate": 2e-4})
    assert (trial.model.discriminator_width, trial.train.learning_rate, trial.seed) == (8, 2e-4, 0)
    same = spec_of(model={"family": "dcgan", "discriminator_width": 8}, train={"steps": 100, "learning_rate": 2e-4})
    assert trial.id == same.trials()[0].id


def test_a_short_name_that_would_be_ambiguous_is_written_in_full() -> None:
    spec = spec_of().model_copy(
        update={
            "model": {"family": "dcgan", "latent_dim": {"grid_search": [1]}, "seed": {"grid_search": [1]}},
            "train": {"latent_dim": {"grid_search": [1]}},
        }
    )
    assert list(spec.hyperparameters([])) == ["model_latent_dim", "model_seed", "train_latent_dim"]


def test_the_family_may_be_searched() -> None:
    trials = check_spec(
        {"name": "two", "dataset": {"name": "digits"}, "model": {"family": {"grid_search": ["dcgan"]}}}
    ).trials()
    assert [trial.model.family for trial in trials] == ["dcgan"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("1E-3", 1e-3),
        (".5", 0.5),
        ("0.001", 0.001),
        ("1_0e0", None),
        ("1", 1.0),
    ],
)
def test_numbers_are_those_of_yaml_1_2(sweep: Path, text: str, value: float | None) -> None:
    if value is None:
        assert "a number above 0 and of at most 1" in refusal(sweep, f"train.learning_rate={text}")
    else:
        assert load_spec(sweep, [f"train.learning_rate={text}"]).trials()[0].train.learning_rate == value


def test_set_reaches_into_search_words_and_makes_sections(sweep: Path) -> None:
    spec = load_spec(sweep, ["model.discriminator_width.grid_search=[1, 2, 3]", "samples.final_images=500", "seeds=2"])
    assert len(spec.trials()) == 6
    assert spec.samples.final_images == 500
    assert str(sweep) in spec.source
    assert "seeds=2" in spec.source


# --- identity ---


def shuffled(data: Any, order: random.Random) -> Any:
    if not isinstance(data, dict):
        return data
    items = list(data.items())
    order.shuffle(items)
    return {key: shuffled(value, order) for key, value in items}


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.data())
def test_ids_do_not_depend_on_the_order_of_keys_or_on_defaults_written_out(order: int, data: st.DataObject) -> None:
    plain = yaml.safe_load(PLAIN) | {"samples": {"snapshots": [10, 20]}, "seeds": 2}
    expected = {trial.id for trial in check_spec(plain).trials()}
    written = check_spec(plain).resolved()
    some = copy.deepcopy(plain)
    for section in ("dataset", "model", "train", "samples"):
        for key, value in written[section].items():
            if data.draw(st.booleans()):
                some[section].setdefault(key, value)
    assert {trial.id for trial in check_spec(shuffled(some, random.Random(order))).trials()} == expected


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"collisions": {"flagged": 5, "threshold": 3.5}},
        {"resources": {"gpus_per_trial": 0.5}},
    ],
)
def test_ids_do_not_depend_on_what_is_no_science(change: dict[str, Any]) -> None:
    assert [trial.id for trial in spec_of(**change).trials()] == [trial.id for trial in spec_of().trials()]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"name": "digits", "resolution": 16}},
        {"samples": {"final_images": 30_000}},
        {"train": {"steps": 101}},
        {"seeds": [1]},
        {"model": {"family": "dcgan", "discriminator_width": 5}},
    ],
)
def test_ids_depend_on_all_science(change: dict[str, Any]) -> None:
    assert {trial.id for trial in spec_of(**change).trials()}.isdisjoint(trial.id for trial in spec_of().trials())


def test_ids_do_not_depend_on_where_the_dataset_lies(tmp_path: Path) -> None:
    here = spec_of(dataset={"name": "images", "path": str(tmp_path)})
    there = spec_of(dataset={"name": "images", "path": "/elsewhere"})
    assert here.trials()[0].id == there.trials()[0].id
    assert difference(here, there) == []


def test_a_new_sweep_holds_out_images_and_one_begun_before_does_not(tmp_path: Path) -> None:
    new, none, half = (spec_of(dataset={"name": "digits", **more}) for more in ({}, {"held_out": 0}, {"held_out": 0.5}))
    assert new.dataset == DigitsSettings(held_out="auto")
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(none.resolved({"ganlab": "0.1.0"})))
    assert "held_out" not in file.read_text()
    before = load_spec(file)
    assert before.dataset == DigitsSettings()
    assert difference(before, new)
    assert difference(before, new.continuing(before)) == []
    assert [trial.id for trial in new.continuing(before).trials()] == [trial.id for trial in none.trials()]
    for asked in (half, none):
        assert asked.continuing(new).dataset == asked.dataset, "the file says it"
    assert len({spec.trials()[0].id for spec in (new, none, half)}) == 3


@pytest.mark.parametrize(
    ("dataset", "collisions", "embedding"),
    [
        ({"name": "cifar10", "path": "x"}, {}, "normalised"),
        ({"name": "cifar10", "path": "x"}, {"threshold": {"rate": 0.001}}, "normalised"),
        ({"name": "cifar10", "path": "x"}, {"threshold": 900.0}, "pixels"),
        ({"name": "cifar10", "path": "x"}, {"embedding": "pixels"}, "pixels"),
        ({"name": "images", "path": "x", "resolution": 32, "channels": 1}, {}, "pixels"),
        ({"name": "array", "path": "not-there.npy"}, {}, "pixels"),
        ({"name": "digits"}, {}, "pixels"),
        ({"name": "stacked-digits"}, {}, "pixels"),
    ],
)
def test_colour_pictures_are_compared_normalised_unless_a_distance_of_pixels_is_given(
    dataset: dict[str, Any], collisions: dict[str, Any], embedding: str
) -> None:
    assert spec_of(dataset=dataset, collisions=collisions).collisions.embedding == embedding


def test_a_sweep_begun_in_pixels_stays_in_pixels(tmp_path: Path) -> None:
    new = spec_of(dataset={"name": "cifar10", "path": "x"}, collisions={})
    pixels = spec_of(dataset={"name": "cifar10", "path": "x"}, collisions={"embedding": "pixels"})
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(pixels.resolved({"ganlab": "0.1.0"})))
    before = load_spec(file)
    assert before.collisions.embedding == "pixels"
    assert new.continuing(before).collisions.embedding == "pixels"
    asked = spec_of(dataset={"name": "cifar10", "path": "x"}, collisions={"embedding": "normalised"})
    assert asked.continuing(before).collisions.embedding == "normalised", "the file says it"


@pytest.mark.parametrize("name", ["known-support", "gaussians-grid", "stacked-digits"])
def test_images_that_are_drawn_are_not_held_out(name: str) -> None:
    more = {"pool": 5} if name == "known-support" else {}
    assert not hasattr(spec_of(dataset={"name": name, **more}).dataset, "held_out")


def test_more_trials_keep_the_ids_there_are() -> None:
    more = spec_of(model={"family": "dcgan", "discriminator_width": {"grid_search": [2, 8, 4]}}, seeds=3)
    assert {trial.id for trial in spec_of().trials()} < {trial.id for trial in more.trials()}


def test_a_trial_survives_json_and_pickle() -> None:
    for trial in spec_of(dataset={"name": "known-support", "pool": 5, "weights": [1, 1, 1, 1, 2]}).trials():
        assert TrialSettings.model_validate(trial.model_dump(mode="json")) == trial
        assert pickle.loads(pickle.dumps(trial)) == trial


def test_a_resolved_spec_reads_back_as_the_same_sweep(tmp_path: Path) -> None:
    for name in shipped_sweeps():
        spec = load_spec(name)
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump(spec.resolved({"ganlab": "1.0", "commit": None})))
        again = load_spec(file)
        assert again.trials() == spec.trials()
        assert difference(again, spec) == difference(spec, again) == []
        assert again.provenance == {"ganlab": "1.0", "commit": None}
        assert again.resolved() == spec.resolved({"ganlab": "1.0", "commit": None})


def test_every_default_is_written_out() -> None:
    resolved = spec_of().resolved()
    assert resolved["train"]["batch_size"] == 64
    assert resolved["model"]["latent_dim"] == 100
    assert resolved["model"]["discriminator_width"] == {"grid_search": [4, 8]}
    assert resolved["collisions"]["sample_sizes"] == [50, 100, 200, 400]


# --- going on in a sweep's folder ---


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 4},
        {"model": {"family": "dcgan", "discriminator_width": {"grid_search": [8, 16, 4]}}},
        {"resources": {"max_concurrent": 3}},
    ],
)
def test_a_sweep_may_grow(change: dict[str, Any]) -> None:
    assert difference(spec_of(), spec_of(**change)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "other"}, ["name", '"small" there', '"other" here']),
        ({"dataset": {"name": "digits", "resolution": 16}}, ["dataset.resolution is 8 there and 16 here"]),
        ({"collisions": {"threshold": 5.0}}, ['collisions.threshold is "auto" there and 5.0 here']),
        ({"samples": {"final_images": 500}}, ["samples.final_images is 20000 there and 500 here"]),
        ({"train": {"steps": 200}}, ["2 of the trials there", "train.steps is 100 there and 200 here"]),
        (
            {"model": {"family": "dcgan", "discriminator_width": {"grid_search": [4]}}},
            [
                "1 of the trials",
                'model.discriminator_width is {"grid_search": [4, 8]} there and {"grid_search": [4]} here',
            ],
        ),
        ({"seeds": [1, 2]}, ["2 of the trials there", "seeds is 1 there and [1, 2] here"]),
    ],
)
def test_another_sweep_is_told_apart(change: dict[str, Any], words: list[str]) -> None:
    text = " | ".join(difference(spec_of(), spec_of(**change)))
    assert all(word in text for word in words), text


def test_an_optuna_sweep_may_only_be_given_more_suggestions() -> None:
    def spec(trials: int, high: float = 1e-3) -> Spec:
        return spec_of(
            train={"learning_rate": {"loguniform": [1e-5, high]}, "steps": 100},
            model={"family": "dcgan"},
            search={"algorithm": "optuna", "trials": trials},
        )

    assert difference(spec(5), spec(8)) == []
    assert difference(spec(8), spec(5)) == ["search.trials is 8 there and 5 here"]
    assert "train.learning_rate" in difference(spec(5), spec(5, high=1e-2))[0]


# --- bad input: (what is set, what the one line says) ---

BAD = [
    ("train.stps=3", ["train.stps: unknown key", "3", "steps, batch_size", "did you mean steps?"]),
    ("modl.family=dcgan", ["modl: unknown key", "did you mean model?"]),
    ("steps=3", ["steps: unknown key", "did you mean train.steps?"]),
    ("model.batch_size=3", ["model.batch_size: unknown key", "did you mean train.batch_size?"]),
    ("model.discriminator_widt={grid_search: [1]}", ["model.discriminator_widt: unknown key", "discriminator_width?"]),
    ("dataset.base.x=1", ["dataset.base: unknown key", "name, resolution"]),
    ("model.discriminator_width=0", ["model.discriminator_width: got 0", "from 1 to 4096"]),
    ("model.discriminator_width.grid_search=[4, 0]", ["model.discriminator_width.grid_search[1]: got 0", "from 1"]),
    ("model.discriminator_width.grid_search=[0, 4]", ["model.discriminator_width.grid_search[0]: got 0", "from 1"]),
    ("model.discriminator_width.grid_search=[wide]", ['discriminator_width.grid_search[0]: got "wide"', "whole"]),
    ("model.discriminator_width.grid_search=[]", ["model.discriminator_width.grid_search: got []", "at least one"]),
    ("model.discriminator_width.grid_search=4", ["model.discriminator_width.grid_search: got 4", "a list"]),
    ("model.discriminator_width.grid_search=[4, 4]", ["grid_search[1]: got 4 twice", "each value once"]),
    ("model.discriminator_width={gridsearch: [4]}", ["unknown search word", "did you mean grid_search?"]),
    ("model.discriminator_width.choice=[4]", ["got the keys grid_search, choice", "one search word alone"]),
    ("model.discriminator_width={choice: [4]}", ["got choice with search.algorithm = grid", "random"]),
    ("train.learning_rate={uniform: [2, 1]}", ["train.learning_rate.uniform: got [2, 1]", "low < high"]),
    ("train.learning_rate={uniform: [1]}", ["train.learning_rate.uniform: got [1]", "[low, high]"]),
    ("train.learning_rate={uniform: [true, 2]}", ["train.learning_rate.uniform: got [true, 2]"]),
    ("train.learning_rate={uniform: [0, .inf]}", ["train.learning_rate.uniform[1]: got inf"]),
    ("train.learning_rate={loguniform: [0, 1]}", ["train.learning_rate.loguniform: got [0, 1]", "0 < low"]),
    ("train.workers={grid_search: [1, 2]}", ["train.workers: got grid_search", "same resources"]),
    ("dataset.resolution=48", ["dataset.resolution: got 48", "8, 16, 32, 64 or 128"]),
    ("dataset.resolution=true", ["dataset.resolution: got true"]),
    ("dataset.name=digit", ['dataset.name: got "digit"', "cifar10", "did you mean digits?"]),
    ("dataset.name=[]", ["dataset.name: got []", "cifar10"]),
    ("dataset={resolution: 8}", ["dataset.name: is missing", "digits"]),
    ("dataset=digits", ['dataset: got "digits"', "a mapping with name"]),
    ("dataset={name: images}", ["dataset.path: is missing", "a path"]),
    ("dataset={name: images, path: 3}", ["dataset.path: got 3", "a path"]),
    ("dataset={name: images, path: x, channels: 2}", ["dataset.channels: got 2", "1 or 3"]),
    ("dataset={name: images, path: x, limit: 0}", ["dataset.limit: got 0", "at least 1 or null"]),
    ("dataset={name: cifar10, path: x, classes: [cat, cta]}", ['dataset.classes[1]: got "cta"', "did you mean cat?"]),
    ("dataset={name: cifar10, path: x, classes: [cat, cat]}", ["dataset.classes: got cat, cat", "once"]),
    ("dataset={name: known-support, pool: 0}", ["dataset.pool: got 0", "from 1"]),
    ("dataset={name: known-support, pool: 2, weights: [1]}", ["dataset.weights: got 1 numbers", "pool = 2"]),
    ("dataset={name: known-support, pool: 2, weights: [0, 0]}", ["dataset.weights: got 2 numbers of sum 0"]),
    ("dataset={name: known-support, pool: 2, base: {name: digit}}", ['dataset.base.name: got "digit"', "digits?"]),
    ("dataset={name: known-support, pool: 2, base: {name: digits, size: 8}}", ["dataset.base.size: unknown key"]),
    ("dataset.resolution={grid_search: [8, 16]}", ["dataset.resolution: got the search word", "model and train"]),
    ("seeds={choice: [0]}", ["seeds: got the search word choice", "model and train"]),
    ("samples.final_images={uniform: [1, 2]}", ["samples.final_images: got the search word"]),
    ("collisions.flagged={grid_search: [1]}", ["collisions.flagged: got the search word"]),
    ("resources.gpus_per_trial={grid_search: [1]}", ["resources.gpus_per_trial: got the search word"]),
    ("model.family=dcgn", ['model.family: got "dcgn"', "known-support", "did you mean dcgan?"]),
    ("model.family=null", ["model.family: got null", "dcgan"]),
    ("model={}", ["model.family: is missing", "dcgan"]),
    ("model=dcgan", ['model: got "dcgan"', "a mapping"]),
    ("model.loss=wasserstein", ['model.loss: got "wasserstein"', "non-saturating, log", "did you mean wasserstein-"]),
    ("train.steps=0", ["train.steps: got 0", "from 1 to"]),
    ("train.steps=ten", ['train.steps: got "ten"', "a whole number"]),
    ("train.steps=true", ["train.steps: got true", "a whole number"]),
    ("train.steps=1.5", ["train.steps: got 1.5", "a whole number"]),
    ("train.steps=10.0", ["train.steps: got 10.0", "a whole number"]),
    ("train.steps='10'", ['train.steps: got "10"', "a whole number"]),
    ("train.steps=null", ["train.steps: got null", "a whole number"]),
    ("train=null", ["train: got null", "a mapping"]),
    ("train.learning_rate=.nan", ["train.learning_rate: got nan", "a finite number"]),
    ("train.learning_rate=-.inf", ["train.learning_rate: got -inf", "a finite number"]),
    ("train.learning_rate=1e999", ["train.learning_rate: got inf", "a finite number"]),
    ("train.ema_decay=1", ["train.ema_decay: got 1", "below 1"]),
    ("samples.snapshots=[50, 100]", ["samples.snapshots[1]: got 100", "below train.steps = 100"]),
    ("samples.snapshots=[50, 20]", ["samples.snapshots[1]: got 20 after 50", "rising"]),
    ("samples.snapshots=[0]", ["samples.snapshots[0]: got 0", "at least 1"]),
    ("samples.snapshots=50", ["samples.snapshots: got 50", "a list"]),
    ("samples.final_images=300", ["collisions.sample_sizes[3]: got 400", "samples.final_images = 300"]),
    ("collisions.sample_sizes=[50, 30000]", ["collisions.sample_sizes[1]: got 30000", "samples.final_images = 20000"]),
    ("collisions.sample_sizes=[]", ["collisions.sample_sizes: got []"]),
    ("collisions.sample_sizes=[400, 50]", ["collisions.sample_sizes[1]: got 50 after 400"]),
    (
        "collisions.threshold=-1",
        ["collisions.threshold: got -1", "auto, a number of at least 0 or a mapping with the keys rate, quantile"],
    ),
    ("collisions.threshold=automatic", ['collisions.threshold: got "automatic"', "auto"]),
    ("collisions.threshold=true", ["collisions.threshold: got true"]),
    ("collisions.embedding=cnn", ['collisions.embedding: got "cnn"', "pixels"]),
    ("collisions.real_neighbour_quantile=1", ["collisions.threshold.quantile: got 1", "below 1"]),
    ("seeds=0", ["seeds: got 0", "from 1"]),
    ("seeds=true", ["seeds: got true"]),
    ("seeds=[]", ["seeds: got []", "at least one seed"]),
    ("seeds=[1, 1]", ["seeds[1]: got 1 twice", "once"]),
    ("seeds=[-1]", ["seeds[0]: got -1", "from 0"]),
    ("search.algorithm=annealing", ['search.algorithm: got "annealing"', "grid, random or optuna"]),
    ("search.algorithm=random", ["search.algorithm: got random", "nothing is to be drawn"]),
    ("search.algorithm=optuna", ["model.discriminator_width: got grid_search", "choice, uniform or loguniform"]),
    ("search.trials=3", ["search.trials: got 3", "draws nothing"]),
    ("search.metric=loss", ['search.metric: got "loss"', "fidelity_ratio"]),
    ("search.scheduler=asha", ["search.grace_steps: got 1000", "at most train.steps = 100"]),
    ("resources.gpus_per_trial=1.5", ["resources.gpus_per_trial: got 1.5", "a fraction below 1"]),
    ("resources.gpus_per_trial=-1", ["resources.gpus_per_trial: got -1", "at least 0"]),
    ("resources.max_concurrent=0", ["resources.max_concurrent: got 0", "at least 1 or null"]),
    ("name=a/b", ['name: got "a/b"', "letters"]),
    ("name=", ["name: got null", "text"]),
    ("name=..", ['name: got ".."', "letter or digit"]),
    ("name.x=3", ["name: got", "no keys"]),
    ("train", ["allowed: key=value"]),
    ("=3", ["allowed: key=value"]),
    ("train..steps=3", ["allowed: key=value"]),
    ("train.steps=[1", ["line 1, column 3"]),
    ("train={steps: 3, steps: 4}", ["the key steps stands twice"]),
]


@pytest.mark.parametrize(("assignment", "words"), BAD, ids=[assignment for assignment, _ in BAD])
def test_bad_input_gets_one_line_that_names_it(sweep: Path, assignment: str, words: list[str]) -> None:
    line = refusal(sweep, assignment)
    assert f"--set {assignment}" in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (
            ["model.discriminator_width={uniform: [4, 8]}", "search={algorithm: random, trials: 3}"],
            ["model.discriminator_width.uniform[0]: got 4.0", "a whole number", "use choice or grid_search"],
        ),
        (
            ["model.discriminator_width={choice: [4, -8]}", "search={algorithm: random, trials: 1}"],
            ["model.discriminator_width.choice[1]: got -8"],
        ),
        (
            ["train.learning_rate={uniform: [0.5, 2]}", "search={algorithm: random, trials: 1}"],
            ["train.learning_rate.uniform[1]: got 2.0", "at most 1"],
        ),
        (
            ["train.learning_rate={uniform: [0.1, 0.2]}", "search={algorithm: random}"],
            ["search.trials: is missing", "a whole number"],
        ),
        (
            [
                "model={family: dcgan}",
                "train.learning_rate={uniform: [0.1, 0.2]}",
                "search={algorithm: optuna, trials: 3}",
                "seeds=2",
            ],
            ["seeds: got 2", "one seed"],
        ),
        (["train.steps={grid_search: [50, 100]}", "samples.snapshots=[60]"], ["samples.snapshots[0]: got 60", "= 50"]),
        (
            ["samples.snapshots=[10]", "samples.images_per_snapshot=100"],
            ["collisions.sample_sizes[2]: got 200", "samples.images_per_snapshot = 100"],
        ),
    ],
)
def test_values_that_do_not_go_together(sweep: Path, assignments: list[str], words: list[str]) -> None:
    line = refusal(sweep, *assignments)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "name, dataset, model"]),
        (b"# nothing\n", ["is empty"]),
        (b"[1, 2]", ["holds [1, 2]", "a mapping"]),
        (b"name: [1\ntrain: 3", ["line 2, column 6"]),
        (b"name: a\n\tdataset: b", ["line 2, column 1"]),
        (b"name: a\nname: b", ["line 2, column 1", "the key name stands twice"]),
        (b"train:\n  steps: 1\n  steps: 2", ["line 3, column 3", "steps stands twice"]),
        (b"a: 1\n---\nb: 2", ["line 2, column 1"]),
        (b"? [1]\n: 2", ["line 1, column 3", "not text"]),
        (b"a: !!python/object/apply:os.getcwd []", ["line 1, column 4", "python/object"]),
        (b"a: &x [*x]", ["line 1", "recursive"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        (b"a: \x07", ["no YAML"]),
        (b"dataset: {name: digits}\nmodel: {family: dcgan}", ["name: is missing", "text"]),
        (b"name: x\nmodel: {family: dcgan}", ["dataset: is missing", "digits"]),
        (b"name: x\ndataset: {name: digits}", ["model: is missing"]),
        (b"nmae: x\ndataset: {name: digits}\nmodel: {family: dcgan}", ["nmae: unknown key", "did you mean name?"]),
        (b"1: x", ["1: unknown key"]),
    ],
)
def test_a_file_that_is_no_sweep(tmp_path: Path, content: bytes, words: list[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    line = refusal(file)
    assert line.startswith(str(file))
    assert all(word in line for word in words), line


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=40), st.text("abc:{}[]&*!?-,'\"#|>%@ \t\n019.e~", max_size=40).map(str.encode)))
def test_any_file_is_read_or_refused_in_one_line(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "any.yaml"
        file.write_bytes(content)
        with pytest.raises(SpecError) as caught:
            load_spec(file)
    assert "\n" not in str(caught.value)


def test_a_folder_does_not_hide_a_shipped_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits-demo").mkdir()
    assert load_spec("digits-demo").name == "digits-demo"


def test_a_file_that_is_not_there_lists_the_shipped_sweeps(tmp_path: Path) -> None:
    line = refusal("digits-dmo")
    assert "does not exist" in line
    assert "celeba-diversity" in line
    assert "did you mean digits-demo?" in line
    assert "is a folder" in refusal(tmp_path)


def test_a_fault_of_the_file_names_the_file_though_something_was_set(sweep: Path) -> None:
    sweep.write_text(PLAIN.replace("steps: 100", "steps: 0"))
    line = refusal(sweep, "seeds=2")
    assert line.startswith(f"{sweep} (with --set seeds=2): train.steps: got 0")


def test_shipped_sweeps_expand_to_the_published_experiments() -> None:
    counts = {name: len(load_spec(name).trials()) for name in shipped_sweeps()}
    assert counts == {
        "celeba-diversity": 40,
        "celeba-families": 45,
        "cifar10-classes": 3,
        "cifar10-diversity": 40,
        "cifar10-today": 18,
        "digits-classes": 3,
        "digits-demo": 6,
        "fashion-demo": 4,
        "digits-diversity": 40,
        "digits-families": 27,
        "digits-snapshots": 6,
        "digits-today": 18,
        "digits-vae": 12,
        "faces-diversity": 8,
        "faces-families": 9,
        "fashion-diversity": 15,
        "gaussians-modes": 70,
        "known-support": 6,
        "stacked-digits-modes": 9,
        "stacked-digits-modes-cluster": 40,
    }
    assert all(path.read_text().startswith("# ") for path in shipped_sweeps().values())


# --- whole models to choose from ---

MODELS = [
    {"family": "dcgan", "discriminator_width": 16},
    {"family": "ali", "discriminator_width": 8, "code_width": 32},
    {"family": "ali", "discriminator_width": 8, "code_width": 48},
]


def test_a_grid_of_whole_models_has_each_family_with_its_own_keys(tmp_path: Path) -> None:
    spec = spec_of(model={"grid_search": MODELS}, seeds=2)
    trials = spec.trials()
    assert [trial.model.family for trial in trials] == ["dcgan", "dcgan", "ali", "ali", "ali", "ali"]
    assert [trial.model.code_width for trial in trials[2:]] == [32, 32, 48, 48]
    alone = spec_of(model=MODELS[2]).trials()[0]
    assert trials[4].id == alone.id  # an alternative is the trial that it is by itself
    varying = spec.hyperparameters(trials)
    assert {name: [values[trial.id] for trial in trials[::2]] for name, values in varying.items()} == {
        "discriminator_width": [16, 8, 8],
        "code_width": [None, 32, 48],
    }
    file = tmp_path / "resolved.yaml"
    file.write_text(yaml.safe_dump(spec.resolved()))
    assert [trial.id for trial in load_spec(file).trials()] == [trial.id for trial in trials]


def test_a_fault_in_one_of_the_models_is_named_there(sweep: Path) -> None:
    bad = [MODELS[0], {"family": "ali", "code_widht": 32}]
    sweep.write_text(yaml.safe_dump(yaml.safe_load(PLAIN) | {"model": {"grid_search": bad}}))
    assert "model.grid_search[1].code_widht: unknown key" in refusal(sweep)
    sweep.write_text(yaml.safe_dump(yaml.safe_load(PLAIN) | {"model": {"grid_search": [1, 2]}}))
    assert "model.grid_search: got grid_search of 1; allowed: grid_search of mappings" in refusal(sweep)


def test_no_hyperparameter_has_a_name_of_the_results() -> None:
    """One that varies is a coordinate, beside the results' own."""
    spec = spec_of(train={"steps": 10, "precision": {"grid_search": ["float32", "bfloat16"]}})
    assert list(spec.hyperparameters(spec.trials())) == ["discriminator_width", "train_precision"]
    assert {"precision", "threshold", "step", "family", "snapshot", "judged_distance"} <= reserved_names()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"stpes": 3}, Fault.UNKNOWN_KEY),
        ({"steps": 3.5}, Fault.NOT_WHOLE),
        ({"steps": 0}, Fault.NOT_WHOLE),
        ({"learning_rate": 2}, Fault.OTHER),
        ({"precision": "unknown key, a whole number"}, Fault.OTHER),
    ],
)
def test_a_fault_has_a_kind_that_stays_with_it(data: dict[str, Any], kind: Fault) -> None:
    with pytest.raises(SpecError) as caught:
        validate(TrainSettings, data, ("train",))
    error = caught.value
    assert error.kind is kind
    moved = error.at(("train", "a"), source="file.yaml", more="; and more")
    assert (moved.kind, moved.path) == (kind, ("train", "a"))
    assert str(moved) == f"file.yaml: train.a: {error.text}; and more"
    assert error.at().path == error.path
