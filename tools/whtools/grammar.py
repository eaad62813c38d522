"""The command line's grammar: `wh up ./net private-key ./a.sk` is `wh up ./net --private-key=./a.sk`.

A key is a value wherever one may be, also the key in 64 that begins with a hyphen.

Used before anything else is imported, so it imports nothing itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEY_LEN = 43
"""Characters of a key without padding; with its `=`, 44."""
_KEY_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/")
HELP_WORDS = frozenset(("--help", "-h"))


class Words:
    """What a command takes.

    options: name, without hyphens -> whether a value follows. required: positional words that must come;
    before them no bare word is taken for an option. optional: how many positional words may follow.
    """

    __slots__ = ("options", "optional", "required")

    def __init__(self, options: Mapping[str, bool], required: int = 0, optional: int = 0) -> None:
        self.options = options
        self.required = required
        self.optional = optional


class Parsed:
    """options: name -> value, None for one that takes none."""

    __slots__ = ("options", "positional", "wants_help")

    def __init__(self) -> None:
        self.options: dict[str, str | None] = {}
        self.positional: list[str] = []
        self.wants_help = False

    def for_click(self) -> list[str]:
        """The same words in a form that click cannot misread, whatever the values begin with."""
        if self.wants_help:
            return ["--help"]
        options = [
            f"--{name}" if value is None else f"--{name}={value}" for name, value in self.options.items()
        ]
        return [*options, "--", *self.positional]


class GrammarError(Exception):
    """A word that the command does not take. suggestion: the nearest that it does, or None."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


class MissingValueError(GrammarError):
    """The last word is an option that needs a value. option: its name."""

    def __init__(self, word: str, option: str) -> None:
        super().__init__(f"{word} needs a value")
        self.option = option


def is_key_shaped(word: str) -> bool:
    """Whether the word can only be meant as a key.

    One whose last character is impossible counts too: its error must be about the key, not about an option.
    """
    body = word[:KEY_LEN]
    return len(body) == KEY_LEN and word[KEY_LEN:] in ("", "=") and _KEY_ALPHABET.issuperset(body)


def nearest(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), n=1)), None)


def parse(arguments: list[str], words: Words) -> Parsed:
    """Raises GrammarError for a word that has no place, an option given twice or without its value.

    Missing positional words are not reported: click names them better.
    """
    if arguments[:1] == ["help"]:
        arguments = ["--help"]
    return _Parser(words).run(arguments)


class _Parser:
    def __init__(self, words: Words) -> None:
        self._words = words
        self._parsed = Parsed()

    def run(self, arguments: list[str]) -> Parsed:
        pending = iter(arguments)
        for word in pending:
            if word == "--":
                for value in pending:
                    self._take_positional(value)
            elif word in HELP_WORDS:
                self._parsed.wants_help = True
            elif word.startswith("-") and word != "-" and not is_key_shaped(word):
                self._take_hyphenated(word, pending)
            elif self._is_keyword(word):
                self._take_option(word, word, pending)
            else:
                self._take_positional(word)
        return self._parsed

    def _is_keyword(self, word: str) -> bool:
        return len(self._parsed.positional) >= self._words.required and word in self._words.options

    def _take_hyphenated(self, word: str, pending: Iterator[str]) -> None:
        name, has_value, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in self._words.options:
            raise self._unknown(f"unknown option {word}", name.lstrip("-"), "--")
        if has_value and not self._words.options[name]:
            raise GrammarError(f"--{name} takes no value")
        self._take_option(name, word, iter([value]) if has_value else pending)

    def _take_option(self, name: str, word: str, pending: Iterator[str]) -> None:
        if name in self._parsed.options:
            raise GrammarError(f"{word} is given twice")
        value = next(pending, None) if self._words.options[name] else None
        if value is None and self._words.options[name]:
            raise MissingValueError(word, name)
        self._parsed.options[name] = value

    def _take_positional(self, word: str) -> None:
        if len(self._parsed.positional) >= self._words.required + self._words.optional:
            raise self._unknown(f"unexpected word {word!r}", word, "")
        self._parsed.positional.append(word)

    def _unknown(self, message: str, word: str, prefix: str) -> GrammarError:
        suggestion = nearest(word, self._words.options)
        return GrammarError(message, prefix + suggestion if suggestion else None)
