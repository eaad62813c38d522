"""Lines of a network file: their words, and errors that name their place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from wh.errors import Code, ConfigError

_WORD = re.compile(r"[^ \t\r\v\f]+")
_T = TypeVar("_T")


class Word(NamedTuple):
    text: str
    column: int  # from 1, in characters


def split(line: str) -> list[Word]:
    """The words of a line, without its comment."""
    code, _, _ = line.partition("#")
    return [Word(match.group(), match.start() + 1) for match in _WORD.finditer(code)]


class Line(NamedTuple):
    """Which one it is: for places."""

    path: str | None
    number: int  # from 1

    def read(self, word: Word, reader: Callable[[str], _T]) -> _T:
        """Read one word; its error gets the word's place."""
        try:
            return reader(word.text)
        except ConfigError as error:
            error.place = self._place(word)
            raise

    def error(self, word: Word, message: str, code: Code, hint: str = "") -> ConfigError:
        return ConfigError(message, code=code, hint=hint, place=self._place(word))

    def _place(self, word: Word) -> str:
        return f"{self.path or '<network>'}:{self.number}:{word.column}"
