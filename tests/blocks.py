"""The code blocks of the documentation, and what a command line in them must be even where it is not run.

How a block is run stands after its language:

- `sh`, `python`: run, in the order of the page, in one folder that holds a finished sweep and what earlier blocks wrote;
  `python` blocks of a page share their names.
- `sh exit=2`: run, and must end with that code.
- `sh slurm`, `sh serves`, `sh host`, `sh minutes`: not run (see MARKS), but every command and option must exist.
- `yaml`: a sweep or cluster file, or some of its keys; read by the loader that the command line has.
- `title="name"`, of `yaml` and `python`: is also written to that file.
- `text output`: what the block before must have printed; … stands for anything. `text` alone: shown, not compared.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import click
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("sh", "python", "yaml", "text")
MARKS = {
    "slurm": "needs a SLURM cluster; tests/slurm has one",
    "serves": "goes on until Ctrl-C; tests of its own start it",
    "host": "installs something, or needs another program or machine",
    "minutes": "takes longer than a test may",
}
"""Why a block of commands is not run."""
OTHER_PROGRAMS = {
    "apptainer",
    "apt-get",
    "cd",
    "docker",
    "enroot",
    "export",
    "git",
    "grafana",
    "ln",
    "ls",
    "pre-commit",
    "rm",
    "source",
    "ssh",
}


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language, the words after it, and its text."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def mark(self) -> str | None:
        """Why it is not run, if it is not."""
        return next((word for word in self.words if word in MARKS), None)

    def value(self, name: str) -> str | None:
        """The value of ``name=value`` after the language."""
        return next((word.split("=", 1)[1] for word in self.words if word.startswith(f"{name}=")), None)


@cache
def tokens(page: Path) -> list[Token]:
    """The page as Markdown."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


@cache
def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page. AssertionError for an indented one, which could not say what it is."""
    found = []
    for token in tokens(page):
        line = token.map[0] + 1 if token.map else 0
        assert token.type != "code_block", f"{page.relative_to(ROOT)}:{line}: fence this block and name its language"
        if token.type == "fence":
            language, *words = shlex.split(token.info) or [""]
            found.append(Block(page, line, language, tuple(words), token.content))
    return found


def check_kind(block: Block) -> None:
    """Raise AssertionError for a language or word that says nothing."""
    assert block.language in LANGUAGES, f"{block.where}: {block.language or 'no language'}; allowed: {LANGUAGES}"
    known = {
        "sh": [*MARKS, "exit"],
        "python": ["title"],
        "yaml": ["title"],
        "text": ["output"],
    }[block.language]
    for word in block.words:
        assert word.split("=", 1)[0] in known, f"{block.where}: {word}; allowed after {block.language}: {known}"


def commands(block: Block) -> Iterator[list[str]]:
    """Every command of a block of shell, as words."""
    for line in re.sub(r" > \S+", "", block.text.replace("\\\n", " ")).splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word not in ("&&", ";", "|"):
                words.append(word)
            elif words:
                yield words
                words = []


def check_command(words: list[str], where: str) -> None:
    """Raise AssertionError when the command, its file or an option of it does not exist."""
    while re.match(r"\w+=", words[0]):
        words = words[1:]
    match words:
        case ["ganlab", *arguments]:
            check_arguments(arguments, where)
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(known), f"{where}: make {targets}; the Makefile has {known}"
        case ["python" | "python3", "-m", module, *_]:
            assert find_spec(module) is not None, f"{where}: no module {module}"
        case ["python" | "python3", file, *_]:
            written = {block.value("title") for page in PAGES for block in blocks(page)}
            assert (ROOT / file).is_file() or file in written, f"{where}: no file {file}"
        case [program, *_]:
            assert program in OTHER_PROGRAMS, f"{where}: {program}; known: {sorted(OTHER_PROGRAMS)}"


def check_arguments(arguments: list[str], where: str) -> None:
    """Let click read a command line, without running it."""
    from jobs.cli.main import main

    try:
        with click.Context(main, info_name="ganlab", **main.context_settings) as above:
            name, command, rest = main.resolve_command(above, arguments)
            assert command is not None
            command.make_context(name, [*rest], parent=above)
    except click.ClickException as error:
        raise AssertionError(f"{where}: ganlab {shlex.join(arguments)}: {error.format_message()}") from error
    except click.exceptions.Exit:  # --help and --version answer while they are read
        pass


def check_mention(code: str, where: str) -> None:
    """Check what is named in running text, where arguments may be left out: command and options must exist."""
    from jobs.cli.main import main

    words = code.replace("…", " ").split()
    if words[:1] == ["make"] or words[:2] == ["python", "-m"] or code.startswith("python docs/"):
        check_command([word for word in words if "=" not in word], where)
    if words[:1] != ["ganlab"] or len(words) < 2 or words[1].startswith("-"):
        return
    names = words[1].split("|") if "|" in words[1] else [words[1]]
    for name in names:
        assert name in main.commands, f"{where}: `{code}`: no command {name}"
        known = {option for parameter in main.commands[name].params for option in parameter.opts} | {"--help"}
        named = {word.split("=")[0].strip("[],.;") for word in words[2:] if word.startswith("--")}
        assert named <= known, f"{where}: `{code}`: no option {named - known}"


def mentions(page: Path) -> Iterator[tuple[str, str]]:
    """Code in the running text of a page, and commands in blocks that are only shown, each with where it stands."""
    for token in tokens(page):
        if token.type == "fence" and token.info == "text":
            for line in token.content.splitlines():
                yield line.split("   ")[0], f"{page.relative_to(ROOT)}:{(token.map or [0])[0] + 1}"
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content, f"{page.relative_to(ROOT)}:{(token.map or [0])[0] + 1}"


def links(page: Path) -> Iterator[str]:
    """Addresses that a page links to or shows."""
    for token in tokens(page):
        for child in token.children or ():
            for name in ("href", "src"):
                if address := child.attrs.get(name):
                    yield str(address)
