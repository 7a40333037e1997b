"""The documentation: complete, linked, built without a warning; tests/integration/test_docs.py runs its blocks."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from cluster.site import Site
from ganlab.models.from_diffusers import SCHEDULE
from ganlab.quality.embeddings.files import FileSettings
from jobs.cli.cluster_file import KINDS, read_kinds
from jobs.spec.sweep import Spec, check_spec
from jobs.spec.validation import parse_yaml
from jobs.training.sampling import read_checkpoint_file
from tests import blocks
from tests.blocks import PAGES, ROOT, Block

ALL = [block for page in PAGES for block in blocks.blocks(page)]
SMALLEST = {"name": "smallest", "dataset": {"name": "digits"}, "model": {"family": "dcgan"}}
named = [str(page.relative_to(ROOT)) for page in PAGES]


def test_every_block_says_how_it_is_run() -> None:
    assert len(ALL) > 40
    for block in ALL:
        blocks.check_kind(block)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "sh"], ids=lambda block: block.where)
def test_commands_and_options_exist(block: Block) -> None:
    for words in blocks.commands(block):
        blocks.check_command(words, block.where)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_named_in_the_text_exist(page: Path) -> None:
    for code, where in blocks.mentions(page):
        blocks.check_mention(code, where)


def loaded_by_a_command(block: Block) -> bool:
    """Whether a block of the page that is run names this file."""
    title = block.value("title")
    return title is not None and any(
        title in other.text for other in blocks.blocks(block.page) if other.language == "sh" and other.mark is None
    )


def test_the_sweep_that_the_readme_shows_is_the_shipped_one() -> None:
    (shown,) = (block for block in ALL if block.page.name == "README.md" and block.language == "yaml")
    shipped = ROOT / "jobs" / "sweeps" / "fashion-demo.yaml"
    assert parse_yaml(shown.text, shown.where) == parse_yaml(shipped.read_text(), str(shipped))


@pytest.mark.parametrize(
    "block", [b for b in ALL if b.language == "yaml" and not loaded_by_a_command(b)], ids=lambda block: block.where
)
def test_yaml_is_a_sweep_or_cluster_file_or_a_part_of_one(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = parse_yaml(block.text, block.where)
    assert isinstance(data, dict), block.where
    monkeypatch.chdir(tmp_path)
    if "checkpoint" in data.get("model", ()):  # which is hashed when the file is read
        Path(data["model"]["checkpoint"]).touch()
    if data.keys() <= set(Spec.model_fields):
        check_spec(data if block.value("title") else {**SMALLEST, **data}, block.where)
    elif data.keys() <= set(FileSettings.model_fields):
        FileSettings.model_validate(data)
    else:
        assert data.keys() <= {*Site.model_fields, KINDS}, f"{block.where}: {list(data)} are keys of no file"
        read_kinds(data if block.value("title") else {"nodes": 1, "time_min": 60, **data})


@pytest.mark.parametrize(
    "block",
    [b for b in ALL if b.language == "text" and b.text.startswith("checkpoint:")],
    ids=lambda block: block.where,
)
def test_checkpoint_files_are_read(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings alone: the checkpoints are empty files, their config empty, and a sampler's file has a schedule."""
    monkeypatch.chdir(tmp_path)
    data = parse_yaml(block.text, block.where)
    for key in ("checkpoint", "code", "scheduler"):
        if isinstance(path := data.get(key), str):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(json.dumps(dict.fromkeys(SCHEDULE, 1) | {"_class_name": "DDPMScheduler"}))
            Path(path).with_name("config.json").write_text("{}")
    Path("checkpoint.yaml").write_text(block.text)
    model, shape = read_checkpoint_file(Path("checkpoint.yaml"))
    assert (model.format, list(shape)) == (data["format"], data["shape"])


def test_shipped_sweeps_name_scripts_that_exist() -> None:
    for file in sorted((ROOT / "jobs" / "sweeps").glob("*.yaml")):
        for script in re.findall(r"python (docs/[\w/]+\.py)", file.read_text("utf-8")):
            assert (ROOT / script).is_file(), f"{file.name}: {script}"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_outside_the_site_lead_somewhere(name: str) -> None:
    for address in blocks.links(ROOT / name):
        if not address.startswith(("http://", "https://", "#", "mailto:")):
            assert (ROOT / address.split("#")[0]).exists(), f"{name}: {address}"


ADDING = ["families.md", "adding-a-statistic.md", "adding-a-dataset.md", "adding-a-metric.md"]


@pytest.mark.parametrize("name", ADDING)
def test_pages_on_adding_name_files_that_exist(name: str) -> None:
    text = (ROOT / "docs" / name).read_text("utf-8")
    named = set(re.findall(r"`((?:ganlab|storage|jobs|monitoring|tests|docs)/[\w./-]*)`", text))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_reference_is_as_the_code_says() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert [path.name for path in generator["stale"]()] == [], "run python docs/generate.py"


def test_a_key_without_a_description_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "undescribed.py").write_text(
        'from pydantic import BaseModel\n\nclass S(BaseModel):\n    """Settings."""\n\n    told: int = 1\n    """Is."""\n'
        "    untold: int = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    undescribed: type[BaseModel] = __import__("undescribed").S
    generator = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert "| `told` | a whole number | `1` | Is. |" in generator["keys"](undescribed, ["untold"])
    with pytest.raises(ValueError, match="no description under untold"):
        generator["keys"](undescribed)


def test_every_state_and_cause_is_explained() -> None:
    from monitoring.metrics import ATTEMPT_ENDS, FAILURES, TRIAL_STATES

    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    for word in {*TRIAL_STATES, *ATTEMPT_ENDS, *FAILURES}:
        assert f"| `{word}` |" in text, word


@pytest.mark.process
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    said = built.stdout + built.stderr
    assert built.returncode == 0, said
    assert all(line.startswith("INFO ") for line in said.splitlines()), said
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        html = page.read_text("utf-8")
        fetched = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)", html)
        assert fetched == [], page
        assert "```" not in html, f"{page}: a block that was not understood"
    css = "".join(file.read_text("utf-8") for file in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//", css) == []
