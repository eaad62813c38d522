"""A claim's proof counts in one session, from one key, at one node."""

import pytest
from control_sessions import connect

from wh.net.alias_proofs import AliasProofs
from whcore.alias import derive_alias
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey

S = 10**9
COMMITMENT = b"c" * 32


class End:
    def __init__(self) -> None:
        self.secret = SecretKey.generate()
        self.key = self.secret.public_key
        self.sessions = ControlSessions(self.secret, b"public")
        self.proofs = AliasProofs(self.secret, self.sessions)

    def connect(self, other: "End", now: int = S) -> None:
        connect(self.sessions, other.sessions, self.key, other.key, now)


@pytest.fixture
def ends() -> tuple[End, End]:
    claimant, server = End(), End()
    claimant.connect(server)
    return claimant, server


def test_the_holder_of_the_secret_proves_it(ends: tuple[End, End]):
    claimant, server = ends
    alias = SecretKey.generate()
    claimant.proofs.hold(alias)
    proof = claimant.proofs.prove(server.key, alias.public_key, COMMITMENT)
    assert proof is not None
    assert server.proofs.check(claimant.key, alias.public_key, COMMITMENT, proof)
    public = alias.public_key
    claimant.proofs.drop(alias)
    assert claimant.proofs.prove(server.key, public, COMMITMENT) is None


def test_two_claims_of_one_alias_do_not_close_each_others_secret(ends: tuple[End, End]):
    claimant, server = ends
    seed = bytes(range(16))
    first, second = (derive_alias(seed, b"public", 0) for _ in range(2))
    claimant.proofs.hold(first)
    claimant.proofs.hold(second)
    claimant.proofs.drop(first)
    assert claimant.proofs.prove(server.key, second.public_key, COMMITMENT) is not None


def test_a_proof_is_worth_nothing_elsewhere(ends: tuple[End, End]):
    """Neither from another key, nor at another node, nor in a later session."""
    claimant, server = ends
    thief, other = End(), End()
    thief.connect(server)
    claimant.connect(other)
    alias = SecretKey.generate()
    claimant.proofs.hold(alias)
    proof = claimant.proofs.prove(server.key, alias.public_key, COMMITMENT)
    assert proof is not None
    assert not server.proofs.check(thief.key, alias.public_key, COMMITMENT, proof)
    assert not other.proofs.check(claimant.key, alias.public_key, COMMITMENT, proof)
    assert not server.proofs.check(claimant.key, alias.public_key, bytes(32), proof)
    claimant.connect(server, 2 * S)
    assert server.proofs.check(
        claimant.key, alias.public_key, COMMITMENT, proof
    )  # under way at the change of keys
    claimant.connect(server, 3 * S)
    assert not server.proofs.check(claimant.key, alias.public_key, COMMITMENT, proof)


def test_without_a_session_nothing_is_proved(ends: tuple[End, End]):
    claimant, _ = ends
    alias = SecretKey.generate()
    claimant.proofs.hold(alias)
    assert claimant.proofs.prove(End().key, alias.public_key, COMMITMENT) is None
    assert not claimant.proofs.check(End().key, alias.public_key, COMMITMENT, bytes(32))
