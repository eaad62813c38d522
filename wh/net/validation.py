"""Which paths are known to lead to a peer: only there may an answer be longer than its request
(docs/protocol.md section 2)."""

from __future__ import annotations

from collections import OrderedDict

from wh.events import Key, Path

PEERS_MAX = 4096
PATHS_MAX = 4
CHALLENGES_MAX = 512


class ValidatedPaths:
    """The last few proven paths of each peer, and the challenges on their way. Least recently proven goes
    first."""

    def __init__(self) -> None:
        self._paths: OrderedDict[Key, OrderedDict[Path, None]] = OrderedDict()
        self._challenges: OrderedDict[tuple[Key, Path], bytes] = OrderedDict()

    def __contains__(self, peer_path: tuple[Key, Path]) -> bool:
        peer, path = peer_path
        return path in self._paths.get(peer, ())

    def add(self, peer: Key, path: Path) -> None:
        paths = self._paths.setdefault(peer, OrderedDict())
        self._paths.move_to_end(peer)
        paths[path] = None
        paths.move_to_end(path)
        if len(paths) > PATHS_MAX:
            paths.popitem(last=False)
        if len(self._paths) > PEERS_MAX:
            self._paths.popitem(last=False)

    def forget(self, peer: Key) -> None:
        self._paths.pop(peer, None)

    def challenge_sent(self, peer: Key, path: Path, data: bytes) -> None:
        self._challenges.pop((peer, path), None)
        self._challenges[peer, path] = data
        if len(self._challenges) > CHALLENGES_MAX:
            self._challenges.popitem(last=False)

    def challenge_answered(self, peer: Key, path: Path, data: bytes) -> None:
        """The path counts as proven where data is what was sent there."""
        if self._challenges.get((peer, path)) == data:
            del self._challenges[peer, path]
            self.add(peer, path)
