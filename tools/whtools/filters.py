"""`wh pubkey`, `wh workbit` and `wh bid`: a key in, an answer out.

They stand in pipes and loops, so a run may take little longer than starting Python: nothing but the core is
imported (and, where a network file is named, its reader).
"""

from __future__ import annotations

from wh.system import standard_streams
from wh.system.exit_codes import EXIT_OK, EXIT_USAGE
from whcore import keys
from whcore.errors import WireHubError
from whtools.grammar import GrammarError, Parsed, Words, parse
from whtools.outcome import print_error, report

DEFAULT_NAMESPACE = "public"
STDIN_LEN_MAX = 4096
"""Bytes; a key has 45 with its newline."""

WORDS = {
    "pubkey": Words({"wg": False}),
    "workbit": Words({"namespace": True}, optional=1),
    "bid": Words({}, required=2),
}
USAGE = {
    "pubkey": "wh pubkey [wg] < PRIVATE_KEY",
    "workbit": "wh workbit [FILE | namespace NAMESPACE] < KEY",
    "bid": "wh bid KEY KEY  (- reads one from standard input)",
}


def main(name: str, arguments: list[str]) -> int | None:
    """The exit code, or None where the user asks for help, which click gives."""
    try:
        parsed = parse(arguments, WORDS[name])
        if parsed.wants_help:
            return None
        print(_ANSWERS[name](parsed))
    except GrammarError as error:
        hint = f"did you mean {error.suggestion}?" if error.suggestion else f"usage: {USAGE[name]}"
        print_error(str(error), "WH130", hint)
        return EXIT_USAGE
    except WireHubError as error:
        return report(error)
    return EXIT_OK


def pubkey(parsed: Parsed) -> str:
    secret = read_secret_key()
    encode = keys.encode_key_wg if "wg" in parsed.options else keys.encode_key
    return encode(secret.public_key)


def workbit(parsed: Parsed) -> str:
    if parsed.positional and parsed.options:
        raise GrammarError("a network file and a namespace exclude each other")
    namespace = parsed.options.get("namespace") or DEFAULT_NAMESPACE
    if parsed.positional:
        from whtools.network_file import load

        namespace = load(parsed.positional[0]).namespace
    return str(keys.workbit(read_key("-"), namespace.encode()))


def bid(parsed: Parsed) -> str:
    if len(parsed.positional) < WORDS["bid"].required:
        raise GrammarError("bid needs two keys")
    if parsed.positional == ["-", "-"]:
        raise GrammarError("only one of the keys can come from standard input")
    first, second = map(read_key, parsed.positional)
    return str(keys.bucket_index(first, second))


def read_key(text: str) -> bytes:
    """32 bytes. text: a public key, or `-` for the one on standard input. Raises InvalidKey, StreamError."""
    return keys.decode_key(_line_of_input() if text == "-" else text)


def read_secret_key() -> keys.SecretKey:
    """Raises InvalidKey, StreamError."""
    try:
        return keys.SecretKey.read_fd(standard_streams.STDIN)
    except OSError as error:
        raise standard_streams.input_error(error) from None


def _line_of_input() -> str:
    return standard_streams.read_input(STDIN_LEN_MAX).decode("utf-8-sig", "replace").strip()


_ANSWERS = {"pubkey": pubkey, "workbit": workbit, "bid": bid}
