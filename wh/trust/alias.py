"""Who may have an alias (docs/protocol.md section 9): the judgement on a claim, sans-IO."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from wh.config.model import Network, Peer
from wh.engine.events import Instant, Key, Path
from wh.engine.limits import RateLimit
from wh.wire.address import prefix
from wh.wire.messages import AuthStatus

CheckClaim = Callable[[Key, Key, bytes, bytes], bool]
"""(claimant, alias, commitment, proof) -> whether the claimant proved, in its session with us, that it has
the alias's secret: a Diffie-Hellman and two HMACs, about 100 us."""


def no_claim_holds(claimant: Key, alias: Key, commitment: bytes, proof: bytes) -> bool:
    """For nodes that have nothing to check a proof with."""
    return False


HandshakeHashes = Callable[[Key], tuple[bytes, ...]]
"""Of our session with that peer: of the keys in use, 32 bytes, and of those before."""


def no_session(peer: Key) -> tuple[bytes, ...]:
    return ()


CHECKS_BURST = 10
CHECKS_INTERVAL_S = 1.0
ALL_CHECKS_BURST = 50
ALL_CHECKS_INTERVAL_S = 0.05
"""Proofs looked at: of one network (IPv4 /24, IPv6 /48), and in all. 20/s are 0.2% of a core."""

REMEMBERED_MAX = 1024
BINDING_MAX = 64


class Verdict(Enum):
    """What to do where the claim is not simply answered."""

    SILENCE = "silence"  # over a limit, or somebody's claim is being written down: come again
    PROVED = "proved"


class Aliases:
    """The aliases of the network file, and who has claimed which."""

    def __init__(self, own_key: Key, check: CheckClaim) -> None:
        self._own_key = own_key
        self._check = check
        self._network = Network()
        self._open: dict[Key, Peer] = {}
        self._claimed: OrderedDict[Key, Key] = OrderedDict()  # alias -> claimant, latest last
        self._binding: dict[Key, Key] = {}
        self._checks = RateLimit(CHECKS_BURST, CHECKS_INTERVAL_S)
        self._all_checks = RateLimit(ALL_CHECKS_BURST, ALL_CHECKS_INTERVAL_S, entries_max=1)

    def set_network(self, network: Network) -> None:
        self._network = network
        self._open = {peer.key: peer for peer in network.peers if peer.is_alias}

    def remember(self, alias: Key, claimant: Key) -> None:
        self._claimed[alias] = claimant
        self._claimed.move_to_end(alias)
        if len(self._claimed) > REMEMBERED_MAX:
            self._claimed.popitem(last=False)

    def member(self, key: Key) -> Peer | None:
        """The line of a key that the file trusts."""
        peer = self._network.peer(key)
        return peer if peer is not None and peer.trusted and not peer.is_alias else None

    def can_be_claimed(self, now: Instant) -> bool:
        """Whether there is an alias that a stranger could have come for."""
        return any(self._acts(peer) and not _has_expired(peer, now) for peer in self._open.values())

    def _acts(self, peer: Peer) -> bool:
        return peer.at is None or peer.at == self._own_key

    def judge(
        self, claimant: Key, alias: Key, commitment: bytes, proof: bytes, source: Path, now: Instant
    ) -> AuthStatus | Verdict:
        """What a claim is worth. The proof comes last, since it is what costs."""
        if (refusal := self.refusal(claimant, alias, now)) is not None:
            return refusal
        if not self._may_check(source, now):
            return Verdict.SILENCE
        return Verdict.PROVED if self._check(claimant, alias, commitment, proof) else AuthStatus.UNKNOWN

    def take(self, claimant: Key, alias: Key) -> bool:
        """A claim that nothing speaks against, that was proved and revealed, is to be written down: no other
        of the alias is heard until bound() is called. False where too many are."""
        if len(self._binding) >= BINDING_MAX:
            return False
        self._binding[alias] = claimant
        return True

    def refusal(self, claimant: Key, alias: Key, now: Instant) -> AuthStatus | Verdict | None:
        """What speaks against a claim, whatever it proves. A member has nothing to prove, whatever its claim
        says: it may not have heard our first answer."""
        if self.member(claimant) is not None:
            return AuthStatus.OK
        if alias in self._binding:
            return Verdict.SILENCE
        peer = self._open.get(alias)
        if peer is None:
            other = self._claimed.get(alias, claimant)
            return AuthStatus.UNKNOWN if other == claimant else AuthStatus.USED
        if not self._acts(peer):
            return AuthStatus.UNKNOWN
        if _has_expired(peer, now):
            return AuthStatus.EXPIRED
        return None

    def bound(self, alias: Key, claimant: Key, status: AuthStatus) -> None:
        """The end of what take() began."""
        self._binding.pop(alias, None)
        if status is AuthStatus.OK:
            self.remember(alias, claimant)

    def _may_check(self, source: Path, now: Instant) -> bool:
        """What comes out of a channel counts for the channel (docs/protocol.md section 1)."""
        network = source if source.channel else prefix(source.remote, 24, 48)
        return self._checks.allow(network, now.monotonic) and self._all_checks.allow(None, now.monotonic)


def _has_expired(peer: Peer, now: Instant) -> bool:
    return peer.expires is not None and now.unix >= peer.expires
