"""The log of claims: what is added is on disk, the oldest are forgotten, nonsense is ignored."""

import logging
import stat
from pathlib import Path

import pytest

from wh.daemon.persistence.claim_log import CLAIMS_MAX, ClaimLog
from wh.errors import SystemSetupError

WORDS = ("acid", "barn", "cactus")


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "key.claims"


def restarted(path: Path) -> ClaimLog:
    log = ClaimLog(path)
    log.load()
    return log


def test_claims_survive_a_restart(path: Path):
    log = restarted(path)
    log.add(key(1), key(11), WORDS)
    log.add(key(2), key(12), WORDS)
    log.add(key(1), key(13), WORDS)  # the first was never written into the network file
    assert restarted(path).items() == ((key(2), key(12)), (key(1), key(13)))
    assert restarted(path).words_of(key(13)) == WORDS
    assert restarted(path).words_of(key(11)) == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_last_alias_of_a_key_counts(path: Path):
    log = restarted(path)
    log.add(key(1), key(11), ("zero",))
    log.add(key(2), key(11), WORDS)
    assert log.words_of(key(11)) == WORDS


def test_the_log_is_bounded_and_readable_when_full(path: Path):
    log = ClaimLog(None)
    for number in range(CLAIMS_MAX):
        log.add(key(number), key(number), WORDS)
    full = ClaimLog(path)
    full._claims = dict(log._claims)
    full.add(key(CLAIMS_MAX), key(7), WORDS)
    again = restarted(path)
    assert len(again.items()) == CLAIMS_MAX
    assert again.items()[0][0] == key(1)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"alias": "x", "claimant": "y"}]', "[" * 2000])
def test_a_log_that_makes_no_sense_is_ignored(path: Path, content: str, caplog: pytest.LogCaptureFixture):
    path.parent.mkdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert restarted(path).items() == ()
    assert str(path) in caplog.text


def test_an_ephemeral_node_remembers_for_itself(tmp_path: Path):
    log = ClaimLog(None)
    log.load()
    log.add(key(1), key(2), WORDS)
    assert log.items() == ((key(1), key(2)),)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemSetupError):
        ClaimLog(tmp_path / "file" / "claims").add(key(1), key(2), WORDS)
