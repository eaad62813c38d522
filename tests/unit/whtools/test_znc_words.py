"""The command line of 0nc, its forwards, and what it hides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whcore.keys import SecretKey, encode_key
from whtools.znc.forward_words import ForwardWord, Place, read_forward, read_place_untrusted
from whtools.znc.outcome import EXIT_USAGE, Ended
from whtools.znc.settings import USAGE, parse

ROOT = Path(__file__).parents[3]
NO_COLOUR = {"NO_COLOR": "1"}


def znc(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "whtools.zero_netcat", *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        timeout=60,
    )


def test_options_stand_anywhere_and_letters_may_be_joined():
    settings = parse(["host", "-vkw5", "80", "--idle=2m", "--", "-x"][:5])
    assert (settings.words, settings.keep_open, settings.wait_s, settings.idle_s) == (
        ["host", "80"],
        True,
        5.0,
        120.0,
    )
    assert settings.verbosity == 2
    assert parse(["--", "-x"]).words == ["-x"]
    assert parse(["-"]).words == ["-"]
    assert parse(["-e", "cat -n"]).command == "cat -n"
    assert not parse(["--no-relay"]).relay


@pytest.mark.parametrize(
    "arguments",
    [
        ["--frob"],
        ["-x"],
        ["-w"],
        ["-w", "soon"],
        ["-w", "0"],
        ["--expires", "1w"],
        ["--lan=yes"],
        ["a", "1", "c"],
        ["-l"],
        ["-l", "a", "1", "c"],
        ["--send-only", "--recv-only"],
        ["-e", "cat", "--send-only"],
        ["-e", "cat", "--resume", "x"],
        ["-k", "--resume", "x"],
        ["--resume", "x", "-l", "7"],
        ["--patience", "-1"],
        ["-e", "cat", "-L", "1:a:2"],
        ["host", "80", "-L", "1:a:2"],
        ["host", "80", "--qr"],
        ["-L", "nonsense"],
        ["-L", "1:a:70000"],
        ["-R", "udp:/a:/b"],
        ["-l", "port"],
        ["host", "0"],
    ],
)
def test_what_is_not_understood_is_a_usage_error(arguments: list[str]):
    try:
        parse(arguments)
    except Ended as ended:
        assert ended.exit_code == EXIT_USAGE
        return
    assert znc(*arguments).returncode == EXIT_USAGE


@pytest.mark.parametrize(
    ("word", "listen", "target"),
    [
        ("8080:localhost:80", "tcp 127.0.0.1:8080", "tcp localhost:80"),
        ("0.0.0.0:8080:10.0.0.1:80", "tcp 0.0.0.0:8080", "tcp 10.0.0.1:80"),
        ("[::1]:8080:[2001:db8::1]:80", "tcp [::1]:8080", "tcp [2001:db8::1]:80"),
        ("udp:53:9.9.9.9:53", "udp 127.0.0.1:53", "udp 9.9.9.9:53"),
        ("tcp:8080:localhost:80", "tcp 127.0.0.1:8080", "tcp localhost:80"),
        ("/run/a.sock:/run/b.sock", "unix /run/a.sock", "unix /run/b.sock"),
        ("8080:/run/b.sock", "tcp 127.0.0.1:8080", "unix /run/b.sock"),
        ("/run/a.sock:localhost:80", "unix /run/a.sock", "tcp localhost:80"),
    ],
)
def test_forwards_are_read(word: str, listen: str, target: str):
    found = read_forward(word)
    assert (str(found.listen), str(found.target)) == (listen, target)
    assert read_place_untrusted(target) == found.target


@given(st.text(max_size=40))
def test_whatever_the_other_end_asks_for_is_a_place_or_an_error(text: str):
    try:
        place = read_place_untrusted(text)
    except ValueError:
        return
    assert place.kind == "unix" or 1 <= place.port <= 0xFFFF


@given(st.text(alphabet="0123456789abc:/[]udp.", max_size=30))
def test_every_forward_that_is_read_has_two_places(text: str):
    try:
        found = read_forward(text)
    except ValueError:
        return
    assert isinstance(found, ForwardWord)
    assert all(isinstance(place, Place) for place in found)


def test_help_names_every_option_and_so_does_the_manual():
    manual = (ROOT / "docs/man/0nc.1").read_text().replace("\\-", "-")
    for option in (
        *(
            "--exec",
            "--status",
            "--resume",
            "--patience",
            "--keep-open",
            "--send-only",
            "--recv-only",
            "-L",
            "-R",
            "--allow-forward",
            "--wait",
        ),
        *("--idle", "--expires", "--qr", "--lan", "--no-relay", "--bootstrap", "--progress", "--json"),
        *("--verbose", "--quiet", "--listen", "--help", "--version"),
    ):
        assert option in USAGE, option
        assert option in manual, option
    assert znc("--help").stdout.decode() == USAGE
    assert znc("--version").stdout.startswith(b"0nc ")


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        ("nonsense", 3, "no invitation"),
        ("wh2aaaa", 3, "invitation"),
        ("wh3" + "a" * 100, 3, "another version"),
    ],
)
def test_bad_invitations_are_told_and_have_their_exit_code(word: str, code: int, says: str):
    for answer in (znc(word, **NO_COLOUR), znc("-", stdin=word.encode()), znc(ZNC_INVITE=word)):
        assert answer.returncode == code, answer.stderr
        assert says in answer.stderr.decode()
        assert b"Traceback" not in answer.stderr


def test_an_invitation_of_an_ordinary_network_is_for_wh_join():
    from wh.trust.invitation import Invitation, encode

    text = encode(Invitation(SecretKey.generate().public_key, bytes(16)))
    answer = znc(text)
    assert (answer.returncode, b"wh join" in answer.stderr) == (3, True)


def stream_invitation() -> str:
    from wh.trust.invitation import Flag, Invitation, encode

    return encode(Invitation(SecretKey.generate().public_key, bytes(16), expiry=1, flags=Flag.STREAM))


@pytest.mark.parametrize("way", ["words", "word", "file"])
def test_an_invitation_is_taken_out_of_what_was_pasted(way: str, tmp_path: Path):
    word = stream_invitation()
    pasted = f"0nc {word}" if way == "words" else f"> `0nc {word[:70]}\r\n> {word[70:]}`\r\n"
    (tmp_path / "pasted").write_text(pasted)
    arguments = {"words": pasted.split(), "word": [pasted], "file": [str(tmp_path / "pasted")]}
    assert znc(*arguments[way]).returncode == 4  # it has expired, so it was read


def test_an_expired_invitation_is_told():
    assert znc(stream_invitation()).returncode == 4


def test_errors_are_json_where_that_is_asked_for():
    answer = znc("--json", "nonsense")
    (event,) = map(json.loads, answer.stderr.decode().splitlines())
    assert (event["event"], event["exit"], event["code"]) == ("error", 3, "WH140")


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_the_invitation_is_gone_from_what_ps_shows(way: str):
    """The process looks at itself, as others would see it."""
    secret = "wh2" + encode_key(SecretKey.generate().public_key).lower()
    script = (
        "import os, sys; from whtools.znc import secret_words; from pathlib import Path\n"
        "text = secret_words.read_invitation(sys.argv[1] if len(sys.argv) > 1 else None)\n"
        "secret_words.hide(text)\n"
        "seen = Path('/proc/self/cmdline').read_bytes() + Path('/proc/self/environ').read_bytes()\n"
        "assert 'ZNC_INVITE' not in os.environ\n"
        "print(text in seen.decode('utf-8', 'replace'), b'marker' in seen)"
    )
    arguments = [secret, "marker"] if way == "argument" else []
    variable = {"ZNC_INVITE": secret, "OTHER": "marker"} if way == "variable" else {}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variable},
    )
    assert answer.stdout == "False True\n", answer.stderr


def test_an_invitation_is_read_from_a_file_and_from_standard_input_up_to_its_line(tmp_path: Path):
    from wh.trust.pasting import word_of_untrusted
    from whtools.znc import secret_words

    word = stream_invitation()
    path = tmp_path / "invitation"
    path.write_text(f"{word[:40]}\n{word[40:]}\nrest")
    assert word_of_untrusted(secret_words.read_invitation(str(path)) or "") == word
    reader, writer = os.pipe()
    os.write(writer, f"\n0nc {word[:50]}\n> {word[50:]}\nrest of the stream".encode())
    saved = os.dup(0)
    try:
        os.dup2(reader, 0)
        assert word_of_untrusted(secret_words.read_invitation("-") or "") == word
        assert os.read(0, 100) == b"rest of the stream"
    finally:
        os.dup2(saved, 0)
        for fd in (saved, reader, writer):
            os.close(fd)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_are_nobody_elses_files(closed: str):
    """What is opened next would get their numbers, and the data."""
    script = f'exec "$0" -P -m whtools.zero_netcat -w 1 -l 39871 {closed}'
    answer = subprocess.run(
        ["sh", "-c", script, sys.executable],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        timeout=60,
    )
    assert answer.returncode == 5
