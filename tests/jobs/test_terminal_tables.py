import io
import os
import re
import sys

import pytest

from jobs.cli.main import _note
from jobs.console.progress import text_console
from jobs.console.tables import WORD, print_table
from jobs.console.words import counted, value_words
from tests.command_line import call

WIDTHS = (50, 80, 120, 200)
HEADINGS = ["family", "discriminator width", "latent dim", "refine", "sampling steps", "seed"]
HEADINGS += ["status", "diversity ratio", "effective number", "unseen share", "quality gate"]
KEYS = 6
ROWS = [
    ["dcgan", "16", "32", "True", "–", "0", "completed", "0.27 (0.19 – 0.37)", "2.7k (2.3k – 3.3k)", "72% (70% – 73%)"],
    ["dcgan", "1,024", "32", "True", "–", "0", "completed", "≥ 0.31", "≥ 2.1k", "69% (67% – 71%)"],
    ["diffusion", "–", "32", "–", "10", "0", "running", "withheld", "withheld", "withheld"],
    ["diffusion", "–", "32", "–", "250", "0", "completed", "24 (11 – 44)", "240k (110k – 430k)", "99.6% (98% – 99.7%)"],
]
for row, gate in zip(
    ROWS, ["passed", "passed, collapsed", "not passed: noise, running at step 1,000", "–"], strict=True
):
    row.append(gate)


def printed(
    capsys: pytest.CaptureFixture[str], headings: list[str], rows: list[list[str]], keys: int, width: int | None
) -> str:
    with pytest.MonkeyPatch.context() as patched:
        if width is None:
            patched.delenv("COLUMNS", raising=False)
        else:
            patched.setenv("COLUMNS", str(width))
        print_table(text_console(), headings, rows, keys)
    return capsys.readouterr().out


def in_short(text: str) -> str:
    return text.replace(" – ", "–")


@pytest.mark.parametrize("width", [*WIDTHS, None])
def test_every_word_of_every_cell_is_whole_within_the_width(
    capsys: pytest.CaptureFixture[str], width: int | None
) -> None:
    shown = printed(capsys, HEADINGS, ROWS, KEYS, width)
    assert all(len(line) <= (width or 10_000) for line in shown.splitlines())
    words = WORD.findall(in_short(shown))
    for row in ROWS:
        for cell in row:
            for word in WORD.findall(in_short(cell)):
                assert word in words or f"{word}," in words or f"{word}." in words
    assert "…" not in shown


def test_a_table_where_it_fits_and_a_block_for_each_trial_where_it_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {width: printed(capsys, HEADINGS, ROWS, KEYS, width).splitlines() for width in (50, 120, 200, None)}
    assert "family dcgan, discriminator width 16" in lines[50]
    assert "  effective number  2.7k (2.3k – 3.3k)" in lines[50]
    assert any(re.match(r"dcgan +16 +– +completed +0.27", line) for line in lines[120])
    for wide in (lines[200], lines[None]):
        rows = [line for line in wide if re.match("dcgan|diffusion", line)]
        assert [re.split("  +", row)[0] for row in rows] == ["dcgan", "dcgan", "diffusion", "diffusion"]
        assert "240k (110k – 430k)" in rows[3]


def test_columns_that_tell_no_rows_apart_stand_below(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, HEADINGS, ROWS, KEYS, 200)
    table, _, below = shown.partition("The same wherever it applies: ")
    assert below == "latent dim 32, refine True, seed 0.\n"
    assert "refine" not in table
    assert "sampling" in table


def test_a_column_that_alone_tells_rows_apart_stays(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, ["family", "refine", "number"], [["dcgan", "True", "1"], ["dcgan", "–", "1"]], 2, 80)
    assert re.search(r"refine +number", shown)
    assert "The same wherever it applies: family dcgan.\n" in shown


def test_one_row_keeps_all_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, ["width", "seed", "number"], [["8", "0", "12"]], 2, 80)
    assert re.search(r"^width +seed +number$", shown, re.MULTILINE)
    assert "wherever" not in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_plan_of_a_sweep_with_many_settings(width: int) -> None:
    shown = call("plan", "digits-today", "--no-timing", COLUMNS=str(width)).stdout
    assert all(len(line) <= width for line in shown.splitlines())
    assert {"discriminator", "diffusion", "165,009", "refine"} <= set(re.findall(r"[\w,]*\w", shown))
    assert "None" not in shown


def test_prose_breaks_between_words_and_leaves_paths_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    path = "/" + os.path.join(*["some", "folder"] * 8)
    text_console().print(f"a trial that ended, and its log is in the file {path}; see there what had happened to it")
    words = capsys.readouterr().out.split()
    assert f"{path};" in words
    assert words[:4] == ["a", "trial", "that", "ended,"]


@pytest.mark.parametrize("terminal", [True, False])
def test_errors_break_between_words_on_a_terminal_alone(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    written.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("COLUMNS", "80")
    _note(" ".join(["considerable"] * 12))
    lines = written.getvalue().splitlines()
    assert len(lines) == (3 if terminal else 1)
    assert all(len(line) <= 80 for line in lines) or not terminal
    assert set(" ".join(lines).split()) == {"ganlab:", "considerable"}


def test_counts_have_thousands_and_a_noun_that_fits() -> None:
    assert [counted(number, "trial") for number in (0, 1, 2, 1024)] == [
        "0 trials",
        "1 trial",
        "2 trials",
        "1,024 trials",
    ]
    assert [value_words(value) for value in (1024, 0.00025, True, None, "None", "log")] == [
        "1,024",
        "0.00025",
        "True",
        "–",
        "–",
        "log",
    ]
