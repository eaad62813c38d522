"""Port mappings: which to ask gateways for, by which protocol, and when again (docs/protocol.md section 6).

Sans-IO: what happened and the time in, commands and the next deadline out. Times are monotonic seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from wh.engine.limits import RateLimit
from wh.engine.randomness import Randomness
from wh.wire.address import Address, is_v4, port_of

LIFETIME_S = 7200
"""What is asked for (RFC 6886 3.3)."""
LIFETIME_MAX_S = 86_400
LIFETIME_MIN_S = 8.0
"""What ends sooner cannot be kept."""
RENEW_FRACTION = (0.5, 0.625)
RENEW_MIN_S = 4.0
"""RFC 6887 11.2.1: at half life, a little later at random; never more often than each 4 s."""
RENEW_AGAIN_S = 60.0
"""After a renewal that failed at the latest: the gateway may be about to restart."""
IGD_RENEW_S = 600.0
"""Not every UPnP gateway tells of a restart, so a mapping is simply made again."""
CHECK_S = 60.0
"""Between questions whose answers show a gateway's epoch."""
RETRY_S = (60.0, 300.0, 900.0)
REFUSAL_MAX_S = 3600.0
IGD_GRACE_S = 0.5
"""How long UPnP waits for PCP and NAT-PMP, which answer within milliseconds where they are there."""
REMAPS_BURST = 3
REMAP_LATER_S = 120.0
"""For a gateway that claims with every answer that it has lost its state."""
PORT_DISTANCE = 10_000


class Protocol(StrEnum):
    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    IGD = "UPnP IGD"


class Wanted(NamedTuple):
    """A mapping to this address of ours at the gateway. transport: "udp" or "tcp"."""

    transport: str
    internal: Address


class Granted(NamedTuple):
    """lifetime_s: inf: until it is withdrawn."""

    external: Address
    lifetime_s: float


class Outcome(NamedTuple):
    """What a protocol made of the last question. external: what the gateway is called outside, as it says;
    port 0 where it was not asked for one. trouble: empty where it did what was asked."""

    external: Address | None
    trouble: str = ""

    @property
    def found(self) -> bool:
        return self.external is not None or bool(self.trouble)


@dataclass(frozen=True, slots=True)
class Look:
    """See whether the protocol is there; found() or failed() follows."""

    ticket: int
    protocol: Protocol
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Map:
    """granted() or failed() follows. suggested: the external address to ask for; an address of zeros: any."""

    ticket: int
    protocol: Protocol
    wanted: Wanted
    suggested: Address
    lifetime_s: int = LIFETIME_S


@dataclass(frozen=True, slots=True)
class Unmap:
    """Nobody waits for the result."""

    protocol: Protocol
    wanted: Wanted
    external: Address


@dataclass(frozen=True, slots=True)
class Check:
    """Have the gateway show its epoch; state_lost() follows where it was set back. family: 4 or 6."""

    protocol: Protocol
    family: int


Command = Look | Map | Unmap | Check


@dataclass(slots=True)
class Held:
    """A mapping that a gateway keeps for us."""

    protocol: Protocol
    wanted: Wanted
    external: Address
    expires_at: float


@dataclass(slots=True, eq=False)
class _Track:
    """One way to one wanted mapping: protocols that are tried one after the other.

    due_at: when to ask next; inf: when something else happens. ticket: of the command in flight. found: the
    protocol is known to be there, where it needs to be looked for first."""

    wanted: Wanted
    protocols: tuple[Protocol, ...]
    due_at: float
    rival: _Track | None = None
    position: int = 0
    ticket: int | None = None
    found: bool = False
    failures: int = 0
    held: Held | None = None
    last_external: Address | None = None

    @property
    def protocol(self) -> Protocol:
        return self.protocols[self.position]

    @property
    def is_idle(self) -> bool:
        return self.ticket is None


class PortMappings:
    """For IPv4, PCP and after it NAT-PMP, and UPnP IGD beside them, which maps only while they do not. For
    IPv6, where it opens the gateway's firewall, PCP."""

    def __init__(self, rng: Randomness, wanted: Iterable[Wanted], now: float) -> None:
        self._rng = rng
        self._tracks = [track for each in wanted for track in _tracks_for(each, now)]
        self._commands: list[Command] = []
        self._last_ticket = 0
        self._check_at: dict[tuple[Protocol, int], float] = {}
        self._remaps = RateLimit(REMAPS_BURST, REMAP_LATER_S, entries_max=8)
        self.outcomes: dict[tuple[Protocol, int], Outcome] = {}

    # What is known

    def held(self) -> list[Held]:
        """At most one for each wanted mapping, but for the moment between two protocols."""
        return [track.held for track in self._tracks if track.held is not None]

    def next_deadline(self) -> float:
        """inf: nothing is to do before something happens."""
        due = [track.due_at for track in self._tracks if track.is_idle]
        expiries = [held.expires_at for held in self.held()]
        return min((*due, *expiries, *self._check_at.values()), default=math.inf)

    # What happens

    def tick(self, now: float) -> list[Command]:
        """What is to be done now; call it after each of the other calls, and at next_deadline()."""
        for track in self._tracks:
            if track.held is not None and track.held.expires_at <= now:
                self._lost(track, now)
            if track.is_idle and track.due_at <= now:
                self._ask(track)
        self._check(now)
        commands, self._commands = self._commands, []
        return commands

    def found(self, ticket: int, external: Address, now: float) -> None:
        """Answer to Look."""
        track = self._answered(ticket)
        if track is None:
            return
        track.found = True
        self.outcomes[track.protocol, _family(track.wanted)] = Outcome(external)
        rival = track.rival
        if rival is not None and rival.held is not None:
            track.due_at = math.inf
        else:
            track.due_at = now if rival is None or rival.is_idle else now + IGD_GRACE_S

    def granted(self, ticket: int, granted: Granted, now: float) -> None:
        """Answer to Map."""
        if granted.lifetime_s < LIFETIME_MIN_S:
            self.failed(ticket, "its mappings end too soon", now)
            return
        track = self._answered(ticket)
        if track is None:
            return
        protocol, wanted = track.protocol, track.wanted
        self.outcomes[protocol, _family(wanted)] = Outcome(granted.external)
        if protocol is Protocol.IGD and track.rival is not None and track.rival.held is not None:
            self._commands.append(Unmap(protocol, wanted, granted.external))
            track.due_at = math.inf
            return
        lifetime = min(granted.lifetime_s, LIFETIME_MAX_S)
        expires_at = math.inf if math.isinf(granted.lifetime_s) else now + lifetime
        track.held = Held(protocol, wanted, granted.external, expires_at)
        track.last_external = granted.external
        track.failures = 0
        pause = max(lifetime * self._rng.uniform(*RENEW_FRACTION), RENEW_MIN_S)
        track.due_at = now + (min(pause, IGD_RENEW_S) if protocol is Protocol.IGD else pause)
        self._check_at.setdefault((protocol, _family(wanted)), now + CHECK_S)
        if protocol is not Protocol.IGD:
            self._yield(track.rival)

    def failed(self, ticket: int, trouble: str, now: float, *, retry_after_s: float = 0.0) -> None:
        """Answer to Look and Map. trouble: what the gateway said; empty: nothing, or the protocol is not
        there."""
        track = self._answered(ticket)
        if track is None:
            return
        self.outcomes[track.protocol, _family(track.wanted)] = Outcome(None, trouble)
        if track.held is not None:
            remaining = track.held.expires_at - now
            track.due_at = now + min(max(remaining / 2, RENEW_MIN_S), RENEW_AGAIN_S)
            return
        if track.position + 1 < len(track.protocols):
            track.position += 1
            track.due_at = now
            return
        pause = RETRY_S[min(track.failures, len(RETRY_S) - 1)] * self._rng.uniform(0.9, 1.1)
        track.due_at = now + max(pause, min(retry_after_s, REFUSAL_MAX_S))
        track.failures += 1
        self._begin_again(track)

    def state_lost(self, protocol: Protocol, family: int, now: float) -> None:
        """The gateway has restarted (RFC 6886 3.6, RFC 6887 8.5): what it held for us is to be made again."""
        due_at = now if self._remaps.allow((protocol, family), now) else now + REMAP_LATER_S
        for track in self._tracks:
            if track.held is not None and track.protocol is protocol and _family(track.wanted) == family:
                track.due_at = min(track.due_at, due_at)

    def check_soon(self, family: int, now: float) -> None:
        """A gateway seems to have announced something, which anybody on its link can do."""
        for which in self._check_at:
            if which[1] == family:
                self._check_at[which] = now

    def withdraw(self) -> list[Command]:
        """Give back all that is held; nothing is asked for any more."""
        commands: list[Command] = [Unmap(held.protocol, held.wanted, held.external) for held in self.held()]
        self._tracks = []
        self._check_at = {}
        return commands

    # Tracks

    def _answered(self, ticket: int) -> _Track | None:
        for track in self._tracks:
            if track.ticket == ticket:
                track.ticket = None
                return track
        return None

    def _ask(self, track: _Track) -> None:
        rival = track.rival
        if track.protocol is Protocol.IGD and rival is not None and rival.held is not None and track.found:
            track.due_at = math.inf
            return
        self._last_ticket += 1
        track.ticket = self._last_ticket
        if track.protocol is Protocol.IGD and not track.found:
            self._commands.append(Look(track.ticket, track.protocol, track.wanted))
        else:
            suggested = track.last_external or suggestion(track.wanted)
            self._commands.append(Map(track.ticket, track.protocol, track.wanted, suggested))

    def _yield(self, rival: _Track | None) -> None:
        """A better protocol has the mapping now: UPnP gives its own back."""
        if rival is None or rival.held is None:
            return
        self._commands.append(Unmap(rival.held.protocol, rival.wanted, rival.held.external))
        rival.held = None
        rival.due_at = math.inf

    def _lost(self, track: _Track, now: float) -> None:
        track.held = None
        track.due_at = now
        self._begin_again(track)
        if track.rival is not None and math.isinf(track.rival.due_at):
            track.rival.due_at = now

    def _begin_again(self, track: _Track) -> None:
        track.position = 0
        track.found = False

    def _check(self, now: float) -> None:
        used = {(held.protocol, _family(held.wanted)) for held in self.held()}
        for which in [which for which in self._check_at if which not in used]:
            del self._check_at[which]
        for which, at in self._check_at.items():
            if at <= now:
                self._check_at[which] = now + CHECK_S
                self._commands.append(Check(*which))


def suggestion(wanted: Wanted) -> Address:
    """Never our own UDP port, for IPv4: a NAT that preserves ports gives it to what we send too, and then a
    KNOCK from somebody that we write to proves nothing. A pinhole has no other address than ours."""
    if not is_v4(wanted.internal):
        return wanted.internal
    port = port_of(wanted.internal)
    if wanted.transport == "udp":
        port += PORT_DISTANCE if port + PORT_DISTANCE <= 0xFFFF else -PORT_DISTANCE
    return bytes(10) + b"\xff\xff" + bytes(4) + port.to_bytes(2, "big")


def _tracks_for(wanted: Wanted, now: float) -> Iterator[_Track]:
    if not is_v4(wanted.internal):
        yield _Track(wanted, (Protocol.PCP,), now)
        return
    first = _Track(wanted, (Protocol.PCP, Protocol.NAT_PMP), now)
    second = _Track(wanted, (Protocol.IGD,), now, rival=first)
    first.rival = second
    yield first
    yield second


def _family(wanted: Wanted) -> int:
    return 4 if is_v4(wanted.internal) else 6
