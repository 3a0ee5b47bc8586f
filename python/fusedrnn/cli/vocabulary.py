"""What a model reads and writes: characters, or words, as numbers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.fields import shortened

Ids = NDArray[np.int64]
# A word with the blank before it, punctuation alike, and what blanks are left: together they are the text.
WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s")


class Vocabulary(ABC):
    """The pieces of text that a model knows, numbered from 0.

    Attributes:
        pieces: by number.
    """

    pieces: Sequence[str]

    def __len__(self) -> int:
        return len(self.pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_json() == other.to_json()

    def decode(self, ids: Iterable[int] | NDArray[Any]) -> str:
        """Numbers to text."""
        return "".join(self.pieces[int(i)] for i in ids)

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """Text to numbers, int64.

        Raises:
            CommandError: a character is not in the vocabulary.
        """

    @abstractmethod
    def to_json(self) -> Any:
        """For a checkpoint; `saved` is the inverse."""


class Characters(Vocabulary):
    """Single characters, in code point order.

    Args:
        characters: each once, sorted.
    """

    def __init__(self, characters: str) -> None:
        self.pieces = characters
        self._codes = _code_points(characters)

    @classmethod
    def of(cls, text: str) -> Characters:
        """All characters that occur in a text."""
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> Ids:
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes)
        unknown = np.flatnonzero(self._codes[np.minimum(ids, len(self) - 1)] != codes)
        if len(unknown):
            raise CommandError(f"the model does not know the character {text[unknown[0]]!r}")
        return ids.astype(np.int64, copy=False)

    def to_json(self) -> str:
        return str(self.pieces)


class Words(Vocabulary):
    """The most frequent words of a text, and all its characters: a rarer word is spelled, none is lost.

    A word carries the blank before it, so that pieces one after the other are the text itself.

    Args:
        pieces: the characters, sorted, then the words, frequent ones first.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = list(pieces)
        self._numbers = {piece: number for number, piece in enumerate(pieces)}

    @classmethod
    def of(cls, text: str, most: int) -> Words:
        """The characters of a text, and at most so many of its words that occur more than once."""
        counts = Counter(word for word in WORD.findall(text) if len(word) > 1)
        frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
        return cls([*sorted(set(text)), *(word for word, count in frequent if count > 1)])

    def encode(self, text: str) -> Ids:
        numbers: list[int] = []
        for word in WORD.findall(text):
            known = self._numbers.get(word)
            if known is not None:
                numbers.append(known)
                continue
            for character in word:
                if character not in self._numbers:
                    raise CommandError(f"the model does not know the character {character!r}")
                numbers.append(self._numbers[character])
        return np.array(numbers, np.int64)

    def to_json(self) -> list[str]:
        return list(self.pieces)


def vocabulary_of(text: str, level: str, words: int) -> Vocabulary:
    """The vocabulary of a text at a level of the configuration, with at most so many words."""
    return Characters.of(text) if level == "char" else Words.of(text, words)


def saved(value: Any, level: str) -> Vocabulary:
    """A vocabulary as a checkpoint of that level has it, which may be anything.

    Raises:
        CommandError: it is none; the message says why.
    """
    if level == "word":
        return Words(_checked_words(value))
    if not isinstance(value, str) or not value:
        raise CommandError(f"its vocabulary is {shortened(value)}, it must be text")
    if list(value) != sorted(set(value)):
        raise CommandError("its vocabulary must have each character once and in order")
    _refuse_surrogates(value)
    return Characters(value)


def _checked_words(value: Any) -> list[str]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(piece, str) and piece for piece in value)
    ):
        raise CommandError(f"its vocabulary is {shortened(value)}, it must be a list of words")
    if len(set(value)) != len(value):
        raise CommandError("its vocabulary must have each word once")
    _refuse_surrogates("".join(value))
    characters = {character for piece in value for character in piece}
    if not characters <= set(value):
        raise CommandError("its vocabulary must have each character of its words")
    return value


def _refuse_surrogates(text: str) -> None:
    if re.search("[\ud800-\udfff]", text):
        raise CommandError("its vocabulary has half a surrogate pair, which is no character")


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
