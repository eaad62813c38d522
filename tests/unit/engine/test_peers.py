from __future__ import annotations

from engine_parts import OTHER_PATH, PATH, PEER_ADDRESS, PEER_KEY, at

from wh.engine.events import Path
from wh.engine.peers import VALIDATED_PATHS_MAX, VALIDATION_LIFETIME_S, Peer, Peers


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_strangers_are_forgotten_longest_silent_first_and_pinned_keys_never() -> None:
    peers = Peers(strangers_max=3)
    peers.pin({key_of(0)})
    for number in range(1, 4):
        peers.obtain(key_of(number))
    peers.obtain(key_of(1))
    peers.obtain(key_of(4))
    assert [number for number in range(5) if peers.get(key_of(number))] == [0, 1, 3, 4]


def test_a_stranger_that_the_file_names_keeps_its_state_and_so_does_one_it_names_no_more() -> None:
    peers = Peers(strangers_max=1)
    known = peers.obtain(key_of(1))
    known.session = True
    peers.pin({key_of(1)})
    assert peers.obtain(key_of(1)) is known
    peers.pin(set())
    assert peers.get(key_of(1)) is known
    assert peers.with_session() == [known]
    peers.obtain(key_of(2))
    assert peers.get(key_of(1)) is None


def test_a_forgotten_peer_starts_from_nothing() -> None:
    peers = Peers()
    peers.pin({PEER_KEY})
    peers.obtain(PEER_KEY).validate(PATH, at(0))
    peers.forget(PEER_KEY)
    assert peers.obtain(PEER_KEY).last_path is None


def test_a_validated_path_ages_and_few_are_kept() -> None:
    peer = Peer(PEER_KEY)
    peer.validate(PATH, at(0))
    assert peer.is_validated(PATH, at(VALIDATION_LIFETIME_S - 1))
    assert not peer.is_validated(PATH, at(VALIDATION_LIFETIME_S))
    assert not peer.is_validated(OTHER_PATH, at(0))
    for port in range(1, VALIDATED_PATHS_MAX + 2):
        peer.validate(Path(0, PEER_ADDRESS[:16] + port.to_bytes(2, "big")), at(1))
    assert len(peer.validated) == VALIDATED_PATHS_MAX
    assert peer.last_path is not None
    assert peer.last_path.remote[16:] == (VALIDATED_PATHS_MAX + 1).to_bytes(2, "big")


def test_invented_keys_do_not_make_us_forget_who_has_answered() -> None:
    peers = Peers(strangers_max=3)
    for number in (1, 2):
        peers.obtain(key_of(number)).validate(PATH, at(0))
        peers.obtain(key_of(number))
    newest = [peers.obtain(key_of(number)) for number in range(10, 30)][-1]
    assert peers.get(key_of(1)) and peers.get(key_of(2))
    assert peers.get(newest.key) is newest
    assert len(peers) == 3


def test_an_answer_proves_an_ip_of_that_peer_but_not_one_behind_a_relay() -> None:
    peer = Peer(PEER_KEY)
    peer.validate(PATH._replace(channel=5), at(0))
    assert not peer.answered_at(PATH.remote, at(0))
    peer.validate(PATH, at(0))
    assert peer.answered_at(PATH.remote[:16] + b"\x00\x07", at(0))
    assert not peer.answered_at(OTHER_PATH.remote, at(0))
    assert not peer.answered_at(PATH.remote, at(VALIDATION_LIFETIME_S))
