"""What PCP and NAT-PMP share: questions on UDP port 5351 (RFC 6887, section 19), epochs, refusals.

A reply names the time since which the gateway's tables are as they are; a restart shows in it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from wh.nat.port_mapping import Granted
from wh.net.links.rtnetlink import Gateway
from wh.net.mapping.gateway import Refused, VersionRefused, ask
from wh.net.opening import closed_on_error
from wh.wire.address import Address, is_usable

PORT = 5351
SENDS_AT = (0.0, 0.25, 0.75)
GIVE_UP_AFTER_S = 1.75
"""The schedule of RFC 6886 3.1, cut short: a gateway is one hop away, and silence is the usual answer."""
DATAGRAMS_MAX = 32

SUCCESS = 0
UNSUPPORTED_VERSION = 1
"""Results that both protocols know."""


class HasEpoch(Protocol):
    @property
    def epoch(self) -> int: ...


Reply = TypeVar("Reply", bound=HasEpoch)


class Epoch:
    """Whether a gateway has kept its mappings since its last word."""

    def __init__(self, was_reset: Callable[[float, float], bool]) -> None:
        """was_reset: see MappingClient."""
        self._was_reset = was_reset
        self._last: tuple[int, float] | None = None

    def lost(self, epoch: int, now: float) -> bool:
        """Whether what was mapped before is gone. now: monotonic seconds."""
        last, self._last = self._last, (epoch, now)
        return last is not None and self._was_reset(epoch - last[0], now - last[1])


class MappingClient:
    """on_state_lost is called, before a call returns, where a reply shows that mappings are gone. All raise
    GatewayError."""

    def __init__(
        self,
        gateway: Gateway,
        on_state_lost: Callable[[], None],
        *,
        port: int = PORT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._on_state_lost = on_state_lost
        self._port = port
        self._clock = clock
        self._epoch = Epoch(self.was_reset)

    @staticmethod
    def was_reset(theirs_s: float, ours_s: float) -> bool:
        """Whether mappings are gone, as the protocol judges it, where a gateway's epoch moved on by theirs_s
        while our clock did by ours_s."""
        raise NotImplementedError

    async def _exchange(self, request: bytes, parse: Callable[[bytes], Reply | None]) -> Reply:
        """parse: None, or BadReply, for a datagram that is not the answer."""
        reply = await ask(
            lambda: _connect(self._gateway, self._port),
            lambda transport: transport.sendto(request),
            lambda data, _: parse(data),
            sends_at=SENDS_AT,
            give_up_after_s=GIVE_UP_AFTER_S,
            datagrams_max=DATAGRAMS_MAX,
            errors_end_it=True,
        )
        if self._epoch.lost(reply.epoch, self._clock()):
            self._on_state_lost()
        return reply


def grant(external: Address, lifetime_s: int) -> Granted:
    """Raises Refused."""
    if not lifetime_s or not is_usable(external):
        raise Refused("granted nothing that can be used")
    return Granted(external, lifetime_s)


def refusal(result: int, reasons: Mapping[int, str], retry_after_s: float = 0.0) -> Refused:
    """What a result that is not SUCCESS means."""
    kind = VersionRefused if result == UNSUPPORTED_VERSION else Refused
    return kind(reasons.get(result, f"result {result}"), retry_after_s)


def _connect(gateway: Gateway, port: int) -> socket.socket:
    """From the address that the mapping is for; only the gateway's datagrams come in."""
    v6 = gateway.address.version == 6
    opened = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    with closed_on_error(opened) as connected:
        connected.setblocking(False)
        connected.bind((str(gateway.source), 0))
        scope = (0, gateway.ifindex) if v6 else ()
        connected.connect((str(gateway.address), port, *scope))
    return connected
