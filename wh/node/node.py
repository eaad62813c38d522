"""The engine of a WireHub node, sans-IO: events and the time in, commands and the next deadline out.

This is the switchboard. wh.node.parts puts the parts together, each with a concern of its own: requests (ids,
timeouts), discovery (joining the DHT), reachability (NAT), publisher (our record), trusted (paths to peers),
server (answers), relaying (for others, and by others). What comes from other nodes goes through
wh.node.incoming, what users want through wh.node.user_requests."""

from __future__ import annotations

from typing import assert_never

from wh.config.model import Network, PeerKind
from wh.dht.table.memory import worth_remembering
from wh.engine.commands import Command, Knock, Reply, ResetSession, Send
from wh.engine.core import Engine
from wh.engine.events import (
    AddressesRemembered,
    AliasBound,
    AliasesClaimed,
    BeaconHeard,
    DataOnNewPath,
    DataPlaneEvent,
    DataSession,
    DataTraffic,
    Event,
    HostEvent,
    Instant,
    Key,
    LinksChanged,
    LocalAddresses,
    MappingsChanged,
    NameResolved,
    NetworkLoaded,
    NodeEvent,
    OverlayIpv6Changed,
    PathSilent,
    PathWanted,
    RelayEnded,
    RelayOpened,
    Remembered,
    SocketAdopted,
    SocketOpened,
    Stopping,
    TcpConnected,
    TcpLost,
    UserEvent,
    Woke,
)
from wh.engine.randomness import Randomness
from wh.nat.reachability import Mode
from wh.node import snapshots
from wh.node.incoming import Incoming
from wh.node.parts import Parts
from wh.node.status import ClockStatus, NodeStatus, Surroundings
from wh.node.user_requests import UserRequests
from wh.trust.alias import CheckClaim, HandshakeHashes, no_claim_holds, no_session
from wh.wire.messages import Leaving
from wh.wire.records import Sign, Verify


class Node:
    """One node of one network.

    The caller owns sockets, clock and randomness. It calls handle() with each event and tick() once
    next_deadline() has passed, and carries out the commands that they return, in order. Neither raises for
    anything that came from the network.

    key: our 32-byte public key. sign(message) -> 64-byte XEdDSA signature with our secret key;
    verify(key, message, signature) -> bool. mode: a Mode. check_claim(claimant, alias, commitment, proof) ->
    bool: whether an AUTH proves what it says in the session that it came in; without, no alias can be claimed
    here. handshake_hashes(peer): of the session with that peer; without, we can claim none. beacons: announce
    ourselves in the LAN. instance: which run of the node this is, a random number; 0: it does not say.
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
        instance: int = 0,
    ) -> None:
        engine = Engine(key, rng, instance)
        self.parts = Parts(engine, sign, verify, Mode(mode), check_claim, handshake_hashes, beacons=beacons)
        self._incoming = Incoming(self.parts)
        self._user_requests = UserRequests(self.parts, handshake_hashes)

    def handle(self, event: Event, now: Instant) -> list[Command]:
        """Take in one event."""
        if isinstance(event, NodeEvent):
            self._incoming.handle(event, now)
        elif isinstance(event, DataPlaneEvent):
            self._data_plane_event(event, now)
        elif isinstance(event, UserEvent):
            self._user_requests.handle(event, now)
        else:
            self._host_event(event, now)
        return self._take_commands(now)

    def tick(self, now: Instant) -> list[Command]:
        """Run every timer that is due at now.monotonic."""
        self.parts.engine.timers.run_due(now)
        return self._take_commands(now)

    def next_deadline(self) -> float | None:
        """Monotonic time at which tick() is wanted; None: nothing is scheduled."""
        return self.parts.engine.timers.next_deadline()

    def memory(self) -> Remembered:
        """What is worth keeping for the next start."""
        return Remembered(worth_remembering(self.parts.kademlia.table), self.parts.trusted.last_addresses())

    def snapshot(self) -> NodeStatus:
        return snapshots.snapshot(self.parts)

    def clocks(self, now: Instant) -> ClockStatus:
        return snapshots.clocks(self.parts, now)

    def twins(self) -> frozenset[Key]:
        """Keys of the network file that two running nodes have, ours among them."""
        twins = self.parts.twins
        return frozenset((*twins.others, *([self.parts.engine.key] if twins.own else [])))

    def surroundings(self) -> Surroundings:
        return snapshots.surroundings(self.parts)

    def _host_event(self, event: HostEvent, now: Instant) -> None:
        parts = self.parts
        match event:
            case NetworkLoaded(network=network):
                self._network_loaded(network, now)
            case LocalAddresses():
                parts.engine.addressing.set_local(event)
                self._surroundings_changed(now)
            case Woke():
                self._surroundings_changed(now)
            case AddressesRemembered() | Remembered():
                self._remember(event, now)
            case LinksChanged():
                parts.endpoints.links_changed(now)
                parts.discovery.links_changed(now)
            case OverlayIpv6Changed(taken=taken):
                parts.overlay_ipv6.set_own(taken, now)
            case MappingsChanged(mappings=mappings):
                parts.reachability.mappings_changed(mappings, now)
            case SocketOpened():
                parts.engine.sockets.opened(event, now)
            case SocketAdopted():
                parts.trusted.socket_adopted(event, now)
            case TcpConnected() | TcpLost():
                self._tcp_event(event, now)
            case RelayOpened() | RelayEnded():
                parts.relaying.forwarder_event(event, now)
            case BeaconHeard():
                parts.neighbours.heard(event, now)
            case NameResolved():
                parts.endpoints.resolved(event, now)
            case AliasBound():
                parts.authentication.bound(event)
            case AliasesClaimed(claims=claims):
                parts.authentication.remember(claims)
            case Stopping():
                self._say_leaving()
            case _:
                assert_never(event)

    def _remember(self, event: AddressesRemembered | Remembered, now: Instant) -> None:
        if isinstance(event, AddressesRemembered):
            self.parts.public_addresses.remembered(event)
        else:
            self.parts.discovery.remember(event.servers, now)
            self.parts.trusted.remember(event.members, now)

    def _tcp_event(self, event: TcpConnected | TcpLost, now: Instant) -> None:
        if isinstance(event, TcpConnected):
            self.parts.fallback.connected(event, now)
        else:
            self.parts.fallback.lost(event, now)
            self.parts.trusted.link_lost(event.address, now)

    def _data_plane_event(self, event: DataPlaneEvent, now: Instant) -> None:
        parts = self.parts
        trusted = parts.trusted.get(event.peer)
        if trusted is None:
            return
        match event:
            case PathWanted():
                trusted.path_wanted(now)
            case DataOnNewPath(path=path):
                trusted.data_arrived(path, now)
            case DataSession(up=up):
                if not up:
                    trusted.verify_path(now)
            case DataTraffic(received=received, sent=sent):
                trusted.traffic(received, sent, now)
            case PathSilent(path=path, received=received):
                trusted.silent(path, received, now)
            case _:
                assert_never(event)

    def _network_loaded(self, network: Network, now: Instant) -> None:
        parts = self.parts
        parts.kademlia.namespace = network.namespace.encode()
        gone = parts.engine.peers.pin({peer.key for peer in network.peers} - {parts.engine.key})
        parts.engine.addressing.set_network(network)
        parts.reachability.bootstrap = any(
            peer.key == parts.engine.key and peer.kind is PeerKind.BOOT for peer in network.peers
        )
        parts.reachability.file_servers = frozenset(
            peer.key for peer in network.peers if peer.kind is PeerKind.BOOT
        )
        parts.endpoints.set_network(network, now)
        parts.reachability.file_addresses = parts.endpoints.addresses_of(parts.engine.key)
        parts.reachability.relays = network.relay.offered
        parts.public_addresses.set_network(network)
        parts.discovery.set_network(network, now)
        parts.server.tcp_port = network.listen_tcp or 0
        parts.trusted.set_network(network, now)
        parts.overlay_ipv6.network_changed()
        parts.authentication.set_network(network)
        parts.relaying.set_network(network, now)
        parts.fallback.surroundings_changed(now)
        parts.publisher.content_changed(now)
        parts.neighbours.restart(now)
        for key in gone:  # if it comes again, then as the stranger that it is, whose key must be dear enough
            parts.engine.peers.forget(key)
            parts.engine.emit(ResetSession(key))

    def _surroundings_changed(self, now: Instant) -> None:
        """Other addresses, or a sleep in which NATs forgot us: nothing that was measured counts any more."""
        parts = self.parts
        parts.reachability.restart(now)
        parts.discovery.surroundings_changed(now)
        parts.endpoints.links_changed(now)
        parts.fallback.surroundings_changed(now)
        parts.trusted.local_changed(now)
        parts.relays.local_changed(now)
        parts.neighbours.restart(now)

    def _say_leaving(self) -> None:
        parts = self.parts
        for peer in parts.engine.peers.with_session():
            trusted = parts.trusted.get(peer.key)
            path = (trusted.routes.first if trusted is not None else None) or peer.last_path
            if path is not None:
                parts.engine.emit(Send(peer.key, path, Leaving()))

    def _take_commands(self, now: Instant) -> list[Command]:
        parts = self.parts
        commands = parts.engine.take_commands()
        for command in commands:
            if isinstance(command, Send):
                parts.reachability.wrote_to(command.path.remote, now)
            elif isinstance(command, Reply):
                parts.reachability.wrote_to(command.to.path.remote, now)
            elif isinstance(command, Knock):
                parts.reachability.wrote_to(command.to, now)
        return commands
