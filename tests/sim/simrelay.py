"""The forwarder of a relay in the simulation: what whcore's does, for datagrams of control sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simnet import SimNetwork
from wh.engine.commands import CloseRelay, LimitRelay, MoveRelay, OpenRelay
from wh.engine.events import Event, Path, RelayEnded, RelayOpened
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

    def execute(self, command: OpenRelay | MoveRelay | LimitRelay | CloseRelay) -> None:
        match command:
            case OpenRelay(request, opener, target, trusted=trusted):
                legs = (Leg(self._new_id(), opener), Leg(self._new_id(), target))
                channel = Channel(legs, self._network.time, trusted)
                for leg in legs:
                    self._by_leg[leg.id] = channel
                opened = RelayOpened(request, channel.ids)
                self._network.call_later(0, lambda: self._handle(opened))
                self._network.call_later(SILENCE_S, lambda: self._expire(channel))
            case MoveRelay(leg=moved, path=path):
                for leg in self._by_leg[moved].legs if moved in self._by_leg else ():
                    if leg.id == moved:
                        leg.path = path
            case LimitRelay(leg=limited, trusted=trusted):
                if limited in self._by_leg:
                    self._by_leg[limited].trusted = trusted
            case CloseRelay(leg=closed):
                if closed in self._by_leg:
                    self._remove(self._by_leg[closed])

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
