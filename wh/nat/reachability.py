"""Finding out how others see us and whether they can reach us (docs/protocol.md section 6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum

from wh.dht.kademlia import Kademlia
from wh.dht.table.contacts import TrackedContact
from wh.engine.core import Engine
from wh.engine.events import Instant, Key, KnockReceived, PortMapping
from wh.engine.limits import Level, RateLimit, RecentlySeen, Shares
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Requests, Schedule
from wh.engine.timers import Alarm
from wh.nat.behavior import (
    AGREEMENT,
    ANSWERS_WANTED,
    ENDPOINT_DEPENDENT,
    WITNESSES_MAX,
    Heard,
    NatBehaviour,
    Observations,
    PortUse,
    network_of,
)
from wh.nat.candidates import offered_candidates, own_candidates
from wh.nat.hairpin import Hairpin
from wh.nat.mapped_ports import MappedPorts
from wh.nat.proofs import Proofs
from wh.nat.second_socket import SecondSocket
from wh.nat.silence import UdpSilence
from wh.wire.address import Address, is_private, is_v4, port_of
from wh.wire.candidates import Candidate, Filtering, Mapping, NatProfile
from wh.wire.messages import Capability, Ping, PingWant, Pong

CHECK_S = 300.0
FIRST_CHECK_S = 1.0
MAPPING_CHECK_S = 6.0
"""Between KNOCKs asked for at a mapped address; a server does one node the favour once in 5 s."""
ASK = Schedule((0.4,), 1.0)
WRITTEN_LIFETIME_S = 600.0
"""A KNOCK from an address that we wrote to this recently proves nothing: our own packet opened the way."""

KNOCKS_EXPECTED_MAX = 16
KNOCK_PATIENCE_S = 3.0
PUNCH_CHECK_S = 60.0
COMPARE_AFTER_S = 0.2
REFLEXIVE_MAX = 2
"""Of one family: more than one only while the mapping is unknown, or endpoint-dependent."""

DOUBTS_OF_NETWORK = Level(16, 32, 2, 120.0)
DOUBTS_BURST, DOUBTS_INTERVAL_S = 8, 60.0
"""How often a witness that sees us elsewhere than before makes us ask the others."""

COMPARE_INTERVAL_S = 60.0
"""Between two measurements that only follow from what witnesses say."""


class Mode(StrEnum):
    """What the operator says of our own reachability (`wh up ... mode M`)."""

    UNKNOWN = "unknown"  # find out
    DIRECT = "direct"  # reachable: a server at once, until KNOCKs of three networks stay out
    NAT = "nat"  # never a server


class OwnReachability:
    """changed is called whenever the candidates or the proof may be others than before."""

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        kademlia: Kademlia,
        mode: Mode,
        changed: Callable[[Instant], None],
    ) -> None:
        self.mode = mode
        self.bootstrap = False  # the network file calls us one
        self.relays = False  # the operator lets us relay
        self.file_addresses: tuple[Address, ...] = ()  # our own endpoint, as the network file says
        self.file_addresses_of: Callable[[Key], tuple[Address, ...]] = lambda key: ()  # of others
        self.file_servers: frozenset[Key] = frozenset()  # its bootstraps
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._changed = changed
        self._observations = {4: Observations(), 6: Observations()}
        self._expected: OrderedDict[bytes, Address] = (
            OrderedDict()
        )  # nonce -> address that is to be knocked at
        self._written = RecentlySeen(WRITTEN_LIFETIME_S)
        self._mapped = MappedPorts()
        self._proofs = Proofs(self._observations, self._mapped)
        self._hairpin = Hairpin(engine)
        self._second = SecondSocket(engine, requests, self._measured)
        self._silence = UdpSilence()
        self._unknocked: dict[int, set[bytes]] = {4: set(), 6: set()}  # networks whose dial-back never came
        self._doubts = _new_doubts()
        self._compared = RateLimit(1, COMPARE_INTERVAL_S)  # by family
        self._next = Alarm(engine.timers)
        self._checked_at = float("-inf")
        requests.answer_listeners.append(self._answered)
        requests.silence_listeners.append(self._unanswered)

    # What is known

    @property
    def proved(self) -> bool:
        """Whether others can open a path to us: then we are a server."""
        if self.mode is Mode.NAT:
            return False
        return self._declared_direct or self.bootstrap or bool(self._proofs)

    @property
    def _declared_direct(self) -> bool:
        """The operator says so, and no KNOCK that was to come stayed out."""
        if self.mode is not Mode.DIRECT:
            return False
        kept_out = any(len(networks) >= ANSWERS_WANTED for networks in self._unknocked.values())
        return bool(self._proofs) or not kept_out

    @property
    def capabilities(self) -> int:
        if not self.proved:
            return 0
        return int(Capability.SERVER | Capability.RELAY if self.relays else Capability.SERVER)

    @property
    def translated(self) -> bool | None:
        """Whether a NAT changes our address in some family; None before anybody told how he sees us."""
        behaviours = self.behaviours()
        return any(each.mapping is not Mapping.NONE for each in behaviours) if behaviours else None

    def candidates(self) -> tuple[Candidate, ...]:
        own = dict.fromkeys((*self.file_addresses, *self._engine.addressing.publishable()))
        declared = self._declared_direct or (self.bootstrap and self.mode is not Mode.NAT)
        return own_candidates(
            tuple(own),
            self.behaviours(),
            self._proofs,
            declared_direct=declared,
            mapped=self._mapped_addresses(),
        )

    @property
    def proved_mappings(self) -> tuple[Address, ...]:
        """Where a KNOCK came through a gateway's mapping."""
        return tuple(address for address in self._mapped_addresses() if address in self._proofs)

    def outer_tcp_port(self, port: int, asker: Address) -> int:
        """What to tell a node at that address of a TCP port that we listen on."""
        return self._mapped.outer_tcp_port(port, _family(asker))

    @property
    def hairpinning(self) -> bool | None:
        """Whether our NAT sends back what we send to ourselves from outside; None: not known."""
        return self._hairpin.works

    @property
    def udp_blocked(self) -> bool:
        """Servers were asked over UDP, and none answers."""
        return self._silence.blocked

    def behaviours(self) -> list[NatBehaviour]:
        """One for each address family that somebody saw us on."""
        found = []
        for family, observations in self._observations.items():
            observed = tuple(observations.addresses())
            use = self._port_use(family)
            if use.mapping is Mapping.NONE:
                observed = tuple(filter(self._engine.addressing.is_local, observed))
            if observed:
                found.append(NatBehaviour(use.mapping, self._filtering(observed), observed, use.step))
        return found

    @property
    def profile(self) -> NatProfile:
        """Of IPv4 where anybody saw us there: that is where NATs are."""
        behaviours = self.behaviours()
        return behaviours[0].profile if behaviours else NatProfile()

    def reflexive(self) -> tuple[Address, ...]:
        """Where servers see the node's own sockets behind translations."""
        found = [each.observed for each in self.behaviours() if each.mapping is not Mapping.NONE]
        return tuple(address for observed in found for address in observed[:REFLEXIVE_MAX])

    def offered(self, reflexive: Iterable[Address], *, lan: bool) -> tuple[Candidate, ...]:
        """The candidates of an OFFER. lan: with private addresses, for the first round."""
        local = self._engine.addressing.offerable()
        proved = [*self._proofs, *(self.file_addresses if self.proved else ())]
        near = [address for address in local if lan or not is_private(address)]
        return offered_candidates(proved, self._mapped_addresses(), reflexive, near)

    def _port_use(self, family: int) -> PortUse:
        """A second socket's verdict holds where the first one's answers differ, and where they are too few: a
        NAT that gives each server another port also forgets them one by one."""
        mapping = self._observations[family].mapping(self._engine.addressing.local)
        verdict = self._second.verdict(family)
        if verdict is not None and mapping in (Mapping.RANDOM, Mapping.UNKNOWN):
            return verdict
        return PortUse(mapping)

    def _filtering(self, observed: Collection[Address]) -> Filtering:
        if any(address in self._proofs for address in observed):
            return Filtering.ENDPOINT_INDEPENDENT
        families = {_family(address) for address in observed}
        filtered = any(len(self._unknocked[family]) >= ANSWERS_WANTED for family in families)
        return Filtering.ADDRESS_DEPENDENT if filtered else Filtering.UNKNOWN

    def __str__(self) -> str:
        return "; ".join(map(str, self.behaviours()))

    # What happens

    def restart(self, now: Instant) -> None:
        """Our addresses changed: what was seen before says nothing."""
        for observations in self._observations.values():
            observations.clear()
        self._proofs.clear()
        self._second.clear()
        self._doubts, self._compared = _new_doubts(), RateLimit(1, COMPARE_INTERVAL_S)
        self._silence.restart()
        for unknocked in self._unknocked.values():
            unknocked.clear()
        self._mapped.restart()
        self._hairpin.restart()
        self._changed(now)
        self.check_soon(now)

    def mappings_changed(self, mappings: Iterable[PortMapping], now: Instant) -> None:
        """What a gateway does no more is not published any more; what is new counts once a KNOCK came."""
        before = self._mapped_addresses()
        if not self._mapped.set(mappings):
            return
        kept = {*self._mapped_addresses(), *self._observed()}
        for address in before:
            if address not in kept:
                self._proofs.discard(address)
        self._changed(now)
        self.check_soon(now)

    def check_soon(self, now: Instant) -> None:
        """Ask again in a moment, unless it is about to happen anyway."""
        self._schedule(now.monotonic + FIRST_CHECK_S)

    def servers_changed(self, now: Instant) -> None:
        """There are new witnesses; they matter while there are too few."""
        for family, words in self._observations.items():
            few = len(words) < ANSWERS_WANTED
            if few and len(words) < len(self.witnesses(family)):
                self.check_soon(now)

    def punch_failed(self, now: Instant) -> None:
        """What we believe of our NAT may be wrong, or old. Looked at once a minute at most."""
        if now.monotonic - self._checked_at >= PUNCH_CHECK_S:
            self.check_soon(now)

    def wrote_to(self, address: Address, now: Instant) -> None:
        self._written.note(address[:16], now.monotonic)

    def knocked(self, event: KnockReceived, now: Instant) -> None:
        """A third node's KNOCK arrived, at the address that a server saw us at."""
        if self._hairpin.knocked(event.nonce):
            return
        address = self._expected.pop(event.nonce, None)
        if address is None:
            return
        if address in self._observed():
            self._unknocked[_family(address)].clear()
        if self._proves(event.source, address, now) and self._proofs.add(address, now.monotonic):
            self._changed(now)

    def _proves(self, source: Address, address: Address, now: Instant) -> bool:
        """What we write goes out by other ports than a gateway's mapping, and opens none of those."""
        only_mapped = self._mapped.has(address) and address not in self._observed()
        return only_mapped or not self._written.seen(source[:16], now.monotonic)

    def _observed(self) -> set[Address]:
        return {address for behaviour in self.behaviours() for address in behaviour.observed}

    def _mapped_addresses(self) -> list[Address]:
        return self._mapped.addresses(self._observed())

    def _answered(self, key: Key, answer: Answer, now: Instant) -> None:
        """Each PONG of a server says where it sees us."""
        pong, path = answer.message, answer.path
        if not self._engine.addressing.is_plain(path):
            return
        if self._is_server(key):
            self._silence.answered()
        if not isinstance(pong, Pong) or not self._is_witness(key, path.remote):
            return
        if not self._engine.addressing.is_acceptable_as_own(pong.observed):
            return
        before = self.behaviours()
        family = _family(pong.observed)
        mapping, alone = self._port_use(family).mapping, not self._has_several_witnesses(family)
        heard = self._observations[family].add(path.remote, pong.observed, now.monotonic, alone=alone)
        if heard is Heard.MOVED:
            self._unknocked[family].clear()
        doubtful = heard is not Heard.NOTHING_NEW and mapping not in ENDPOINT_DEPENDENT
        if doubtful and self._doubts.allow(path.remote, now.monotonic):
            self.check_soon(now)
        refuted = self._proofs.review(family, 1 if alone else AGREEMENT)
        self._compare(family, now)
        if refuted or self.behaviours() != before:
            self._changed(now)

    def _unanswered(self, key: Key, now: Instant) -> None:
        if self._is_server(key):
            self._silence.unanswered()

    def _is_server(self, key: Key) -> bool:
        return key in self._kademlia.table or key in self.file_servers

    def _compare(self, family: int, now: Instant) -> None:
        """A second socket is worth its packets only where the answers of the first differ. It waits a moment,
        in which more servers may answer the first one."""
        mapping = self._observations[family].mapping(self._engine.addressing.local)
        if mapping in (Mapping.ENDPOINT_INDEPENDENT, Mapping.NONE):
            self._second.forget(family)
        elif (
            mapping is Mapping.RANDOM
            and self._second.verdict(family) is None
            and self._compared.allow(family, now.monotonic)
        ):
            self._engine.timers.call_at(
                now.monotonic + COMPARE_AFTER_S,
                lambda then: self._second.measure(family, self.witnesses(family), then),
            )

    def _answers_differ(self, family: int) -> bool:
        return self._observations[family].mapping(self._engine.addressing.local) is Mapping.RANDOM

    def _measured(self, now: Instant) -> None:
        self._changed(now)

    def _is_witness(self, key: Key, address: Address) -> bool:
        """A live server of our table, or a node at its endpoint of the network file: others may sit behind
        our own NAT, or have come only to tell us this."""
        contact = self._kademlia.table.get(key)
        in_table = contact is not None and not contact.dead
        return in_table or address in self.file_addresses_of(key)

    # Asking

    def _schedule(self, when: float) -> None:
        self._next.set_by(when, self._check)

    def _check(self, now: Instant) -> None:
        self._checked_at = now.monotonic
        self._schedule(now.monotonic + jittered(self._engine.rng, CHECK_S))
        if self._proofs.expire(now.monotonic):
            self._changed(now)
        for observations in self._observations.values():
            observations.expire(now.monotonic)
        for family in self._observations:
            witnesses = self.witnesses(family)
            for key, address in witnesses:
                self._ask(key, address, now)
            if self._answers_differ(family) or self._port_use(family).mapping in ENDPOINT_DEPENDENT:
                self._second.measure(family, witnesses, now)

    def witnesses(self, family: int) -> list[tuple[Key, Address]]:
        """Up to four live servers, in different networks, in random order."""
        found = [
            (contact.key, address)
            for contact in self._kademlia.table
            if not contact.dead and (address := self._address_of(contact, family)) is not None
        ]
        chosen: dict[bytes, tuple[Key, Address]] = {}
        for key, address in self._engine.rng.sample(found, len(found)):
            chosen.setdefault(network_of(address), (key, address))
        return list(chosen.values())[:WITNESSES_MAX]

    def _has_several_witnesses(self, family: int) -> bool:
        networks: set[bytes] = set()
        for contact in self._kademlia.table:
            address = None if contact.dead else self._address_of(contact, family)
            if address is not None:
                networks.add(network_of(address))
            if len(networks) > 1:
                return True
        return False

    def _address_of(self, contact: TrackedContact, family: int) -> Address | None:
        """A table has one address a server; the network file may know another of the other family."""
        known = (contact.address, *self.file_addresses_of(contact.key))
        return next((address for address in known if _family(address) == family), None)

    def _ask(self, key: Key, address: Address, now: Instant) -> None:
        path = self._engine.addressing.path_to(address)
        if path is None:
            return

        def answered(answer: Answer, then: Instant) -> None:
            if isinstance(answer.message, Pong) and answer.message.observed in self._observed():
                self._hairpin.attempt(answer.message.observed, then)
                self._ask_for_knock(key, answer, answer.message.observed, then)

        self._requests.start(
            key,
            [path],
            self._engine.echo(self.capabilities),
            now,
            on_answer=answered,
            schedule=ASK,
        )

    def _ask_for_knock(self, key: Key, answer: Answer, observed: Address, now: Instant) -> None:
        """Only in a session: the server must know that we are where we say."""
        peer = self._engine.peers.obtain(key)
        addressing = self._engine.addressing
        if not peer.session or not addressing.is_plain(answer.path):
            return
        if not addressing.is_acceptable_as_own(observed):
            return
        target = self._mapped.next_target(self._targets(observed), now.monotonic)
        if target is None:
            return
        nonce = self._engine.nonce()
        self._expected[nonce] = target
        if len(self._expected) > KNOCKS_EXPECTED_MAX:
            self._expected.popitem(last=False)
        port = 0 if target == observed else port_of(target)
        self._requests.start(
            key,
            [answer.path],
            Ping(0, PingWant.DIALBACK, port, nonce, self.capabilities, self._engine.instance),
            now,
            on_answer=lambda _, then: self._await_knock(answer.path.remote, nonce, observed, then),
        )
        unproved = [each for each in self._mapped.addresses([observed]) if each not in self._proofs]
        if self._mapped.wants_more(unproved):
            self._schedule(now.monotonic + MAPPING_CHECK_S)

    def _await_knock(self, server: Address, nonce: bytes, observed: Address, now: Instant) -> None:
        """A server has asked a third node: what does not arrive, our NAT has kept out."""

        def judge(then: Instant) -> None:
            unknocked = self._unknocked[_family(observed)]
            if self._expected.get(nonce) == observed and len(unknocked) < ANSWERS_WANTED:
                before = self.behaviours()
                unknocked.add(network_of(server))
                if self.behaviours() != before:
                    self._changed(then)

        self._engine.timers.call_at(now.monotonic + KNOCK_PATIENCE_S, judge)

    def _targets(self, observed: Address) -> list[Address]:
        """Mapped addresses first: they are the likelier ones."""
        mapped = self._mapped.addresses([observed])
        wanted = self.mode is Mode.UNKNOWN or (self.mode is Mode.DIRECT and observed not in self._proofs)
        return [*mapped, observed] if wanted and observed not in mapped else mapped


def _new_doubts() -> Shares:
    return Shares((DOUBTS_OF_NETWORK,), DOUBTS_BURST, DOUBTS_INTERVAL_S)


def _family(address: Address) -> int:
    return 4 if is_v4(address) else 6
