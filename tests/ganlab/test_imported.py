"""Models of strangers: what is refused, in one sentence, and what is drawn."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganlab.models.families import Imported, family_of, make_family, own_settings
from ganlab.models.families.imported import ImportedSettings
from ganlab.models.train import TrainSettings, draw

SHAPE = (1, 4, 4)
GOOD = """
import numpy as np

def model(level=200):
    def sample(count, random):
        return random.integers(0, level, (count, 1, 4, 4), dtype=np.uint8)
    return sample
"""
Module = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Write a module that nothing else has the name of: module("def model(): …") → its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        name = f"stranger_{uuid.uuid4().hex[:8]}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def made(name: str, seed: int = 0, shape: tuple[int, ...] = SHAPE, **keys: Any) -> Any:
    settings = ImportedSettings.model_validate({"family": f"import:{name}:model", **keys})
    family_of(settings).check(own_settings(settings), shape, None)
    family = make_family(settings, shape, TrainSettings(), seed)
    family.prepare(np.empty((0, *shape)))
    return family


def test_a_callable_draws_by_the_generator_alone(module: Module) -> None:
    family = made(module(GOOD), level=7)
    assert isinstance(family, Imported)
    first, again, other = (draw(family, 700, np.random.default_rng(seed)).images for seed in (0, 0, 1))
    assert first.shape == (700, *SHAPE)
    assert first.dtype == np.uint8
    assert first.max() == 6
    assert (first == again).all()
    assert not (first == other).all()


def test_an_object_and_a_tensor_will_do_and_the_factory_is_told_what_it_asks(module: Module) -> None:
    family = made(
        module("""
import torch

class model:
    def __init__(self, shape, device, seed, offset):
        self.shape, self.first = shape, seed + offset
        assert device == "cpu"

    def sample(self, count, random):
        images = torch.from_numpy(random.integers(0, 9, (count, *self.shape))).to(torch.uint8)
        images[:, 0, 0, 0] = self.first
        return images.requires_grad_(False)
"""),
        seed=3,
        offset=40,
    )
    assert (family.sample(5, np.random.default_rng(0)).images[:, 0, 0, 0] == 43).all()


def test_points(module: Module) -> None:
    text = "def model():\n    return lambda count, random: random.standard_normal((count, 2), dtype='float32')\n"
    assert made(module(text), shape=(2,)).sample(3, np.random.default_rng(0)).images.dtype == np.float32
    with pytest.raises(ValueError, match="not finite"):
        made(module(returning("np.full((count, 2), np.nan, 'float32')")), shape=(2,))


def returning(expression: str) -> str:
    return f"import numpy as np\ndef model(**keys):\n    return lambda count, random: {expression}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def other(): pass\ndef models(): pass\n", ["there is no model in", "did you mean models?"]),
        ("model = 3\n", ["no function or class is model"]),
        ("import no_such_thing_at_all\n", ["fails: ModuleNotFoundError: No module named 'no_such_thing_at_all'"]),
        ("model = (\n", ["importing", "fails: SyntaxError"]),
        ("import sys\nsys.exit(3)\n", ["fails: SystemExit: 3"]),
        (
            "def model(width): pass\n",
            ["can't be called with the keys given (none): missing a required argument: 'width'"],
        ),
        ("def model():\n    raise OSError('no weights\\nhere')\n", ["the factory failed: OSError: no weights here"]),
        ("def model():\n    return None\n", ["returned a NoneType", "a callable sample(count, generator)"]),
        (returning("1 / 0"), ["drawing failed: ZeroDivisionError: division by zero"]),
        (returning("[1]"), ["gave a list for sample(16, generator); allowed: uint8 (16, 1, 4, 4)"]),
        (
            returning("random.integers(0, 9, (count, 4, 4, 1), dtype=np.uint8)"),
            ["gave uint8 (16, 4, 4, 1)", "channels come before height and width"],
        ),
        (returning("random.integers(0, 9, (count - 1, 1, 4, 4), dtype=np.uint8)"), ["gave uint8 (15, 1, 4, 4)"]),
        (
            returning("random.random((count, 1, 4, 4), dtype=np.float32)"),
            ["gave float32 (16, 1, 4, 4)", "round(127.5 · (x + 1))"],
        ),
        (
            returning("np.random.default_rng().integers(0, 9, (count, 1, 4, 4), dtype=np.uint8)"),
            ["gave other images when asked again with equal random numbers"],
        ),
        (
            returning("np.random.default_rng(7).integers(0, 9, (count, 1, 4, 4), dtype=np.uint8)"),
            ["gave the same 16 images whatever its generator"],
        ),
    ],
)
def test_faults_are_one_sentence(module: Module, text: str, said: list[str]) -> None:
    with pytest.raises(ValueError, match=re.escape(said[0])) as found:
        made(module(text))
    for words in said:
        assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_a_model_with_one_image_is_not_taken_for_one_that_ignores_its_generator(module: Module) -> None:
    assert made(module(returning("np.zeros((count, 1, 4, 4), np.uint8)"))).sample(2, np.random.default_rng(0))


def test_modules_that_do_not_exist_and_names_that_cannot() -> None:
    with pytest.raises(ValueError, match="there is no module nowhere_to_be_found; allowed: a module beside the sweep"):
        made("nowhere_to_be_found.inner")
    for name in ("import:only", "import:a b:c", "import:a:b.c", "import::f", "import:a:", "other:a:b"):
        with pytest.raises(ValueError, match=r"allowed: import:package\.module:factory"):
            ImportedSettings.model_validate({"family": name})


def test_a_whole_family_is_trained_as_ours_are(module: Module) -> None:
    """The class that docs/families.md adds, where its reader may as well leave it: in a module of his own."""
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text("utf-8")
    (code,) = (block for block in re.findall(r"```python[^\n]*\n(.*?)```", page, re.DOTALL) if "class LSGAN(" in block)
    name = module(code + "\n\nmodel = LSGAN\n")
    settings = ImportedSettings.model_validate(
        {"family": f"import:{name}:model", "latent_dim": 4, "generator_width": 4, "discriminator_width": 4}
    )
    family = make_family(settings, (1, 8, 8), TrainSettings(batch_size=8), 0)
    assert type(family).__name__ == "LSGAN"
    dataset = family.prepare(np.random.default_rng(0).integers(0, 256, (32, 1, 8, 8), dtype=np.uint8))
    import torch

    assert set(family.step(lambda: dataset[torch.arange(8)], np.random.default_rng(1))) == {
        "generator_loss",
        "discriminator_loss",
    }
    wrong = settings.model_copy(update={"latent_dim": 0})
    with pytest.raises(ValueError, match=f"import:{name}:model refuses its settings: latent_dim: Input should be"):
        own_settings(ImportedSettings.model_validate({**wrong.model_dump(), "latent_dim": 0}))
