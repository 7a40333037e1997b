"""Standard output and standard error that print every character, and end quietly when their reader has gone.

Invariant: no answer is lost to the encoding of a terminal or pipe; characters that it has are printed unchanged.
"""

import codecs
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PLAIN = {
    "–": "-",
    "−": "-",
    "—": "-",
    "…": "...",
    "×": "x",
    "·": ".",
    "½": "1/2",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "∞": "inf",
    "√": "sqrt ",
    "σ": "sigma",
    **{character: f"^{power}" for power, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
"""Replacements of characters that an encoding lacks; a question mark for all others."""
HANDLER, ASCII = "ganlab-plain", "ganlab-ascii"


@contextmanager
def forgiving_output() -> Iterator[None]:
    """Print what an encoding lacks in plain characters; exit with code 1, and no word, once the reader has gone.

    Any other failure to write the last of the output is one line on stderr.
    """
    codecs.register_error(HANDLER, _plain)
    codecs.register(_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=ASCII if ascii_only else stream.encoding, errors=HANDLER)
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        if not reader_gone():
            with suppress(OSError):
                sys.stderr.write(f"ganlab: can't write the output: {error.strerror}\n")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):  # or Python fails once more when it ends
            os.dup2(nowhere, descriptor)
        sys.exit(1)


def reader_gone() -> bool:
    """True if standard output or standard error is a pipe without a reader."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)  # errors are always reported
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace one character; a byte of a file name that is no text is written as it is."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return PLAIN.get(character, "?"), error.start + 1


def _ascii(name: str) -> codecs.CodecInfo | None:
    """ASCII by another name, since click writes UTF-8 to a stream that calls its encoding ASCII."""
    if name.replace("_", "-") != ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        incrementalencoder=known.incrementalencoder,
        incrementaldecoder=known.incrementaldecoder,
        streamwriter=known.streamwriter,
        streamreader=known.streamreader,
        name=ASCII,
    )
