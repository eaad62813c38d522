"""The forwarder of a relay in the simulation: what whcore's does, for datagrams of control sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simnet import SimNetwork
from wh.engine.commands import CloseRelay, LimitRelay, MoveRelay, OpenRelay, SetRelayLimits
from wh.engine.events import Event, Path, RelayEnded
from wh.node.executor import RelayChange
from wh.wire.address import Address

SILENCE_S = 120.0


@dataclass
class Leg:
    id: int
    path: Path


@dataclass
class Channel:
    """legs: the opener's, the target's."""

    legs: tuple[Leg, Leg]
    last_at: float
    trusted: bool
    answered: bool = False
    forwarded: list[object] = field(default_factory=list)

    @property
    def ids(self) -> tuple[int, int]:
        return self.legs[0].id, self.legs[1].id


class SimRelay:
    """Forwards by (leg, where it comes from); what matches nothing is dropped and counted."""

    def __init__(self, network: SimNetwork, handle: Callable[[Event], None]) -> None:
        self._network = network
        self._handle = handle
        self._by_leg: dict[int, Channel] = {}
        self.unknown = 0
        self.wrong_source = 0

    @property
    def channels(self) -> list[Channel]:
        return list({id(channel): channel for channel in self._by_leg.values()}.values())

    def open(self, command: OpenRelay) -> tuple[int, int]:
        legs = (Leg(self._new_id(), command.opener), Leg(self._new_id(), command.target))
        channel = Channel(legs, self._network.time, command.trusted)
        for leg in legs:
            self._by_leg[leg.id] = channel
        self._network.call_later(SILENCE_S, lambda: self._expire(channel))
        return channel.ids

    def change(self, command: RelayChange) -> None:
        """Of rates there is nothing in a simulation."""
        if isinstance(command, SetRelayLimits) or command.leg not in self._by_leg:
            return
        channel = self._by_leg[command.leg]
        match command:
            case MoveRelay(moved, path):
                channel.legs[channel.ids.index(moved)].path = path
            case LimitRelay(trusted=trusted):
                channel.trusted = trusted
            case CloseRelay():
                self._remove(channel)

    def forward(self, leg_id: int, source: Address, datagram: object) -> Leg | None:
        """Where a datagram goes that came with this leg's id; None: it is dropped."""
        channel = self._by_leg.get(leg_id)
        if channel is None:
            self.unknown += 1
            return None
        side = channel.ids.index(leg_id)
        if channel.legs[side].path.remote != source:
            self.wrong_source += 1
            return None
        channel.last_at = self._network.time
        channel.forwarded.append(datagram)
        channel.answered |= side == 1
        return channel.legs[1 - side]

    def _new_id(self) -> int:
        return 1 + self._network.rng.randrange(0x7FFF_FFFF)

    def _remove(self, channel: Channel) -> None:
        for leg in channel.ids:
            del self._by_leg[leg]

    def _expire(self, channel: Channel) -> None:
        left_s = channel.last_at + SILENCE_S - self._network.time
        if channel.ids[0] not in self._by_leg:
            return
        if left_s > 0:
            self._network.call_later(left_s, lambda: self._expire(channel))
        else:
            self._remove(channel)
            self._handle(RelayEnded((channel.ids,)))
