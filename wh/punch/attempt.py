"""One attempt of hole punching, seen from one side (docs/protocol.md section 7).

A round: both sides tell where they will send from (OFFER, ANSWER), the offerer says GO, and both send PROBEs.
The methods stand in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Protocol

from wh.engine.commands import Reply, Send
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, MessageReceived, Path
from wh.engine.requests import Answer as Answered
from wh.engine.requests import Request, Requests, Schedule
from wh.engine.timers import Alarms
from wh.nat.reachability import OwnReachability
from wh.nat.sampling import Sample, Sampling
from wh.punch import schedule as punch
from wh.punch.port_search import ManySockets, PortSearch
from wh.punch.prober import Prober
from wh.punch.schedule import Tactic
from wh.wire.address import Address, is_private, is_v4
from wh.wire.candidates import Candidate, CandidateFlag, Mapping, NatProfile
from wh.wire.codec import encode
from wh.wire.messages import Answer, Go, Offer, Ping

OFFER = Schedule((0.5, 1.2), 2.5)
"""An ANSWER may have to wait until the peer has asked a server where its socket is seen."""

FIRST_PING = Schedule((0.4, 1.0), 2.0)
GO_PATIENCE_S = 0.5
"""GO may get lost; PROBEs of the peer, or this time after the ANSWER, are as good."""

GO_DELAY_MAX_S = 2.0
NEXT_OFFER_PATIENCE_S = 3.0
SETTLE_S = 0.15
"""After the first path, for a better one."""

INITIAL_ROUND_TRIP_S = 0.2


class Phase(Enum):
    PREPARING = auto()  # session, sockets, where they are seen
    TELLING = auto()  # our candidates are on their way; the offerer waits for ANSWER, the other for GO
    STARTING = auto()  # both sides know everything; PROBEs go out at an agreed time
    PROBING = auto()
    FOUND = auto()  # waiting for a better path
    OVER = auto()


class Owner(Protocol):
    """Who holds the attempts (wh.punch.punching.Punching)."""

    def may_search(self, peer: Key, now: Instant) -> bool:
        """Whether a search among many ports may begin with that peer: one at a time, and not soon again."""

    def path_found(self, peer: Key, path: Path, rtt_s: float, told: bool, now: Instant) -> None: ...

    def attempt_over(self, attempt: Attempt, reason: str, now: Instant) -> None:
        """reason: why it failed; empty: it did not."""


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What every attempt works with."""

    engine: Engine
    requests: Requests
    reachability: OwnReachability
    observed: Callable[[Key], frozenset[bytes]]
    owner: Owner


class Attempt:
    """number: chosen by who offers. offering: that is us."""

    def __init__(
        self, around: AttemptContext, peer: Key, number: int, channel: Path, *, offering: bool
    ) -> None:
        self.peer = peer
        self.number = number
        self.channel = channel
        self.offering = offering
        self.round = 0
        self.phase = Phase.PREPARING
        self.searching = False
        self._around = around
        self._engine = around.engine
        self._round_trip_s: float | None = None  # through the channel, the shortest seen
        self._own = NatProfile()
        self._theirs = NatProfile()
        self._socket: int | None = None  # fresh, for this round's IPv4; None: the node's own
        self._own_addresses: tuple[Address, ...] = ()
        self._candidates: tuple[Candidate, ...] = ()  # theirs
        self._prober = Prober(around.engine, peer, number, around.observed(peer))
        self._offer: MessageReceived | None = None  # the one that waits for our ANSWER
        self._answer: Answer | None = None  # sent for this round
        self._fresh: list[int] = []
        self._sampling: Sampling | None = None
        self._search: PortSearch | None = None
        self._many: ManySockets | None = None
        self._requests: list[Request] = []
        self._alarms = Alarms(self._engine.timers)

    @property
    def sockets(self) -> tuple[int, ...]:
        """All that this attempt has open, for the owner to close once it is over."""
        return (*self._fresh, *(self._many.sockets if self._many is not None else ()))

    @property
    def awaits_answer(self) -> bool:
        """The peer may not know of this attempt yet."""
        return self.offering and self.phase in (Phase.PREPARING, Phase.TELLING) and not self.round

    @property
    def _tactic(self) -> Tactic:
        return punch.tactic_for(self._own.mapping, self._theirs.mapping)

    # Before the first OFFER

    def start(self, now: Instant) -> None:
        """As the offering side. A PING through the channel makes a session where none is, and tells the round
        trip in any case."""
        self._request(
            self._engine.echo(),
            FIRST_PING,
            self._ping_answered,
            self._ping_failed,
            now,
        )
        if self._engine.peers.obtain(self.peer).session:
            self._prepare(now)

    def _ping_answered(self, answered: Answered, now: Instant) -> None:
        self._note_round_trip(answered.rtt)
        if self.phase is Phase.PREPARING and self._sampling is None:
            self._prepare(now)

    def _ping_failed(self, now: Instant) -> None:
        if self.phase is Phase.PREPARING and self._sampling is None:
            self._end("the peer does not answer through the relay", now)

    def _note_round_trip(self, rtt_s: float) -> None:
        known = self._round_trip_s
        self._round_trip_s = rtt_s if known is None else min(known, rtt_s)

    # Our side of a round: where we will send from

    def _prepare(self, now: Instant) -> None:
        """A round from the second on begins with fresh sockets: what went wrong with the mappings and filters
        of the one before stays behind. Where ports are taken in sequence only a new mapping tells which is
        next, and so every round needs one."""
        self.phase = Phase.PREPARING
        self._own = self._around.reachability.profile
        self._socket = None
        untranslated = self._own.mapping in (Mapping.NONE, Mapping.RANDOM)
        if self._own.mapping != Mapping.SEQUENTIAL and (self.round == 0 or untranslated):
            self._tell(self._around.reachability.reflexive(), now)
            return
        servers = self._around.reachability.witnesses(4)
        self._sampling = Sampling(self._engine, self._around.requests, servers, now, self._sampled)

    def _sampled(self, sample: Sample | None, now: Instant) -> None:
        self._sampling = None
        reflexive = self._around.reachability.reflexive()
        if sample is not None:
            self._fresh.append(sample.socket)
        if sample is not None and sample.observed:
            self._socket = sample.socket
            reflexive = (*sample.observed, *(address for address in reflexive if not is_v4(address)))
        self._tell(reflexive, now)

    def _tell(self, reflexive: Sequence[Address], now: Instant) -> None:
        """Where only a search could help, and none may begin now, no address behind a translation is told: so
        the peer does not begin one either."""
        searches = Mapping.RANDOM in (self._own.mapping, self._theirs.mapping)
        if searches and not self._may_search(now):
            reflexive = ()
        self._own_addresses = tuple(reflexive)
        self.phase = Phase.TELLING
        offered = self._around.reachability.offered(reflexive, lan=self.round == 0)
        if self.offering:
            self._send_offer(offered, now)
        else:
            self._send_answer(offered, now)

    # OFFER, ANSWER, GO: the offering side

    def _send_offer(self, offered: tuple[Candidate, ...], now: Instant) -> None:
        if not offered:
            self._end("no address of ours is worth trying now", now)
            return
        self._request(
            Offer(0, self.number, self.round, self._own, offered),
            OFFER,
            self._answered,
            lambda then: self._end("the peer does not answer OFFER", then),
            now,
        )

    def _answered(self, answered: Answered, now: Instant) -> None:
        answer = answered.message
        if not isinstance(answer, Answer) or (answer.attempt, answer.round) != (self.number, self.round):
            self._end("the peer answered another OFFER", now)
            return
        if not answer.candidates:
            self._end("the peer refused", now)
            return
        self._note_round_trip(answered.rtt)
        self._learn(answer.nat, answer.candidates)
        self._go(now)

    def _go(self, now: Instant) -> None:
        """GO takes half a round trip to the peer: both sides start together, but for the head start."""
        plan = punch.ROUNDS[self.round]
        head_start_s, ours = plan.head_start_s, plan.by_offerer
        delay_ms = round(1000 * head_start_s) if ours else 0
        self._engine.emit(Send(self.peer, self.channel, Go(0, self.number, self.round, delay_ms)))
        half = (self._round_trip_s if self._round_trip_s is not None else INITIAL_ROUND_TRIP_S) / 2
        self._start_at(now.monotonic + half + (0.0 if ours else head_start_s))

    # The same: the answering side

    def offered(self, event: MessageReceived, offer: Offer, now: Instant) -> None:
        """An OFFER of this attempt. Where it is repeated, so is the ANSWER."""
        repeated = self._offer is not None and offer.round == self.round
        if repeated and self._answer is not None:
            self._reply(event, self._answer)
        if repeated or not self.round <= offer.round < len(punch.ROUNDS) or self.phase is Phase.FOUND:
            return
        self._stop_round()
        self.round, self._offer, self._answer = offer.round, event, None
        self._learn(offer.nat, offer.candidates)
        self._prepare(now)

    def _send_answer(self, offered: tuple[Candidate, ...], now: Instant) -> None:
        event = self._offer
        if event is None or not isinstance(event.message, Offer):
            return
        self._answer = Answer(event.message.request_id, self.number, self.round, self._own, offered)
        self._reply(event, self._answer)
        if not offered:
            self._end("no address of ours is worth trying now", now)
            return
        patience_s = GO_PATIENCE_S if self._tactic is Tactic.ROUNDS else NEXT_OFFER_PATIENCE_S
        self._alarms.add(now.monotonic + patience_s, self._go_missing)

    def _reply(self, event: MessageReceived, answer: Answer) -> None:
        """As many candidates as fit into an answer that is no longer than the peer may be sent here."""
        while answer.candidates and len(encode(answer)) > event.capacity:
            answer = Answer(*_fields(answer)[:-1], answer.candidates[:-1])
        self._engine.emit(Reply(event.reply, answer))

    def go(self, message: Go, now: Instant) -> None:
        if self.offering or message.round != self.round or self.phase is not Phase.TELLING:
            return
        self._start_at(now.monotonic + min(message.delay / 1000, GO_DELAY_MAX_S))

    def _go_missing(self, now: Instant) -> None:
        """A search is not begun without GO: it is dear, and the offerer may have found it hopeless."""
        if self.phase is not Phase.TELLING:
            return
        if self._tactic is Tactic.ROUNDS:
            self._start_round(now)
        else:
            self._end("the peer did not say GO", now)

    # PROBEs

    def _learn(self, nat: NatProfile, candidates: Iterable[Candidate]) -> None:
        """What the peer says of itself. Nothing of it is believed but that it may be tried."""
        self._theirs = nat
        self._candidates = tuple(each for each in candidates if self._may_probe(each.address))

    def _may_probe(self, address: Address) -> bool:
        own = address in self._own_addresses or address in self._around.reachability.reflexive()
        return not own and self._engine.addressing.path_to(address) is not None

    def _path_to(self, address: Address) -> Path | None:
        """From the fresh socket, but for networks that lie before the NAT."""
        path = self._engine.addressing.path_to(address)
        if path is None or self._socket is None or not is_v4(address) or is_private(address):
            return path
        return Path(self._socket, address)

    def _start_at(self, when: float) -> None:
        self.phase = Phase.STARTING
        self._alarms.add(when, self._start_round)

    def _start_round(self, now: Instant) -> None:
        if self.phase not in (Phase.TELLING, Phase.STARTING):
            return
        self.phase = Phase.PROBING
        aims = punch.aims(self._candidates, self._theirs, self._tactic)
        predicted, told = ([path for path in map(self._path_to, each) if path is not None] for each in aims)
        self._prober.aim(predicted, told, self._around.observed(self.peer))
        self._prober.shoot(0, punch.ROUNDS[self.round].opener_ttl, now)
        for number, at_s in enumerate(punch.SHOTS_AT_S[1:], 1):
            self._alarms.add(now.monotonic + at_s, partial(self._prober.shoot, number, 0))
        if not self._start_search(now):
            several = self._tactic is Tactic.ROUNDS
            lasts_s = punch.ROUNDS[self.round].lasts_s if several else punch.SINGLE_ROUND_S
            self._alarms.add(now.monotonic + lasts_s, self._round_over)

    def probed(self, event: MessageReceived, number: int, now: Instant) -> None:
        """A PROBE of the peer arrived, of this round or of one before: either way it opens a path."""
        self._prober.acknowledge(event, number)
        if self.phase is Phase.STARTING or (self.phase is Phase.TELLING and not self.offering):
            self._start_round(now)
        if self.phase is not Phase.FOUND:
            self._prober.probe_back(event.path, now)

    def acknowledged(self, number: int, now: Instant) -> None:
        answered = self._prober.answered(number, now)
        if answered is None or self.phase is Phase.OVER:
            return
        if self.phase is not Phase.FOUND:
            self.phase = Phase.FOUND
            self._stop_search()
            self._alarms.add(now.monotonic + SETTLE_S, lambda then: self._end("", then))
        path, rtt_s = answered
        self._around.owner.path_found(self.peer, path, rtt_s, self._prober.was_told(path), now)

    def unreachable(self, path: Path) -> None:
        """The system refuses to send there."""
        self._prober.unreachable(path)

    # Searching among many ports

    def _start_search(self, now: Instant) -> bool:
        """Whether one began; the round then lasts as long as it."""
        begin = {Tactic.OPEN_SOCKETS: self._open_sockets, Tactic.SEARCH_PORTS: self._search_ports}
        if self.round or self._tactic not in begin or not begin[self._tactic](now):
            return False
        self.searching = True
        self._alarms.add(now.monotonic + punch.SEARCH_S, self._round_over)
        return True

    def _open_sockets(self, now: Instant) -> bool:
        vouched = self._around.observed(self.peer)
        known = [each for each in self._candidates if each.address[:16] in vouched]
        known.sort(key=lambda each: not each.flags & CandidateFlag.REFLEXIVE)
        if not known or not self._may_search(now):
            return False
        self._many = ManySockets(
            self._engine,
            self._around.requests,
            known[0].address,
            self._around.reachability.witnesses(4),
            self._prober.probe_vouched,
            lambda then: self._end("our NAT suffers from so many connections", then),
        )
        self._many.start(now)
        return True

    def _search_ports(self, now: Instant) -> bool:
        announced = any(each.flags & CandidateFlag.REFLEXIVE for each in self._candidates)
        ips = sorted(ip for ip in self._around.observed(self.peer) if is_v4(ip))
        path = self._path_to(ips[0] + b"\x04\x00") if ips else None
        if path is None or not announced or not self._may_search(now):
            return False
        self._search = PortSearch(self._engine, path.socket, ips, self._prober.probe_vouched)
        self._search.start(now)
        return True

    def _may_search(self, now: Instant) -> bool:
        return self._around.owner.may_search(self.peer, now)

    def _stop_search(self) -> None:
        if self._search is not None:
            self._search.stop()
        if self._many is not None:
            self._many.stop()

    # The end of a round, and of the attempt

    def _round_over(self, now: Instant) -> None:
        if self.phase is not Phase.PROBING:
            return
        last = self._tactic is not Tactic.ROUNDS or self.round + 1 == len(punch.ROUNDS)
        if last:
            self._end(self._why_failed(), now)
        elif self.offering:
            self._stop_round()
            self.round += 1
            self._prepare(now)
        else:
            at_round = self.round
            self._alarms.add(
                now.monotonic + NEXT_OFFER_PATIENCE_S, lambda then: self._no_offer(at_round, then)
            )

    def _no_offer(self, at_round: int, now: Instant) -> None:
        if self.phase is Phase.PROBING and self.round == at_round:
            self._end("the peer gave up", now)

    def _why_failed(self) -> str:
        if self._tactic is Tactic.LOCAL_ONLY:
            return "both NATs give each connection another port"
        if self._tactic is Tactic.ROUNDS:
            return "no PROBE was answered"
        return "no port was hit" if self.searching else "a search for the port is due later"

    def _stop_round(self) -> None:
        self._alarms.cancel()
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None

    def _end(self, reason: str, now: Instant) -> None:
        if self.phase is not Phase.OVER:
            self.stop()
            self._around.owner.attempt_over(self, reason, now)

    def stop(self) -> None:
        """Nothing more happens. The owner closes `sockets`."""
        self.phase = Phase.OVER
        self._stop_round()
        self._stop_search()
        for request in self._requests:
            self._around.requests.cancel(request)

    # Helpers

    def _request(
        self,
        message: Ping | Offer,
        schedule: Schedule,
        on_answer: Callable[[Answered, Instant], None],
        on_failure: Callable[[Instant], None],
        now: Instant,
    ) -> None:
        """Silence says nothing of the session: relays get lost, and servers are slow."""
        self._requests.append(
            self._around.requests.start(
                self.peer,
                [self.channel],
                message,
                now,
                on_answer=on_answer,
                on_failure=on_failure,
                schedule=schedule,
                speculative=True,
            )
        )


def _fields(answer: Answer) -> tuple[int, int, int, NatProfile, tuple[Candidate, ...]]:
    return answer.request_id, answer.attempt, answer.round, answer.nat, answer.candidates
