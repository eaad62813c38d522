"""Finding out how others see us and whether they can reach us (docs/protocol.md section 6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import StrEnum

from wh.engine import Engine
from wh.events import Instant, Key, KnockReceived, PortMapping
from wh.kademlia import Kademlia
from wh.limits import RecentlySeen
from wh.mapped_ports import MappedPorts
from wh.nat.behavior import WITNESSES_MAX, NatBehaviour, Observations, network_of
from wh.nat.candidates import own_candidates
from wh.randomness import jittered
from wh.requests import Answer, Requests, Schedule
from wh.timers import Timer
from wh.wire.address import Address, is_v4, port_of
from wh.wire.candidates import Candidate, Filtering, Mapping
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import Capability, Ping, PingWant, Pong

CHECK_S = 300.0
FIRST_CHECK_S = 1.0
MAPPING_CHECK_S = 6.0
"""Between KNOCKs asked for at a mapped address; a server does one node the favour once in 5 s."""
ASK = Schedule((0.4,), 1.0)
WRITTEN_LIFETIME_S = 600.0
"""A KNOCK from an address that we wrote to this recently proves nothing: our own packet opened the way."""

PROOF_LIFETIME_S = 3600.0
KNOCKS_EXPECTED_MAX = 16
PROOFS_MAX = 16


class Mode(StrEnum):
    """What the operator says of our own reachability (`wh up ... mode M`)."""

    UNKNOWN = "unknown"  # find out
    DIRECT = "direct"  # reachable: a server without proof
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
        self.file_addresses: tuple[Address, ...] = ()  # our own endpoint, as the network file says
        self._engine = engine
        self._requests = requests
        self._kademlia = kademlia
        self._changed = changed
        self._observations = {4: Observations(), 6: Observations()}
        self._proofs: dict[Address, float] = {}  # an address of ours that a KNOCK reached -> when
        self._expected: OrderedDict[bytes, Address] = (
            OrderedDict()
        )  # nonce -> address that is to be knocked at
        self._written = RecentlySeen(WRITTEN_LIFETIME_S)
        self._mapped = MappedPorts()
        self._timer: Timer | None = None
        requests.answer_listeners.append(self._answered)

    # What is known

    @property
    def proved(self) -> bool:
        """Whether others can open a path to us: then we are a server."""
        if self.mode is Mode.NAT:
            return False
        return self.mode is Mode.DIRECT or self.bootstrap or bool(self._proofs)

    @property
    def capabilities(self) -> int:
        return int(Capability.SERVER) if self.proved else 0

    @property
    def translated(self) -> bool | None:
        """Whether a NAT changes our address in some family; None before anybody told how he sees us."""
        behaviours = self.behaviours()
        return any(each.mapping is not Mapping.NONE for each in behaviours) if behaviours else None

    def candidates(self) -> tuple[Candidate, ...]:
        own = dict.fromkeys((*self.file_addresses, *self._engine.addressing.publishable()))
        declared = self.mode is Mode.DIRECT or (self.bootstrap and self.mode is not Mode.NAT)
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

    def behaviours(self) -> list[NatBehaviour]:
        """One for each address family that somebody saw us on."""
        local = self._engine.addressing.local
        found = []
        for observations in self._observations.values():
            observed = tuple(observations.addresses())
            if observed:
                reached = any(address in self._proofs for address in observed)
                filtering = Filtering.ENDPOINT_INDEPENDENT if reached else Filtering.UNKNOWN
                mapping = observations.mapping(local)
                found.append(NatBehaviour(mapping, filtering, observed))
        return found

    def __str__(self) -> str:
        return "; ".join(map(str, self.behaviours()))

    # What happens

    def restart(self, now: Instant) -> None:
        """Our addresses changed: what was seen before says nothing."""
        for observations in self._observations.values():
            observations.clear()
        self._proofs.clear()
        self._mapped.restart()
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
                self._proofs.pop(address, None)
        self._changed(now)
        self.check_soon(now)

    def check_soon(self, now: Instant) -> None:
        """Ask again in a moment, unless it is about to happen anyway."""
        self._schedule(now.monotonic + FIRST_CHECK_S)

    def servers_changed(self, now: Instant) -> None:
        """There are new witnesses; they matter while there are too few."""
        if any(behaviour.mapping is Mapping.UNKNOWN for behaviour in self.behaviours()):
            self.check_soon(now)

    def wrote_to(self, address: Address, now: Instant) -> None:
        self._written.note(address[:16], now.monotonic)

    def knocked(self, event: KnockReceived, now: Instant) -> None:
        """A third node's KNOCK arrived, at the address that a server saw us at."""
        address = self._expected.pop(event.nonce, None)
        if address is None or not self._proves(event.source, address, now):
            return
        if len(self._proofs) < PROOFS_MAX or address in self._proofs:
            self._proofs[address] = now.monotonic
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
        pong = answer.message
        if not isinstance(pong, Pong) or not self._is_witness(key, answer.path.remote, pong):
            return
        if not self._engine.addressing.is_acceptable_as_own(pong.observed):
            return
        before = self.behaviours()
        family = 4 if is_v4(pong.observed) else 6
        moved = self._observations[family].add(answer.path.remote, pong.observed, now.monotonic)
        if moved:
            still = {*self._mapped.addresses([pong.observed])}
            self._proofs = {
                address: at
                for address, at in self._proofs.items()
                if is_v4(address) != (family == 4) or address in still
            }
            self.check_soon(now)
        if moved or self.behaviours() != before:
            self._changed(now)

    def _is_witness(self, key: Key, address: Address, pong: Pong) -> bool:
        """A server, or a node at an endpoint of the network file: others may sit behind our own NAT."""
        known = key in self._kademlia.table or self._engine.addressing.is_configured(address)
        return known or bool(pong.capabilities & Capability.SERVER)

    # Asking

    def _schedule(self, when: float) -> None:
        if self._timer is not None and self._timer.pending and self._timer.when <= when:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._engine.timers.call_at(when, self._check)

    def _check(self, now: Instant) -> None:
        self._schedule(now.monotonic + jittered(self._engine.rng, CHECK_S))
        expired = [address for address, at in self._proofs.items() if now.monotonic - at > PROOF_LIFETIME_S]
        for address in expired:
            del self._proofs[address]
        if expired:
            self._changed(now)
        for observations in self._observations.values():
            observations.expire(now.monotonic)
        for key, address in self._witnesses():
            self._ask(key, address, now)

    def _witnesses(self) -> list[tuple[Key, Address]]:
        """Up to four live servers of each family, in different networks."""
        contacts = [contact for contact in self._kademlia.table if not contact.dead]
        chosen: dict[bytes, tuple[Key, Address]] = {}
        asked = {4: 0, 6: 0}
        for contact in self._engine.rng.sample(contacts, len(contacts)):
            family, network = 4 if is_v4(contact.address) else 6, network_of(contact.address)
            if network not in chosen and asked[family] < WITNESSES_MAX:
                asked[family] += 1
                chosen[network] = contact.key, contact.address
        return list(chosen.values())

    def _ask(self, key: Key, address: Address, now: Instant) -> None:
        path = self._engine.addressing.path_to(address)
        if path is None:
            return

        def answered(answer: Answer, then: Instant) -> None:
            if isinstance(answer.message, Pong):
                self._ask_for_knock(key, answer, answer.message.observed, then)

        self._requests.start(
            key,
            [path],
            Ping(0, PingWant.ECHO, 0, self._engine.rng.randbytes(NONCE_LEN), self.capabilities),
            now,
            on_answer=answered,
            schedule=ASK,
        )

    def _ask_for_knock(self, key: Key, answer: Answer, observed: Address, now: Instant) -> None:
        """Only in a session: the server must know that we are where we say."""
        peer = self._engine.peers.obtain(key)
        if not peer.session or not self._engine.addressing.is_acceptable_as_own(observed):
            return
        target = self._mapped.next_target(self._targets(observed), now.monotonic)
        if target is None:
            return
        nonce = self._engine.rng.randbytes(NONCE_LEN)
        self._expected[nonce] = target
        if len(self._expected) > KNOCKS_EXPECTED_MAX:
            self._expected.popitem(last=False)
        port = 0 if target == observed else port_of(target)
        self._requests.start(
            key, [answer.path], Ping(0, PingWant.DIALBACK, port, nonce, self.capabilities), now
        )
        unproved = [each for each in self._mapped.addresses([observed]) if each not in self._proofs]
        if self._mapped.wants_more(unproved):
            self._schedule(now.monotonic + MAPPING_CHECK_S)

    def _targets(self, observed: Address) -> list[Address]:
        """Mapped addresses first: they are the likelier ones."""
        mapped = self._mapped.addresses([observed])
        return [*mapped, observed] if self.mode is Mode.UNKNOWN and observed not in mapped else mapped
