"""The command line's grammar: `wh up ./net private-key ./a.sk` is `wh up ./net --private-key=./a.sk`.

Words are put in click's unambiguous form before click sees them: options as `--name=value`, then `--`, then
the positional words. So a key is a value wherever one may be, also the key in 64 that begins with a hyphen.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

KEY_LEN = 43
"""Characters of a key without padding; with its `=`, 44."""
_KEY_ALPHABET = frozenset(string.ascii_letters + string.digits + "-_+/")


class Words(NamedTuple):
    """What a command takes. options: name (without hyphens) -> whether a value follows it."""

    options: Mapping[str, bool]
    required: int
    """Positional words that must come; before them no bare word is taken for an option."""
    optional: int
    """Further positional words."""


class GrammarError(Exception):
    """A word that the command does not take. suggestion: the nearest that it does."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion


def is_key_shaped(word: str) -> bool:
    """Whether the word can only be meant as a key. A wrong last character still counts: the error is then
    about the key, not about an unknown option."""
    body = word[:KEY_LEN]
    return len(body) == KEY_LEN and word[KEY_LEN:] in ("", "=") and _KEY_ALPHABET.issuperset(body)


def nearest(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1)), None)


def normalise(arguments: list[str], words: Words) -> list[str]:
    """The arguments in click's form. Raises GrammarError for a word that has no place."""
    return _Normaliser(words).run(arguments)


class _Normaliser:
    def __init__(self, words: Words) -> None:
        self._words = words
        self._options: list[str] = []
        self._positional: list[str] = []
        self._given: set[str] = set()

    def run(self, arguments: list[str]) -> list[str]:
        pending = iter(arguments)
        for word in pending:
            if word == "--":
                for value in pending:
                    self._take_positional(value)
            elif word.startswith("-") and word != "-" and not is_key_shaped(word):
                self._take_hyphenated(word, pending)
            elif self._is_keyword(word):
                self._take_option(word, word, pending)
            else:
                self._take_positional(word)
        return [*self._options, "--", *self._positional]

    def _is_keyword(self, word: str) -> bool:
        return len(self._positional) >= self._words.required and word in self._words.options

    def _take_hyphenated(self, word: str, pending: Iterator[str]) -> None:
        if word in ("--help", "-h"):
            self._options.append("--help")
            return
        name, has_value, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in self._words.options:
            raise self._unknown(f"unknown option {word}", name.lstrip("-"), "--")
        if has_value and not self._words.options[name]:
            raise GrammarError(f"--{name} takes no value")
        self._take_option(name, word, iter([value]) if has_value else pending)

    def _take_option(self, name: str, word: str, pending: Iterator[str]) -> None:
        if name in self._given:
            raise GrammarError(f"{name} is given twice")
        self._given.add(name)
        if not self._words.options[name]:
            self._options.append(f"--{name}")
            return
        value = next(pending, None)
        if value is None:
            raise GrammarError(f"{word} needs a value")
        self._options.append(f"--{name}={value}")

    def _take_positional(self, word: str) -> None:
        if len(self._positional) >= self._words.required + self._words.optional:
            raise self._unknown(f"unexpected word {word!r}", word, "")
        self._positional.append(word)

    def _unknown(self, message: str, word: str, prefix: str) -> GrammarError:
        suggestion = nearest(word, self._words.options)
        return GrammarError(message, prefix + suggestion if suggestion else None)
