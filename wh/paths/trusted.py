"""The way to one trusted peer: found, relayed, made direct, kept alive, moved (docs/protocol.md 6, 7).

finder finds addresses, channels keeps those at relays, upgrades tries to do without them, choice says which
of several direct paths is taken, whereabouts follows the peer, keepalive and silence tell a dead path, routes
tells the data plane; this decides."""

from __future__ import annotations

from collections.abc import Sequence

from wh.engine.commands import ResetSession
from wh.engine.core import Engine
from wh.engine.events import TCP, Instant, Key, MessageReceived, Path
from wh.engine.requests import Answer, Requests
from wh.paths.channels import PeerChannels, Relays
from wh.paths.choice import DirectChoice
from wh.paths.finder import PathFinder, Reachability, RecordFinder
from wh.paths.flow_splitting import FlowSplitting
from wh.paths.keepalive import KEEPALIVE_S, Keepalive
from wh.paths.mtu import BUSY_BYTES
from wh.paths.routes import Routes
from wh.paths.silence import Silence
from wh.paths.states import HAVING_PATH, ON_CHANNELS, PathInput, PathState, PeerPath
from wh.paths.upgrades import Puncher, Upgrades
from wh.paths.whereabouts import Whereabouts
from wh.relay.choosing import Channel
from wh.wire.address import Address
from wh.wire.records import Relay

CHANNELS_WANTED = 2
"""What a pair holds."""

WANTED_FOR_S = 180.0
"""How long traffic is a reason to look for a path, and to hold channels."""


class TrustedPeer:
    """One `trust` or `router` line of the file. Call start() once, and close() when the line is gone."""

    def __init__(
        self,
        key: Key,
        engine: Engine,
        requests: Requests,
        finder: RecordFinder,
        reachability: Reachability,
        relays: Relays,
        puncher: Puncher,
    ) -> None:
        self.key = key
        self._engine = engine
        self._requests = requests
        self._reachability = reachability
        self._relays = relays
        self._machine = PeerPath()
        self._routes = Routes(key, engine, self._keepalive_interval)
        self._finder = PathFinder(key, engine, requests, finder, self)
        self._channels = PeerChannels(key, engine, requests, relays, self)
        self._silence = Silence(
            key, engine, requests, self._routes, heard=self._heard_again, confirmed=self._silence_confirmed
        )
        self._keepalive = Keepalive(key, engine, requests, self._routes, self._drop_direct)
        self._upgrades = Upgrades(
            key, engine, self._machine, self._routes, self._channels, puncher, self._more_channels
        )
        self._choice = DirectChoice(key, engine, requests, self._machine, self._routes, self._proved)
        self._whereabouts = Whereabouts(
            key, engine, requests, self._machine, self._routes, self._choice, self._proved
        )
        self._splitting = FlowSplitting()
        self._wanted_until = float("-inf")

    @property
    def state(self) -> PathState:
        return self._machine.state

    @property
    def path(self) -> Path | None:
        """The direct one."""
        return self._machine.path

    @property
    def routes(self) -> Routes:
        return self._routes

    @property
    def last_address(self) -> Address | None:
        """Where its direct path leads, or led last."""
        return self.path.remote if self.path is not None else self._finder.worked_at

    @property
    def candidates(self) -> tuple[Address, ...]:
        return self._finder.candidates

    @property
    def why_relayed(self) -> str:
        """Empty where the path is direct, or there is none."""
        return self._upgrades.why_relayed

    def keeps_to(self, path: Path, now: Instant) -> bool:
        """Whether our data takes this path as far as we know: false for one that we have left ourselves, as
        for all while there is none. One that we never knew is ours as copies of it are sent to us."""
        if self.path is None:
            return False
        return path == self.path or not self._choice.has_left(path, now)

    # What the node tells it

    def start(self, now: Instant) -> None:
        if self.state not in HAVING_PATH:
            self._finder.start(now)

    def look_again(self, now: Instant) -> None:
        """There is a new server to ask for the record."""
        if self.state not in HAVING_PATH:
            self._finder.look_again(now)

    def close(self, now: Instant) -> None:
        self._cancel_all()
        self._give_up(now)

    def set_file_addresses(self, addresses: tuple[Address, ...], now: Instant) -> None:
        self._finder.set_file_addresses(addresses, now)

    def path_wanted(self, now: Instant) -> None:
        self._wanted_until = now.monotonic + WANTED_FOR_S
        if self._routes.first is not None:
            self._routes.tell_again()
        else:
            self._finder.wanted(now)

    def traffic(self, received: int, sent: int, now: Instant) -> None:
        """Bytes of WireGuard since the last report. On a channel nothing moves that no user has sent."""
        self._splitting.traffic(received + sent, now)
        self._routes.split(self._splitting.wanted(now))
        if received:
            self._wanted_until = now.monotonic + WANTED_FOR_S
        for path in self._routes.in_use if sent >= BUSY_BYTES else ():
            self._choice.busy(path, now)
            self._channels.busy(path, now)

    def session_opened(self, path: Path, now: Instant) -> None:
        """The peer began a session, and confirmed it from `path`."""
        self._whereabouts.session_opened(path, now)

    def heard(self, event: MessageReceived, now: Instant) -> None:
        """A message of the peer; one in an INIT, which anybody may have recorded, says nothing."""
        if not event.first_contact:
            self._whereabouts.heard(event, now)

    def data_arrived(self, path: Path, now: Instant) -> None:
        """The data plane got an authenticated packet on a path that it does not send on."""
        self._whereabouts.data_arrived(path, now)

    def verify_path(self, now: Instant) -> None:
        """Something hints that the path may be dead, or that we are at another address: find out now."""
        if self.state in HAVING_PATH:
            self._keepalive.check(now)
        self._channels.check_relays(now)

    def be_heard(self, now: Instant) -> None:
        """A PING on each path, where none is under way."""
        self._keepalive.check(now)
        self._channels.ping_all(now)

    def links_changed(self, now: Instant) -> None:
        """Our own addresses changed: what failed may work now, and the peer must hear where we are."""
        if self.path is not None and not self._engine.addressing.has_family_of(self.path.remote):
            self._drop_direct(now)
        self.verify_path(now)
        self._upgrades.links_changed(now)
        self.start(now)

    def path_moved(self, now: Instant) -> None:
        """Addresses are reached over TCP now, or over UDP again: the path in use among them, or relays."""
        path = self.path
        usual = self._engine.addressing.path_to(path.remote) if path is not None else None
        if usual is not None and path is not None and (usual.socket == TCP) != (path.socket == TCP):
            self._whereabouts.stop_check()
            self._whereabouts.check(usual, now)
        self.verify_path(now)
        self.start(now)

    def left(self, now: Instant) -> None:
        """The peer said LEAVING."""
        self._lose(now)
        self._finder.start_later(now)

    def forget(self, now: Instant) -> None:
        self._finder.forget()
        self._lose(now)
        self.start(now)

    # What the finder asks and tells (wh.paths.finder.Seeker)

    def wants_path(self, now: Instant) -> bool:
        if self.state in HAVING_PATH:
            return False
        return not self._reachability.proved or self._traffic_waits(now)

    def trying(self, now: Instant) -> None:
        self._machine.step(PathInput.TRY)

    def exhausted(self, now: Instant) -> None:
        self._machine.step(PathInput.EXHAUSTED)

    def found(self, answer: Answer, now: Instant) -> None:
        """A candidate answered: we know the path, and the PROBE there showed it to the peer."""
        self._choice.works(answer.path, answer.rtt, now)

    @property
    def has_channel(self) -> bool:
        return bool(self._routes.channels)

    def relays_known(self, relays: Sequence[Relay], now: Instant) -> None:
        """From the peer's record. Traffic that waits goes through a channel meanwhile."""
        if self._traffic_waits(now) and self.state not in HAVING_PATH:
            self._open_channel(relays, now)

    def _traffic_waits(self, now: Instant) -> bool:
        return now.monotonic < self._wanted_until

    # Channels

    def channel_opened(self, channel: Channel, now: Instant) -> None:
        """A relay joined us with the peer. Data goes there at once where nothing better is known."""
        path, by_us = channel.path, channel.opened_by_us
        if not self._channels.admit(channel, now):
            return
        if not by_us and self.state not in HAVING_PATH:
            self._wanted_until = max(self._wanted_until, now.monotonic + WANTED_FOR_S)
        self._routes.add_channel(path, now)
        if self._machine.state in (PathState.IDLE, PathState.VALIDATING):
            self._machine.step(PathInput.CHANNEL)
            self._upgrades.first_channel(now)
        self._relays.wanted(self.key, self.state in ON_CHANNELS, now)
        if by_us:
            self._channels.ping(path, now)
            if self.state in ON_CHANNELS:
                self._more_channels(now)

    def channel_closed(self, path: Path, now: Instant) -> None:
        self._silence.ended(path)
        self._channels.remove(path)
        self._routes.remove_channel(path, now)
        if self._traffic_waits(now):
            self._more_channels(now)
        if self._routes.channels:
            if self.state in ON_CHANNELS:
                self._finder.start_later(now)  # the peer's record will name other relays
            return
        if self.state in ON_CHANNELS:
            self._upgrades.cancel()
            self._machine.step(PathInput.UNRELAYED)
            self._finder.start(now)
        elif self.state is PathState.SUSPECT:
            self._drop_direct(now)

    def _more_channels(self, now: Instant) -> None:
        self._open_channel(self._finder.relays, now)

    def _open_channel(self, relays: Sequence[Relay], now: Instant) -> None:
        wanted = CHANNELS_WANTED if self.state not in HAVING_PATH else 1
        if relays and len(self._routes.channels) < wanted:
            self._relays.open(self.key, relays, now)

    def channel_answered(self, path: Path, rtt: float | None, now: Instant) -> None:
        if rtt is not None:
            self._routes.add_round_trip(path, rtt)
        self._upgrades.channel_answered(path, now)

    def channel_carries(self, path: Path, mtu: int, now: Instant) -> None:
        if mtu and path in self._routes.channels:
            self._routes.set_mtu(path, mtu)

    def spare_channels(self, now: Instant) -> tuple[Path, ...]:
        """All of them where nothing was sent for 180 s, all but one behind a direct path."""
        if self.state in HAVING_PATH:
            return tuple(path for path in self._routes.channels[1:] if self._channels.opened_by_us(path))
        return () if self._traffic_waits(now) else self._routes.channels

    def relay_of(self, path: Path) -> Key | None:
        """Whose channel this is."""
        return self._channels.relay_of(path)

    # From relayed to direct

    def punching(self, now: Instant) -> None:
        """The peer began an attempt."""
        self._upgrades.peer_began()

    def punched(self, path: Path, rtt: float, told: bool, now: Instant) -> None:
        """A PROBE was answered there. told: at an address that the peer told, or that follows from such a
        one; else it is only where its PROBEs came from, which may be copies."""
        self._choice.punched(path, rtt, told, now)

    def socket_adopted(self, socket: int, adopted: int | None, now: Instant) -> bool:
        """Whether it was ours."""
        return self._choice.socket_adopted(socket, adopted, now)

    def punch_ended(self, now: Instant) -> None:
        self._upgrades.ended(now)

    # Having a direct path

    def _proved(self, path: Path, now: Instant, rtt: float = 0.0) -> None:
        self._stop_watching()
        self._finder.stop()
        self._finder.worked(path.remote)
        before = self.path
        if self._machine.step(PathInput.PROVED, path):
            self._routes.set_direct(path, now, rtt)
            self._choice.release(before)
            self._whereabouts.nominate(path, now)
        self._choice.taken(path, now)
        self._relays.wanted(self.key, False, now)
        self._keepalive.start(now)

    def _keepalive_interval(self) -> int:
        return 0 if self._reachability.proved else int(KEEPALIVE_S)

    def _drop_direct(self, now: Instant) -> None:
        """Nothing is heard on it any more. Channels go on, if there are any."""
        if not self._routes.channels:
            self._lose(now)
            self.start(now)
            return
        self._stop_watching()
        self._choice.stop_measuring()
        self._whereabouts.stop_migration()
        before = self.path
        self._machine.step(PathInput.DROPPED)
        self._routes.set_direct(None, now)
        self._choice.release(before)
        self._relays.wanted(self.key, True, now)
        self._wanted_until = max(self._wanted_until, now.monotonic + WANTED_FOR_S)
        self._more_channels(now)
        self._finder.start_later(now)
        self._upgrades.dropped(now)

    def _lose(self, now: Instant) -> None:
        """There is no way to the peer, or no peer."""
        self._cancel_all()
        self._engine.peers.obtain(self.key).session_lost()
        self._engine.emit(ResetSession(self.key))
        self._give_up(now)

    def _give_up(self, now: Instant) -> None:
        self._channels.close_all(now)
        before = self.path
        self._machine.step(PathInput.LOST)
        self._routes.clear()
        self._choice.release(before)

    # Silence

    def silent(self, path: Path, received: int, now: Instant) -> None:
        """Data went out on a path and nothing came back there. It goes on both now; find out which one works,
        and let relays and NATs learn where we are. received: packets that the peer sent so far."""
        if self._silence.concerns(path):
            self._machine.step(PathInput.SILENT)
            self._whereabouts.distrust_no_more()
            self._channels.check_relays(now)
            self._silence.begin(path, received, now)

    def _heard_again(self, path: Path, now: Instant) -> None:
        self._machine.step(PathInput.HEARD)
        self._choice.suspected(path, now)
        self._channels.suspected(path, now)

    def _silence_confirmed(self, path: Path, now: Instant) -> None:
        self._splitting.pause(now)
        self._routes.split(False)
        if path == self.path:
            self._drop_direct(now)
        elif path.channel:
            self._routes.demote_channel(path, now)
            first = self._routes.first
            if first is not None:
                self._whereabouts.nominate(first, now)

    # The end of it

    def _stop_watching(self) -> None:
        """What was to be found out of the path that there was."""
        self._silence.stop()
        self._whereabouts.stop_check()
        self._keepalive.stop()
        self._upgrades.stop()

    def _cancel_all(self) -> None:
        self._stop_watching()
        self._finder.stop()
        self._upgrades.cancel()
        self._choice.stop()
        self._whereabouts.stop()
