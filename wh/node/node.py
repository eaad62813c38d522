"""The engine of a WireHub node, sans-IO: events and the time in, commands and the next deadline out.

This is the switchboard. Each concern has a module of its own: requests (ids, timeouts), discovery (joining
the DHT), reachability (NAT), publisher (our record), trusted (paths to peers), server (answers), relaying
(for others, and by others), inquiries (users' questions)."""

from __future__ import annotations

from wh.config.model import Network, PeerKind
from wh.dht.discovery import Discovery
from wh.dht.endpoints import FileEndpoints
from wh.dht.kademlia import Kademlia
from wh.dht.lookup import LookupResult
from wh.dht.publisher import Content, Publisher
from wh.dht.searches import Searches
from wh.engine.commands import Command, Knock, Reply, ResetSession, Send
from wh.engine.core import Engine
from wh.engine.events import (
    PUNCH_SOCKETS_FROM,
    AliasBound,
    AliasesClaimed,
    BeaconHeard,
    ClaimRequested,
    DataOnNewPath,
    DataSession,
    DataTraffic,
    Event,
    ForgetRequested,
    Instant,
    Key,
    KnockReceived,
    LocalAddresses,
    LookupRequested,
    MappingsChanged,
    MessageReceived,
    NameResolved,
    NetworkLoaded,
    Path,
    PathSilent,
    PathWanted,
    PingRequested,
    RelayEnded,
    RelayOpened,
    RequestCancelled,
    SendFailed,
    SessionOpened,
    SocketAdopted,
    SocketOpened,
    Stopping,
    TcpConnected,
    TcpLost,
    Woke,
)
from wh.engine.inquiry import Finish, Inquiries, Inquiry, Progress
from wh.engine.peers import Peer
from wh.engine.randomness import Randomness
from wh.engine.requests import Requests
from wh.nat.fallback import Fallback
from wh.nat.reachability import Mode, OwnReachability
from wh.node.inquiries import LookupInquiry, PingInquiry
from wh.node.neighbours import Neighbours
from wh.node.server import Server
from wh.node.status import (
    CandidateStatus,
    ContactStatus,
    NodeStatus,
    PeerStatus,
    Relayed,
    RelayStatus,
    Surroundings,
)
from wh.paths.trusted import TrustedPeer
from wh.paths.trusted_peers import TrustedPeers, Visit
from wh.punch.punching import Punching
from wh.relay.relaying import Relaying
from wh.relay.reserver import RelayClient
from wh.relay.service import RelayService
from wh.trust.alias import CheckClaim, HandshakeHashes, no_claim_holds, no_session
from wh.trust.authentication import Authentication, ClaimInquiry
from wh.wire.candidates import Candidate, CandidateFlag
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import ANSWERS, Auth, Capability, Challenge, ChallengeWant, Leaving, Ping, Reveal
from wh.wire.records import RecordFlag, Sign, Verify

RELAYS_TOLD_MAX = 16

LATE_ANSWERS = tuple(ANSWERS.values())


class Node:
    """One node of one network.

    The caller owns sockets, clock and randomness. It calls handle() with each event and tick() once
    next_deadline() has passed, and carries out the commands that they return, in order. Neither raises for
    anything that came from the network.

    key: our 32-byte public key. sign(message) -> 64-byte XEdDSA signature with our secret key;
    verify(key, message, signature) -> bool. mode: a Mode. check_claim(claimant, alias, commitment, proof) ->
    bool: whether an AUTH proves what it says in the session that it came in; without, no alias can be claimed
    here. handshake_hashes(peer): of the session with that peer; without, we can claim none. beacons: announce
    ourselves in the LAN.
    """

    def __init__(
        self,
        key: Key,
        *,
        rng: Randomness,
        sign: Sign,
        verify: Verify,
        mode: str = Mode.UNKNOWN,
        check_claim: CheckClaim = no_claim_holds,
        handshake_hashes: HandshakeHashes = no_session,
        beacons: bool = False,
    ) -> None:
        self._engine = engine = Engine(key, rng)
        self._handshake_hashes = handshake_hashes
        self._kademlia = Kademlia.of(engine, sign, verify)
        self._requests = Requests(engine)
        self._kademlia.capabilities = lambda: self._reachability.capabilities
        self._requests.unproved.known_at = self._kademlia.table.is_alive_at
        self._searches = Searches(engine, self._requests, self._kademlia)
        self._endpoints = FileEndpoints(engine, self._endpoints_changed)
        self._discovery = Discovery(
            engine,
            self._requests,
            self._kademlia,
            self._searches,
            self._endpoints,
            capabilities=lambda: self._reachability.capabilities,
            new_server=self._new_server,
        )
        self._reachability = OwnReachability(
            engine, self._requests, self._kademlia, Mode(mode), self._reachability_changed
        )
        self._reachability.file_addresses_of = self._endpoints.addresses_of
        self._fallback = Fallback(
            engine, self._requests, self._kademlia, self._endpoints, self._discovery, moved=self._paths_moved
        )
        self._publisher = Publisher(
            engine,
            self._requests,
            self._kademlia,
            self._searches,
            content=self._record_content,
            looked_up=self._looked_up_ourselves,
            is_server=lambda: self._reachability.proved,
        )
        self._relays = RelayClient(
            engine,
            self._requests,
            self._kademlia,
            self._reachability,
            opened=lambda channel, now: self._trusted.channel_opened(channel, now),
            closed=lambda peer, path, now: self._trusted.channel_closed(peer, path, now),
            failed=lambda peer, now: None,
            changed=self._publisher.content_changed,
            short=self._discovery.look_around,
            welcome=lambda now: self._authentication.awaits_claims(now),
            out_of_reach=self._fallback.want,
        )
        self._punching = Punching(
            engine,
            self._requests,
            self._reachability,
            allowed=lambda peer: self._trusted.get(peer) is not None,
            observed=self._seen_by_relays,
            found=lambda peer, path, rtt_s, told, now: self._trusted.punched(peer, path, rtt_s, told, now),
            ended=self._punch_ended,
        )
        self._trusted: TrustedPeers = TrustedPeers(
            engine,
            self._requests,
            self._searches,
            self._reachability,
            self._endpoints,
            self._relays,
            self._punching,
        )
        self._server = Server(
            engine,
            self._requests,
            self._kademlia,
            self._discovery,
            self._reachability,
            self._searches,
            record_sequence=lambda: self._publisher.sequence,
        )
        self._relaying = Relaying(
            RelayService(engine, self._requests, is_server=lambda: self._reachability.proved), self._relays
        )
        self._inquiries = Inquiries(engine)
        self._authentication: Authentication = Authentication(engine, check_claim, handshake_hashes)
        self._neighbours = Neighbours(
            engine, self._trusted, enabled=beacons, awaits_claims=self._authentication.awaits_claims
        )

    def handle(self, event: Event, now: Instant) -> list[Command]:
        """Take in one event."""
        match event:
            case MessageReceived():
                self._message_received(event, now)
            case SessionOpened():
                self._session_opened(event, now)
            case SendFailed():
                self._send_failed(event, now)
            case KnockReceived():
                self._reachability.knocked(event, now)
            case SocketOpened():
                self._engine.sockets.opened(event, now)
            case SocketAdopted():
                self._trusted.socket_adopted(event, now)
            case NetworkLoaded(network=network):
                self._network_loaded(network, now)
            case LocalAddresses():
                self._engine.addressing.set_local(event)
                self._surroundings_changed(now)
            case Woke():
                self._surroundings_changed(now)
            case MappingsChanged(mappings=mappings):
                self._reachability.mappings_changed(mappings, now)
            case TcpConnected():
                self._fallback.connected(event, now)
            case TcpLost():
                self._fallback.lost(event, now)
                self._trusted.link_lost(event.address, now)
            case BeaconHeard():
                self._neighbours.heard(event, now)
            case NameResolved():
                self._endpoints.resolved(event, now)
            case LookupRequested() | PingRequested() | ClaimRequested():
                self._inquire(event, now)
            case AliasBound():
                self._authentication.bound(event)
            case AliasesClaimed(claims=claims):
                self._authentication.remember(claims)
            case RequestCancelled(request=request):
                self._inquiries.cancel(request)
            case ForgetRequested(peer=key):
                self._forget(key, now)
            case Stopping():
                self._say_leaving()
            case PathWanted() | DataOnNewPath() | DataSession() | DataTraffic() | PathSilent():
                self._data_plane_event(event, now)
            case RelayOpened() | RelayEnded():
                self._relaying.forwarder_event(event, now)
        return self._take_commands(now)

    def tick(self, now: Instant) -> list[Command]:
        """Run every timer that is due at now.monotonic."""
        self._engine.timers.run_due(now)
        return self._take_commands(now)

    def next_deadline(self) -> float | None:
        """Monotonic time at which tick() is wanted; None: nothing is scheduled."""
        return self._engine.timers.next_deadline()

    def snapshot(self) -> NodeStatus:
        table, bootstraps = self._kademlia.table, self._discovery.bootstraps
        return NodeStatus(
            key=self._engine.key,
            mode=self._reachability.mode,
            server=self._reachability.proved,
            joined=self._kademlia.joined,
            nat=str(self._reachability),
            translated=self._reachability.translated,
            candidates=tuple(
                CandidateStatus(each.address, bool(each.flags & CandidateFlag.CONFIRMED))
                for each in self._candidates()
            ),
            published=self._publisher.published,
            peers=tuple(map(self._peer_status, self._trusted)),
            relays=tuple(
                RelayStatus(relay.key, relay.address, relay.rtt_ms) for relay in self._relays.relays
            ),
            relayed=Relayed(
                bool(self._reachability.capabilities & Capability.RELAY), *self._relaying.served()
            ),
            contacts=tuple(
                ContactStatus(
                    contact.key,
                    contact.address,
                    _milliseconds(contact.rtt.srtt),
                    bootstrap=contact.key in bootstraps,
                    alive=not contact.dead,
                )
                for contact in table
            ),
            stored_records=len(self._kademlia.store),
            size_estimate=max(round(self._kademlia.size.servers), len(table) + self._reachability.proved),
            tcp_links=self._fallback.links,
        )

    def surroundings(self) -> Surroundings:
        reachability = self._reachability
        return Surroundings(
            udp_blocked=reachability.udp_blocked,
            answered=self._kademlia.joined,
            local=tuple(sorted(self._engine.addressing.local)),
            behaviours=tuple(reachability.behaviours()),
            hairpinning=reachability.hairpinning,
            proved_mappings=reachability.proved_mappings,
            relays=self._relay_statuses(),
        )

    # Events from the network

    def _message_received(self, event: MessageReceived, now: Instant) -> None:
        if event.peer == self._engine.key:
            return
        peer = self._engine.peers.obtain(event.peer)
        peer.heard_at = now.monotonic
        peer.unanswered = 0
        if not event.first_contact:
            peer.session = True
        if not self._requests.take_answer(event, now):
            self._fallback.heard(event, now)
            self._unasked(event, peer, now)

    def _unasked(self, event: MessageReceived, peer: Peer, now: Instant) -> None:
        """A request, or a notice, from another node."""
        trusted = self._trusted.get(event.peer)
        if isinstance(event.message, Leaving) and not event.first_contact:
            self._left(event, trusted, now)
            return
        if self._punching.handle(event, now):
            if self._punching.is_running(event.peer):
                self._trusted.punching(event.peer, now)
            return
        if _says_where_the_sender_is(event):
            if trusted is not None:
                trusted.heard(event, now)
            elif not event.first_contact and not peer.is_validated(event.path, now):
                self._challenge(event, now)
        if isinstance(event.message, Challenge) and not self._uses(
            event.peer, event.path, event.message, now
        ):
            return
        if isinstance(event.message, Auth | Reveal):
            self._authentication.heard(event, event.message, now)
        elif not self._relaying.handle(event, now):
            self._server.handle(event, now)

    def _uses(self, key: Key, path: Path, challenge: Challenge, now: Instant) -> bool:
        """Whether the path is a way to us, and we use it as the CHALLENGE supposes. A socket that comes and
        goes with a measurement is none: nobody shall move there."""
        match challenge.want:
            case ChallengeWant.ANY:
                return path.socket < PUNCH_SOCKETS_FROM
            case ChallengeWant.DATA:
                trusted = self._trusted.get(key)
                return trusted is not None and trusted.keeps_to(path, now)
            case ChallengeWant.RELAY:
                return self._relays.keeps_to(key, path, now)
        return False

    def _left(self, event: MessageReceived, trusted: TrustedPeer | None, now: Instant) -> None:
        self._discovery.left(event.peer)
        self._engine.peers.obtain(event.peer).session_lost()
        self._relaying.left(event.peer, now)
        if trusted is not None:
            trusted.left(now)
        else:
            self._engine.emit(ResetSession(event.peer))

    def _challenge(self, event: MessageReceived, now: Instant) -> None:
        """Somebody we serve sends from a new address: until it is proved, large answers cannot go there."""
        self._requests.challenge(event.peer, event.path, self._engine.rng.randbytes(NONCE_LEN), now)

    def _session_opened(self, event: SessionOpened, now: Instant) -> None:
        """As initiator, the answer in the RESP does what is to do."""
        peer = self._engine.peers.obtain(event.peer)
        peer.session = True
        peer.unanswered = 0
        self._relays.session_opened(event.peer, now)
        if event.initiator:
            return
        self._requests.validated(peer, event.path, now)
        trusted = self._trusted.get(event.peer)
        if trusted is not None:
            trusted.session_opened(event.path, now)

    def _send_failed(self, event: SendFailed, now: Instant) -> None:
        if self._punching.send_failed(event, now):
            return
        if not isinstance(event.message, Ping):  # that would have gone out in an INIT
            self._engine.peers.obtain(event.peer).session_lost()
        self._requests.send_failed(event, now)

    # Events from the configuration and the host

    def _network_loaded(self, network: Network, now: Instant) -> None:
        self._kademlia.namespace = network.namespace.encode()
        gone = self._engine.peers.pin({peer.key for peer in network.peers} - {self._engine.key})
        self._engine.addressing.set_network(network)
        self._reachability.bootstrap = any(
            peer.key == self._engine.key and peer.kind is PeerKind.BOOT for peer in network.peers
        )
        self._reachability.file_servers = frozenset(
            peer.key for peer in network.peers if peer.kind is PeerKind.BOOT
        )
        self._endpoints.set_network(network, now)
        self._reachability.file_addresses = self._endpoints.addresses_of(self._engine.key)
        self._reachability.relays = network.relay.offered
        self._discovery.set_network(network, now)
        self._server.tcp_port = network.listen_tcp or 0
        self._trusted.set_network(network, now)
        self._authentication.set_network(network)
        self._relaying.set_network(network, now)
        self._fallback.surroundings_changed(now)
        self._publisher.content_changed(now)
        self._neighbours.restart(now)
        for key in gone:  # if it comes again, then as the stranger that it is, whose key must be dear enough
            self._engine.peers.forget(key)
            self._engine.emit(ResetSession(key))

    def _surroundings_changed(self, now: Instant) -> None:
        """Other addresses, or a sleep in which NATs forgot us: nothing that was measured counts any more."""
        self._reachability.restart(now)
        self._discovery.join(now)
        self._fallback.surroundings_changed(now)
        self._trusted.local_changed(now)
        self._relays.local_changed(now)
        self._neighbours.restart(now)

    def _endpoints_changed(self, now: Instant) -> None:
        self._reachability.file_addresses = self._endpoints.addresses_of(self._engine.key)
        self._trusted.endpoints_changed(now)
        if not self._kademlia.joined:
            self._discovery.join(now)
            self._fallback.surroundings_changed(now)

    # Events from the data plane and from users

    def _data_plane_event(
        self, event: PathWanted | DataOnNewPath | DataSession | DataTraffic | PathSilent, now: Instant
    ) -> None:
        trusted = self._trusted.get(event.peer)
        if trusted is None:
            return
        match event:
            case PathWanted():
                trusted.path_wanted(now)
            case DataOnNewPath(path=path):
                trusted.data_arrived(path, now)
            case DataSession(up=False):
                trusted.verify_path(now)
            case DataTraffic(received=received, sent=sent):
                trusted.traffic(received, sent, now)
            case PathSilent(path=path, received=received):
                trusted.silent(path, received, now)

    def _inquire(self, event: LookupRequested | PingRequested | ClaimRequested, now: Instant) -> None:
        def make(progress: Progress, finish: Finish) -> Inquiry:
            match event:
                case LookupRequested(peer=key):
                    return LookupInquiry(key, self._searches, progress, finish)
                case PingRequested(peer=key):
                    return PingInquiry(
                        key,
                        self._engine,
                        self._requests,
                        self._searches,
                        self._known_paths(key),
                        self._relay_of,
                        finish,
                    )
                case ClaimRequested(peer=key, alias=alias):
                    return ClaimInquiry(
                        key,
                        alias,
                        self._engine,
                        self._requests,
                        lambda then: self._visit(event, then),
                        finish,
                        self._handshake_hashes,
                    )

        self._inquiries.run(event.request, make, now)

    def _visit(self, event: ClaimRequested, now: Instant) -> Visit:
        visit = self._trusted.visit(event.peer, event.endpoints, event.relays, now)
        self._neighbours.restart(now)
        return visit

    def _known_paths(self, key: Key) -> list[Path]:
        """Where a node is, without looking it up; the path in use alone if there is one."""
        trusted = self._trusted.get(key)
        if trusted is not None and trusted.routes.first is not None:
            return [trusted.routes.first]
        if trusted is not None:
            addresses = list(trusted.candidates)
        else:
            contact = self._kademlia.table.get(key)
            last = self._engine.peers.obtain(key).last_direct_path
            addresses = [contact.address] if contact is not None else []
            addresses += [last.remote] if last is not None else []
            addresses += self._endpoints.addresses_of(key)
        paths = map(self._engine.addressing.path_to, dict.fromkeys(addresses))
        return [path for path in paths if path is not None]

    def _relay_of(self, key: Key, path: Path) -> Key | None:
        trusted = self._trusted.get(key)
        return trusted.relay_of(path) if trusted is not None else None

    def _seen_by_relays(self, key: Key) -> frozenset[bytes]:
        """IPs, 16 bytes each, that the relays between us see a peer at."""
        observed = (channel.observed[:16] for channel in self._relays.channels_to(key))
        return frozenset(ip for ip in observed if any(ip))

    def _forget(self, key: Key, now: Instant) -> None:
        self._requests.cancel_all(key)
        self._kademlia.table.remove(key)
        self._engine.peers.forget(key)
        trusted = self._trusted.get(key)
        if trusted is not None:
            trusted.forget(now)
        else:
            self._engine.emit(ResetSession(key))

    def _say_leaving(self) -> None:
        for peer in self._engine.peers.with_session():
            trusted = self._trusted.get(peer.key)
            path = (trusted.routes.first if trusted is not None else None) or peer.last_path
            if path is not None:
                self._engine.emit(Send(peer.key, path, Leaving()))

    # What the parts tell each other

    def _new_server(self, key: Key, now: Instant) -> None:
        """A server entered the table, or lives again: somebody to publish at, to ask, and to be seen by."""
        self._publisher.server_found(key, now)
        self._reachability.servers_changed(now)
        self._relays.servers_changed(now)
        if len(self._kademlia.table.closest(self._engine.key, 2)) == 1:
            self._trusted.joined(now)
        else:
            self._trusted.servers_changed(now)

    def _paths_moved(self, now: Instant) -> None:
        """Servers are reached over TCP now, or over UDP again."""
        if not self._kademlia.joined:
            self._discovery.join(now)
        self._trusted.paths_moved(now)
        self._relays.local_changed(now)
        self._publisher.content_changed(now)

    def _reachability_changed(self, now: Instant) -> None:
        self._publisher.content_changed(now)

    def _punch_ended(self, peer: Key, succeeded: bool, now: Instant) -> None:
        if not succeeded:
            self._reachability.punch_failed(now)
        self._trusted.punch_ended(peer, now)

    def _looked_up_ourselves(self, result: LookupResult, now: Instant) -> None:
        self._discovery.found_servers(result, now)

    def _record_content(self) -> Content:
        relays = self._relays
        return Content(
            self._candidates(),
            self._reachability.profile,
            self._record_flags(),
            relays.relays,
            relays.relays_until,
        )

    def _record_flags(self) -> int:
        if not self._reachability.proved:
            return 0
        return int(RecordFlag.SERVER | RecordFlag.RELAY if self._reachability.relays else RecordFlag.SERVER)

    def _candidates(self) -> tuple[Candidate, ...]:
        """Nobody's UDP gets to a node whose own does not get out."""
        return () if self._fallback.blocked else self._reachability.candidates()

    def _peer_status(self, peer: TrustedPeer) -> PeerStatus:
        known, first = self._engine.peers.obtain(peer.key), peer.routes.first
        round_trip = peer.routes.round_trip_s(first) if first is not None else None
        return PeerStatus(
            key=peer.key,
            state=peer.state.value,
            endpoint=first.remote if first is not None else None,
            relay=peer.relay_of(first) if first is not None else None,
            mtu=peer.routes.mtu(first) if first is not None else 0,
            rtt_ms=_milliseconds(round_trip if round_trip is not None else known.round_trip.srtt),
            heard_at=known.heard_at,
            candidates=peer.candidates,
            why_relayed=peer.why_relayed,
        )

    def _relay_statuses(self) -> tuple[RelayStatus, ...]:
        """Those that keep a place for us, and servers that would; the nearest first."""
        found = {
            relay.key: RelayStatus(relay.key, relay.address, relay.rtt_ms) for relay in self._relays.relays
        }
        for contact in self._kademlia.table:
            if contact.flags & Capability.RELAY and not contact.dead:
                rtt_ms = _milliseconds(contact.rtt.srtt)
                found.setdefault(
                    contact.key, RelayStatus(contact.key, contact.address, rtt_ms, reserved=False)
                )
        by_rtt = sorted(found.values(), key=lambda relay: (relay.rtt_ms is None, relay.rtt_ms or 0.0))
        return tuple(by_rtt)[:RELAYS_TOLD_MAX]

    def _take_commands(self, now: Instant) -> list[Command]:
        commands = self._engine.take_commands()
        for command in commands:
            if isinstance(command, Send):
                self._reachability.wrote_to(command.path.remote, now)
            elif isinstance(command, Reply):
                self._reachability.wrote_to(command.to.path.remote, now)
            elif isinstance(command, Knock):
                self._reachability.wrote_to(command.to, now)
        return commands


def _says_where_the_sender_is(event: MessageReceived) -> bool:
    """An answer that comes too late went the way of our own request; and what comes to a socket of ours that
    only measures or punches is no sign that anything moved."""
    return event.path.socket < PUNCH_SOCKETS_FROM and not isinstance(event.message, LATE_ANSWERS)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
