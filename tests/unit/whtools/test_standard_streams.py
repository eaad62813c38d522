"""Standard streams that are closed or full: no file gets their number, and what is lost is an error."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import programs
import pytest

from wh.config.parser import decode
from wh.errors import Code, ConfigError
from wh.system.python import NOWHERE, spawn

SECRET = b"qIbbrKGN8RqSZ9qXAgX1Tvuke1OVZmvTpV1Rhc9xGEY=\n"
DESCRIPTORS = """
import os, sys
for name in sorted(os.listdir("/proc/self/fd"), key=int):
    try:
        print(name, os.readlink("/proc/self/fd/" + name), file=open(sys.argv[1], "a"))
    except FileNotFoundError:
        pass
"""


@pytest.mark.parametrize(
    ("words", "closed", "code"),
    [(["version"], (0, 1, 2), 0), (["pubkey"], (0,), 1), (["_complete", "gen"], (0, 2), 0)],
)
def test_a_closed_stream_is_dev_null(words: list[str], closed: tuple[int, ...], code: int):
    ran = programs.run("wh", *words, closed=closed, stdin=SECRET)
    assert ran.returncode == code
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "words", [["wh", "genkey"], ["wh", "version"], ["0nc", "--help"], ["wh-wireguard", "-h"]]
)
def test_output_that_cannot_be_written_is_said_so(words: list[str]):
    ran = programs.run(*words, full=(1,))
    assert ran.returncode == 1
    assert ran.stderr == words[0].encode() + b": error WH131: cannot write: No space left on device\n"


@pytest.mark.parametrize(("words", "code"), [(["wh", "genkey"], 0), (["wh", "bid"], 2), (["0nc", "--x"], 2)])
def test_an_unwritable_standard_error_changes_no_exit_code(words: list[str], code: int):
    assert programs.run(*words, full=(2,)).returncode == code


@pytest.mark.parametrize("words", [["pubkey"], ["workbit"], ["ipc", "wh0", "status", "-"]])
def test_input_that_cannot_be_read_is_said_so(words: list[str]):
    writable = os.open(os.devnull, os.O_WRONLY)
    try:
        ran = programs.run("wh", *words, stdin=writable)
    finally:
        os.close(writable)
    assert ran.returncode == 1
    assert ran.stderr == b"wh: error WH132: cannot read standard input: Bad file descriptor\n"


def test_a_program_that_we_start_has_the_streams_it_is_given(tmp_path: Path):
    """Also where this process has lent 0 to 2 to something else, as an embedding program may."""
    report = tmp_path / "report"
    with tempfile.TemporaryFile() as file:
        kept = os.dup(0)
        try:
            os.dup2(file.fileno(), 0, inheritable=False)
            pid = spawn([sys.executable, "-c", DESCRIPTORS, str(report)], {1: 0, 2: NOWHERE, 3: 0})
        finally:
            os.dup2(kept, 0)
            os.close(kept)
        assert os.waitpid(pid, 0)[1] == 0
    links = dict(line.split(" ", 1) for line in report.read_text().splitlines())
    assert links["0"] == links["2"] == "/dev/null"
    assert "deleted" in links["1"] and links["1"] == links["3"]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n\n", "\ufeff\r\n"])
def test_a_network_file_that_says_nothing_is_an_error(text: str):
    with pytest.raises(ConfigError) as raised:
        decode(text.encode(), path="net")
    assert raised.value.code is Code.FILE_EMPTY
