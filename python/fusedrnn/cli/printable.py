"""Text that may come from anywhere, as a terminal can show it without obeying it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Control characters but tab, line feed and carriage return, separators and turns of the direction of writing
# that work unseen, and halves of surrogate pairs.
_UNSAFE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = re.compile(rf"\r(?!\n)|[{_UNSAFE}]")
_IN_LINE = re.compile(rf"[\t\n\r{_UNSAFE}]")


def printable(text: str) -> str:
    """Text as one line: line breaks, tabs and everything a terminal would act on are escaped."""
    return _IN_LINE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Text of several lines: all that a terminal would act on, but for tabs and line ends, is escaped."""
    return _IN_TEXT.sub(_escaped, text)


def printable_stream(characters: Iterable[str]) -> Iterator[str]:
    """`printable_lines`, of characters that come one by one."""
    carriage_return = False
    for character in characters:
        if carriage_return:
            yield "\r" if character == "\n" else "\\r"
        carriage_return = character == "\r"
        if not carriage_return:
            yield printable_lines(character)
    if carriage_return:
        yield "\\r"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
