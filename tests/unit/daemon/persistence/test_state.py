"""What survives a restart of the daemon."""

from __future__ import annotations

import logging
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.daemon.persistence.state import CEILING_AHEAD_NS, NS, SEED_LEN, StateFile, state_path

START = 1_800_000_000 * NS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made-on-demand" / "-k_y.state"


def restarted(path: Path) -> int:
    return StateFile(path).load().timestamp_ceiling_ns


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3600 * NS), st.integers(-7200 * NS, 7200 * NS)), max_size=20))
def test_after_a_crash_nothing_at_or_below_a_used_timestamp_is_used_again(
    steps: list[tuple[int, int]],
) -> None:
    """Each step: how much later the next timestamp is used, and how far the clock is off by then."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state"
        state = StateFile(path)
        used = START
        for later, clock_error in steps:
            used += later
            state.keep_ahead(used, used + clock_error)
            assert restarted(path) > used


def test_a_clean_stop_leaves_exactly_what_was_used(path: Path) -> None:
    state = StateFile(path)
    state.keep_ahead(START, START)
    assert restarted(path) == START + CEILING_AHEAD_NS
    state.write_last(START + 5)
    assert restarted(path) == START + 5


def test_the_file_is_written_seldom(path: Path) -> None:
    state = StateFile(path)
    state.keep_ahead(START, START)
    written = path.stat().st_ino
    state.keep_ahead(START + 60 * NS, START + 60 * NS)
    assert path.stat().st_ino == written


def test_only_its_owner_may_read_it(path: Path) -> None:
    StateFile(path).keep_ahead(START, START)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"timestamp_ceiling_ns": "x"}', b'{"listen_port": 65536}', b"\xff" * 9999]
)
def test_a_corrupt_file_is_ignored_with_a_warning(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert restarted(path) == 0
    assert str(path) in caplog.text


def test_a_directory_that_cannot_be_written_is_warned_about_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    state = StateFile(tmp_path / "file" / "state")
    for minutes in range(0, 60, 20):
        state.keep_ahead(START + minutes * 60 * NS, START)
    assert caplog.text.count("cannot save") == 1


def test_the_port_is_remembered_beside_the_timestamp(path: Path) -> None:
    state = StateFile(path)
    state.remember_port(4711)
    state.keep_ahead(START, START)
    state.write_last(START)
    again = StateFile(path).load()
    assert (again.listen_port, again.timestamp_ceiling_ns) == (4711, START)


def test_an_ephemeral_key_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = StateFile(None)
    state.keep_ahead(START, START)
    state.write_last(START)
    assert state.load().timestamp_ceiling_ns == 0
    assert list(tmp_path.iterdir()) == []


def test_the_directory_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WH_STATEDIR", "/elsewhere")
    assert state_path("-key") == Path("/elsewhere/-key/state")


def test_the_seed_of_port_mappings_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state"
    first = StateFile(path)
    seed = first.mapping_seed()
    assert len(seed) == SEED_LEN
    first.keep_ahead(START, START)
    again = StateFile(path)
    again.load()
    assert again.mapping_seed() == seed
    assert StateFile(None).mapping_seed() != seed


def test_addresses_of_public_nodes_are_kept(path: Path) -> None:
    known = ((bytes(31) + b"\x09", (bytes(18), b"\x01" * 18)),)
    state = StateFile(path)
    state.remember_addresses(known)
    written = path.stat().st_ino
    state.remember_addresses(known)
    assert path.stat().st_ino == written, "not again"
    assert StateFile(path).load().addresses() == known


def test_a_state_with_addresses_that_are_none_is_ignored(path: Path) -> None:
    StateFile(path).remember_port(7)
    for wrong in ('{"short": []}', '{"' + "A" * 43 + '": ["AAAA"]}'):
        path.write_text(f'{{"public_nodes": {wrong}}}')
        assert StateFile(path).load().addresses() == ()
