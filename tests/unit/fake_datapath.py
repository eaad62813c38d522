"""A data plane without packets, for tests of what drives one: whcore.datapath.Datapath's interface."""

from __future__ import annotations

import os
from collections.abc import Sequence

from whcore.datapath import ControlDatagram, PeerStatus
from whcore.errors import SystemFailure

Path = tuple[int, bytes, int, int]
RELAYS_MAX = 2


class FakeDatapath:
    """What the tests put in comes out of the drains; what is sent and set is kept for them to see."""

    def __init__(self) -> None:
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events: list[tuple[object, ...]] = []
        self._control: list[ControlDatagram] = []
        self.sent: list[tuple[int, bytes, bytes]] = []
        self.refusing = False
        self.paths: dict[bytes, tuple[list[Path], int, int]] = {}
        self.cleared: list[bytes] = []
        self.keepalives: dict[bytes, int] = {}
        self.allowed_ips: dict[bytes, set[tuple[bytes, int]]] = {}
        self.traffic: dict[bytes, tuple[int, int]] = {}
        self.relayed: dict[tuple[int, int], list[tuple[int, bytes]]] = {}  # legs -> clients
        self.relays_opened = 0
        self.relay_limits: list[dict[str, int]] = []
        self.silent: list[tuple[int, int]] = []

    def close(self) -> None:
        os.close(self._event_fd)

    @property
    def event_fd(self) -> int:
        return self._event_fd

    def put_event(self, *event: object) -> None:
        self._events.append(event)
        os.eventfd_write(self._event_fd, 1)

    def put_control(self, socket: int, remote: bytes, data: bytes) -> None:
        self._control.append(ControlDatagram(socket, remote, data))
        os.eventfd_write(self._event_fd, 1)

    def drain_events(self) -> list[tuple[object, ...]]:
        events, self._events = self._events, []
        self._update_fd()
        return events

    def drain_control(self, limit: int = 256) -> list[ControlDatagram]:
        drained, self._control = self._control[:limit], self._control[limit:]
        self._update_fd()
        return drained

    def _update_fd(self) -> None:
        if not self._events and not self._control:
            try:
                os.eventfd_read(self._event_fd)
            except BlockingIOError:
                return

    def send_control(
        self,
        socket: int,
        remote: bytes,
        data: bytes,
        ttl: int = 0,
        *,
        source: bytes = b"",
        whole: bool = False,
    ) -> bool:
        if not self.refusing:
            self.sent.append((socket, remote, data))
        return not self.refusing

    def add_peer(
        self, public_key: bytes, *, managed: bool = False, network_secret: bytes | None = None
    ) -> None:
        if public_key in self.allowed_ips:
            raise ValueError("the peer exists")
        self.allowed_ips[public_key] = set()

    def remove_peer(self, public_key: bytes) -> None:
        del self.allowed_ips[public_key]

    def has_peer(self, public_key: bytes) -> bool:
        return public_key in self.allowed_ips

    def add_allowed_ip(self, public_key: bytes, address: bytes, prefix_len: int) -> None:
        self.allowed_ips[public_key].add((address, prefix_len))

    def remove_allowed_ip(self, public_key: bytes, address: bytes, prefix_len: int) -> None:
        self.allowed_ips[public_key].remove((address, prefix_len))

    def set_paths(
        self, public_key: bytes, paths: Sequence[Path], *, mode: int = 0, silence_ns: int = 0
    ) -> None:
        self.paths[public_key] = (list(paths), mode, silence_ns)

    def packets_received(self, public_key: bytes) -> int:
        return 0

    def clear_silence(self, public_key: bytes) -> None:
        self.cleared.append(public_key)

    def relay_open(
        self, opener: tuple[int, bytes], target: tuple[int, bytes], **limits: int
    ) -> tuple[int, int]:
        """Legs in the order of opening; no more than RELAYS_MAX channels."""
        if len(self.relayed) == RELAYS_MAX:
            raise SystemFailure("every relay channel is taken")
        legs = (2 * self.relays_opened, 2 * self.relays_opened + 1)
        self.relays_opened += 1
        self.relayed[legs] = [opener, target]
        self.relay_limits.append(limits)
        return legs

    def relay_move(self, leg: int, client: tuple[int, bytes]) -> None:
        legs = self._legs_of(leg)
        self.relayed[legs][legs.index(leg)] = client

    def relay_close(self, leg: int) -> None:
        del self.relayed[self._legs_of(leg)]

    def relay_limit_channel(self, leg: int, **limits: int) -> None:
        self.relay_limits.append({"leg": leg, **limits})

    def relay_limit(self, **limits: int) -> None:
        self.relay_limits.append(limits)

    def relay_expire(self, silence_ns: int) -> list[tuple[int, int]]:
        ended, self.silent = self.silent, []
        for legs in ended:
            del self.relayed[legs]
        return ended

    def _legs_of(self, leg: int) -> tuple[int, int]:
        for legs in self.relayed:
            if leg in legs:
                return legs
        raise KeyError(leg)

    def links_changed(self) -> None:
        pass

    def sources(self) -> list[tuple[bytes, bytes, bytes]]:
        return []

    def refuse_sources(self, public_key: bytes, sources: Sequence[bytes]) -> None:
        pass

    def forget_sources(self, public_key: bytes | None = None) -> None:
        """Nothing is sent, so nothing is forgotten."""

    def set_keepalive(self, public_key: bytes, seconds: int) -> None:
        self.keepalives[public_key] = seconds

    def peers(self) -> list[PeerStatus]:
        return [
            PeerStatus(key, False, None, 0, received, sent, received, sent, 0, True, [], True)
            for key, (received, sent) in self.traffic.items()
        ]
