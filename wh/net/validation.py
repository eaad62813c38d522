"""Which paths are known to lead to a peer: only there may an answer be longer than its request
(docs/protocol.md section 2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from wh.engine.events import Key, Path

PEERS_MAX = 4096
PATHS_MAX = 4
CHALLENGES_MAX = 512

PROVED_FOR_S = 2400.0
"""As long as keys live: a peer proves its path anew with the next ones, after 30 min."""

IDLE_S = 600.0
"""As long as an idle control session."""


@dataclass(slots=True)
class Proof:
    """Times in monotonic seconds."""

    proved_at: float
    heard_at: float

    def holds(self, now: float) -> bool:
        return now - self.proved_at < PROVED_FOR_S and now - self.heard_at < IDLE_S


class ValidatedPaths:
    """The last few proven paths of each peer, and the challenges on their way. A proof ends with the session,
    with time, and where nothing is heard on the path. Least recently proven goes first. Times: monotonic
    seconds."""

    def __init__(self) -> None:
        self._proofs: OrderedDict[Key, OrderedDict[Path, Proof]] = OrderedDict()
        self._challenges: OrderedDict[tuple[Key, Path], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._proofs)

    def holds(self, peer: Key, path: Path, now: float) -> bool:
        """Whether the path is proven; asked when something has come on it from the peer."""
        proofs = self._proofs.get(peer)
        proof = proofs.get(path) if proofs is not None else None
        if proofs is None or proof is None:
            return False
        if not proof.holds(now):
            del proofs[path]
            return False
        proof.heard_at = now
        return True

    def add(self, peer: Key, path: Path, now: float) -> None:
        proofs = self._proofs.setdefault(peer, OrderedDict())
        self._proofs.move_to_end(peer)
        proofs[path] = Proof(now, now)
        proofs.move_to_end(path)
        if len(proofs) > PATHS_MAX:
            proofs.popitem(last=False)
        if len(self._proofs) > PEERS_MAX:
            self._proofs.popitem(last=False)

    def forget(self, peer: Key) -> None:
        self._proofs.pop(peer, None)

    def forget_unless(self, has_session: Callable[[Key], bool]) -> None:
        """What was proven in sessions that are over."""
        for peer in [peer for peer in self._proofs if not has_session(peer)]:
            del self._proofs[peer]
        for peer, path in [name for name in self._challenges if not has_session(name[0])]:
            del self._challenges[peer, path]

    def challenge_sent(self, peer: Key, path: Path, data: bytes) -> None:
        self._challenges.pop((peer, path), None)
        self._challenges[peer, path] = data
        if len(self._challenges) > CHALLENGES_MAX:
            self._challenges.popitem(last=False)

    def challenge_answered(self, peer: Key, path: Path, data: bytes, now: float) -> None:
        """The path counts as proven where data is what was sent there."""
        if self._challenges.get((peer, path)) == data:
            del self._challenges[peer, path]
            self.add(peer, path, now)
