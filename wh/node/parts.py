"""The parts of a node's engine, made in the order of the floors, and what they tell each other.

No part knows the parts above it: what it has to say to them goes through callbacks, which are all here."""

from __future__ import annotations

from wh.dht.discovery import Discovery
from wh.dht.kademlia import Kademlia
from wh.dht.lookups.searches import Searches
from wh.dht.publishing.public_addresses import PublicAddresses
from wh.dht.publishing.publisher import Content, Publisher
from wh.engine.core import Engine
from wh.engine.endpoints import FileEndpoints
from wh.engine.events import Instant, Key
from wh.engine.limits import RateLimit
from wh.engine.requests import Answer, Requests
from wh.nat.fallback import Fallback
from wh.nat.reachability import Mode, OwnReachability
from wh.node.neighbours import Neighbours
from wh.node.overlay_ipv6 import OverlayIpv6
from wh.node.server import Server
from wh.node.twins import SPOKEN_UP_INTERVAL_S, SPOKEN_UP_S, Twins
from wh.paths.trusted_peers import TrustedPeers
from wh.punch.punching import Punching
from wh.relay.relaying import Relaying
from wh.relay.reserver import RelayClient
from wh.relay.service import RelayService
from wh.trust.alias import CheckClaim, HandshakeHashes
from wh.trust.authentication import Authentication
from wh.wire.candidates import Candidate
from wh.wire.messages import Pong
from wh.wire.records import RecordFlag, Sign, Verify


class Parts:
    """Each part is an attribute. The arguments are those of Node."""

    def __init__(
        self,
        engine: Engine,
        sign: Sign,
        verify: Verify,
        mode: Mode,
        check_claim: CheckClaim,
        handshake_hashes: HandshakeHashes,
        *,
        beacons: bool,
    ) -> None:
        self.engine = engine
        self.kademlia = Kademlia.of(engine, sign, verify)
        self.kademlia.capabilities = lambda: self.reachability.capabilities
        self.requests = Requests(engine)
        self.requests.unproved.known_at = self.kademlia.table.is_alive_at
        self._make_dht(mode)
        self._make_paths()
        self._make_services(check_claim, handshake_hashes, beacons=beacons)

    def _make_dht(self, mode: Mode) -> None:
        """Finding servers, being one, and being found."""
        engine, requests, kademlia = self.engine, self.requests, self.kademlia
        self.searches = searches = Searches(engine, requests, kademlia)
        self.endpoints = FileEndpoints(engine, self._endpoints_changed)
        requests.silence_listeners.append(self.endpoints.unanswered)
        self.public_addresses = PublicAddresses(engine, kademlia, searches, self.endpoints)
        self.discovery = Discovery(
            engine,
            requests,
            kademlia,
            searches,
            self.endpoints,
            capabilities=lambda: self.reachability.capabilities,
            new_server=self._new_server,
        )
        self.reachability: OwnReachability = OwnReachability(
            engine, requests, kademlia, mode, lambda now: self.publisher.content_changed(now)
        )
        self.reachability.file_addresses_of = self.endpoints.addresses_of
        self.fallback = Fallback(
            engine, requests, kademlia, self.endpoints, self.discovery, moved=self._paths_moved
        )
        self.publisher: Publisher = Publisher(
            engine,
            requests,
            kademlia,
            searches,
            content=self._record_content,
            looked_up=self.discovery.upkeep.found_servers,
            is_server=lambda: self.reachability.proved,
        )

    def _make_paths(self) -> None:
        """Our relays, and the ways to trusted peers."""
        engine, requests, reachability = self.engine, self.requests, self.reachability
        self.relays = RelayClient(
            engine,
            requests,
            self.kademlia,
            reachability,
            opened=lambda channel, now: self.trusted.channel_opened(channel, now),
            closed=lambda peer, path, now: self.trusted.channel_closed(peer, path, now),
            failed=lambda peer, now: None,
            changed=self.publisher.content_changed,
            short=self.discovery.upkeep.look_around,
            welcome=lambda now: self.authentication.awaits_claims(now),
            out_of_reach=self.fallback.want,
        )
        self.punching = Punching(
            engine,
            requests,
            reachability,
            allowed=lambda peer: self.trusted.get(peer) is not None,
            observed=self.seen_by_relays,
            found=lambda peer, path, rtt_s, told, now: self.trusted.punched(peer, path, rtt_s, told, now),
            ended=self._punch_ended,
        )
        self.trusted: TrustedPeers = TrustedPeers(
            engine, requests, self.searches, reachability, self.endpoints, self.relays, self.punching
        )
        self.overlay_ipv6 = OverlayIpv6(engine, requests, self.trusted)

    def _make_services(
        self, check_claim: CheckClaim, handshake_hashes: HandshakeHashes, *, beacons: bool
    ) -> None:
        """What we do for others, and how strangers become members."""
        self.twins = Twins(self._is_in_file)
        self._speaks_up = RateLimit(1, SPOKEN_UP_INTERVAL_S, 1)
        self.requests.answer_listeners.append(self._hear_of_twins)
        self.server = Server(
            self.engine,
            self.requests,
            self.kademlia,
            self.discovery,
            self.reachability,
            self.searches,
            record_sequence=lambda: self.publisher.sequence,
            is_doubled=self.twins.hear,
        )
        service = RelayService(self.engine, self.requests, is_server=lambda: self.reachability.proved)
        self.relaying = Relaying(service, self.relays)
        self.authentication: Authentication = Authentication(self.engine, check_claim, handshake_hashes)
        self.neighbours = Neighbours(
            self.engine, self.trusted, enabled=beacons, awaits_claims=self.authentication.awaits_claims
        )

    # What is known by several parts together

    def candidates(self) -> tuple[Candidate, ...]:
        """Our addresses, as published. Nobody's UDP gets to a node whose own does not get out."""
        return () if self.fallback.blocked else self.reachability.candidates()

    def seen_by_relays(self, key: Key) -> frozenset[bytes]:
        """IPs, 16 bytes each, that the relays between us see a peer at."""
        observed = (channel.observed[:16] for channel in self.relays.channels_to(key))
        return frozenset(ip for ip in observed if any(ip))

    def _record_content(self) -> Content:
        relays = self.relays
        return Content(
            self.candidates(),
            self.reachability.profile,
            self._record_flags(),
            relays.relays,
            relays.relays_until,
        )

    def _record_flags(self) -> int:
        if not self.reachability.proved:
            return 0
        return int(RecordFlag.SERVER | RecordFlag.RELAY if self.reachability.relays else RecordFlag.SERVER)

    def _is_in_file(self, key: Key) -> bool:
        return self.trusted.get(key) is not None or key in self.discovery.bootstraps

    # What they tell each other

    def _hear_of_twins(self, peer: Key, answer: Answer, now: Instant) -> None:
        if not isinstance(answer.message, Pong) or not self.twins.told(peer, answer.message.doubled):
            return
        if self._speaks_up.allow(None, now.monotonic):
            for after_s in SPOKEN_UP_S:
                self.engine.timers.call_at(now.monotonic + after_s, self.trusted.be_heard)

    def _new_server(self, key: Key, now: Instant) -> None:
        """A server entered the table, or lives again: somebody to publish at, to ask, and to be seen by."""
        self.publisher.server_found(key, now)
        self.public_addresses.joined(now)
        if key in self.discovery.bootstraps:  # it may know who was kept from us
            self.publisher.changed(now)
        self.reachability.servers_changed(now)
        self.relays.servers_changed(now)
        if len(self.kademlia.table.closest(self.engine.key, 2)) == 1:
            self.trusted.joined(now)
        else:
            self.trusted.servers_changed(now)

    def _endpoints_changed(self, now: Instant) -> None:
        """Names of the network file have other addresses."""
        self.reachability.file_addresses = self.endpoints.addresses_of(self.engine.key)
        self.trusted.endpoints_changed(now)
        self.discovery.endpoints_changed(now)
        if not self.kademlia.joined:
            self.discovery.join(now)
            self.fallback.surroundings_changed(now)

    def _paths_moved(self, now: Instant) -> None:
        """Servers are reached over TCP now, or over UDP again."""
        if not self.kademlia.joined:
            self.discovery.join(now)
        self.trusted.paths_moved(now)
        self.relays.local_changed(now)
        self.publisher.content_changed(now)

    def _punch_ended(self, peer: Key, succeeded: bool, now: Instant) -> None:
        if not succeeded:
            self.reachability.punch_failed(now)
        self.trusted.punch_ended(peer, now)
