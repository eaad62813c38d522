"""The way to one trusted peer: found, relayed, made direct, kept alive, moved (docs/protocol.md 6, 7).

wh.paths.finder finds addresses, wh.paths.channels keeps channels, wh.paths.mtu measures, wh.paths.nomination
agrees with the peer, wh.paths.routes tells the data plane; this decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from wh.engine.commands import AdoptSocket, CloseSocket, ResetSession
from wh.engine.core import Engine
from wh.engine.events import PUNCH_SOCKETS_FROM, TCP, Instant, Key, MessageReceived, Path
from wh.engine.limits import RecentlySeen
from wh.engine.randomness import jittered
from wh.engine.requests import Answer, Request, Requests, Schedule
from wh.engine.timers import Timer
from wh.paths.channels import PeerChannels, Relays
from wh.paths.finder import PathFinder, Reachability, RecordFinder
from wh.paths.flow_splitting import FlowSplitting
from wh.paths.migration import Migration
from wh.paths.mtu import PathMtu
from wh.paths.nomination import Nomination
from wh.paths.routes import Routes
from wh.paths.states import HAVING_PATH, ON_CHANNELS, PathInput, PathState, PeerPath
from wh.relay.choosing import Channel
from wh.wire.address import Address
from wh.wire.fields import NONCE_LEN
from wh.wire.messages import Challenge, Nominate, Ping, PingWant, Probe
from wh.wire.records import Relay

KEEPALIVE_S = 20.0
KEEPALIVE = Schedule((2.0, 4.0), 5.0)
"""A path dies after three keepalives without an answer."""

CHANNELS_WANTED = 2
"""What a pair holds."""

WANTED_FOR_S = 180.0
"""How long traffic is a reason to look for a path, and to hold channels."""

UPGRADE_AFTER_S = (5.0, 15.0, 60.0)
"""Pauses between attempts to make a relayed path direct; the last goes on."""

SUSPECT_FOR_S = 3.0
"""A direct path that stays silent this long is dropped."""

ALTERNATE_LIFETIME_S = 60.0
"""A path that proved itself this recently is no news to the side that nominates."""

LEFT_S = 60.0
LEFT_MAX = 8
"""Direct paths that we gave up: asked there, we do not say that we use them."""

BETTER_S = 0.005
BETTER_SHARE = 0.9
"""Another direct path must be better by 5 ms and 10%."""


class Puncher(Protocol):
    """Hole punching (wh.punch.punching)."""

    def begin(self, peer: Key, channel: Path, now: Instant) -> None: ...

    def cancel(self, peer: Key) -> None: ...

    def why_not(self, peer: Key) -> str:
        """Why the last attempt failed, or none is made; empty where there was none."""


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
        self._puncher = puncher
        self._machine = PeerPath()
        self._routes = Routes(key, engine, self._keepalive_interval)
        self._mtu = PathMtu(key, engine, requests, self._mtu_found)
        self._finder = PathFinder(key, engine, requests, finder, self)
        self._channels = PeerChannels(
            key,
            engine,
            requests,
            relays,
            answered=self._channel_answered,
            spare=self._spare_channels,
            closed=self.channel_closed,
        )
        self._splitting = FlowSplitting()
        self._nomination = Nomination(key, engine, lambda: self._routes.first)
        self._migration = Migration(key, engine, requests, self)
        self._wanted_until = float("-inf")
        self._upgrades = 0
        self._adopting: Path | None = None  # found through a punch socket, which the data plane is to get
        self._measured: Path | None = None  # a direct path that waits for its MTU while another carries data
        self._left = RecentlySeen(LEFT_S, LEFT_MAX)  # direct paths
        self._learned: set[Path] = set()  # those found by hole punching that the peer has not told
        self._received = -1  # packets, when the first path last fell silent
        self._probe: Request | None = None  # a PROBE on the path that fell silent
        self._check: Request | None = None  # a CHALLENGE on a path that the peer seems to have moved to
        self._keepalive: Request | None = None
        self._timer: Timer | None = None  # the next keepalive, or the next upgrade

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
    def candidates(self) -> tuple[Address, ...]:
        return self._finder.candidates

    @property
    def why_relayed(self) -> str:
        """Empty where the path is direct, or there is none."""
        return self._puncher.why_not(self.key) if self.state in ON_CHANNELS else ""

    def keeps_to(self, path: Path, now: Instant) -> bool:
        """Whether our data takes this path as far as we know: false for one that we have left ourselves, as
        for all while there is none. One that we never knew is ours as copies of it are sent to us."""
        if self.path is None:
            return False
        return path == self.path or not self._left.seen(path, now.monotonic)

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

    def session_opened(self, path: Path, now: Instant) -> None:
        """The peer began a session, and confirmed it from `path`."""
        self._nomination.restart()
        if path.channel:
            return
        if self.state in HAVING_PATH and path != self.path:
            self._migration.seen_at(path, now, proved=True)
        else:
            self._proved(path, now)

    def heard(self, event: MessageReceived, now: Instant) -> None:
        """A message in a session. A new address moves nothing by itself (docs/protocol.md section 2)."""
        if event.first_contact:
            return
        if isinstance(event.message, Nominate):
            self._nominated(event.path, event.message.epoch, now)
        elif event.path.channel == 0 and event.path != self.path:
            self._check_path(event.path, now)

    def data_arrived(self, path: Path, now: Instant) -> None:
        """The data plane got an authenticated packet on a path that it does not send on."""
        if path.channel:
            if not self._nomination.is_ours:
                self._routes.prefer_channel(path, now)
        elif path != self.path:
            self._check_path(path, now)

    def verify_path(self, now: Instant) -> None:
        """Something hints that the path may be dead, or that we are at another address: find out now."""
        if self.state in HAVING_PATH and self._keepalive is None:
            self._send_keepalive(now)
        self._channels.check_relays(now)

    def links_changed(self, now: Instant) -> None:
        """Our own addresses changed: what failed may work now, and the peer must hear where we are."""
        self.verify_path(now)
        if self.state is PathState.RELAYED:
            self._upgrades = 0
            self._upgrade(now)
        self.start(now)

    def path_moved(self, now: Instant) -> None:
        """Addresses are reached over TCP now, or over UDP again: the path in use among them, or relays."""
        path = self.path
        usual = self._engine.addressing.path_to(path.remote) if path is not None else None
        if usual is not None and path is not None:
            other_way = (usual.socket == TCP) != (path.socket == TCP)
            if other_way and self._check is None:
                self._begin_check(usual, now)
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
        self._take_direct(answer.path, answer.rtt, now)

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
            self._upgrades = 0
            self._schedule_upgrade(now)
        self._relays.wanted(self.key, self.state in ON_CHANNELS, now)
        if by_us:
            self._channels.ping(path, now)
            if self.state in ON_CHANNELS:
                self._open_channel(self._finder.relays, now)

    def channel_closed(self, path: Path, now: Instant) -> None:
        if self._probe is not None and self._probe.paths == [path]:
            self._requests.cancel(self._probe)
            self._probe = None
        self._channels.remove(path)
        self._routes.remove_channel(path, now)
        if self._traffic_waits(now):
            self._open_channel(self._finder.relays, now)
        if self._routes.channels:
            if self.state in ON_CHANNELS:
                self._finder.start_later(now)  # the peer's record will name other relays
            return
        if self.state in ON_CHANNELS:
            self._puncher.cancel(self.key)
            self._machine.step(PathInput.UNRELAYED)
            self._finder.start(now)
        elif self.state is PathState.SUSPECT:
            self._keepalive_failed(now)

    def _open_channel(self, relays: Sequence[Relay], now: Instant) -> None:
        wanted = CHANNELS_WANTED if self.state not in HAVING_PATH else 1
        if relays and len(self._routes.channels) < wanted:
            self._relays.open(self.key, relays, now)

    def _channel_answered(self, path: Path, rtt: float | None, now: Instant) -> None:
        if rtt is not None:
            self._routes.add_round_trip(path, rtt)
        if self._upgrades == 0 and self._channels.opened_by_us(path):
            self._upgrade(now)

    def _spare_channels(self, now: Instant) -> tuple[Path, ...]:
        """All of them where nothing was sent for 180 s, all but one behind a direct path."""
        if self.state in HAVING_PATH:
            return tuple(path for path in self._routes.channels[1:] if self._channels.opened_by_us(path))
        return () if self._traffic_waits(now) else self._routes.channels

    def relay_of(self, path: Path) -> Key | None:
        """Whose channel this is."""
        return self._channels.relay_of(path)

    # From relayed to direct

    def _schedule_upgrade(self, now: Instant) -> None:
        after = UPGRADE_AFTER_S[min(max(self._upgrades - 1, 0), len(UPGRADE_AFTER_S) - 1)]
        self._set_timer(now.monotonic + jittered(self._engine.rng, after), self._upgrade)

    def _upgrade(self, now: Instant) -> None:
        """Try what may be reachable, and punch; who opened the channel begins."""
        if self.state is not PathState.RELAYED:
            return
        self._upgrades += 1
        self._schedule_upgrade(now)
        if self._upgrades > 1:
            self._open_channel(self._finder.relays, now)
        first = self._routes.first
        if first is not None and (self._channels.opened_by_us(first) or self._upgrades > 1):
            self._machine.step(PathInput.PUNCH)
            self._puncher.begin(self.key, first, now)

    def punching(self, now: Instant) -> None:
        """The peer began an attempt."""
        self._machine.step(PathInput.PUNCH)

    def punched(self, path: Path, rtt: float, told: bool, now: Instant) -> None:
        """A PROBE was answered there. told: at an address that the peer told, or that follows from such a
        one; else it is only where its PROBEs came from, which may be copies."""
        if not told:
            self._learned.add(path)
        if path.socket < PUNCH_SOCKETS_FROM:
            self._requests.validated(self._engine.peers.obtain(self.key), path, now)
            self._take_direct(path, rtt, now)
        elif self.state not in HAVING_PATH and (
            self._adopting is None or self._gives_way(self._adopting, path)
        ):
            self._adopting = path
            self._engine.emit(AdoptSocket(path.socket))

    def _gives_way(self, held: Path, found: Path) -> bool:
        """An address that the peer has told counts more than one that it has not."""
        return held in self._learned and found not in self._learned

    def socket_adopted(self, socket: int, adopted: int | None, now: Instant) -> bool:
        """Whether it was ours."""
        path = self._adopting
        if path is None or path.socket != socket:
            return False
        self._adopting = None
        if adopted is not None:
            moved = Path(adopted, path.remote)
            if path in self._learned:
                self._learned.add(moved)
            self._requests.validated(self._engine.peers.obtain(self.key), moved, now)
            self._take_direct(moved, 0.0, now)
        return True

    def punch_ended(self, now: Instant) -> None:
        """The next attempt's pause begins now: this one may have taken longer than that."""
        self._machine.step(PathInput.PUNCHED)
        if self.state is PathState.RELAYED:
            self._schedule_upgrade(now)

    def _leave(self, now: Instant) -> None:
        """For a path of our own choice. Not where the peer seems to have moved, nor for what only its packets
        spoke for: what copies come by is never a path that we have left."""
        if self.path is not None and self.path not in self._learned:
            self._left.note(self.path, now.monotonic)

    def _take_direct(self, path: Path, rtt: float, now: Instant) -> None:
        """A direct path works. Where a channel carries data it goes on doing so until the path's MTU is
        known."""
        if self.state in HAVING_PATH and path != self.path and not self._is_better(path, rtt):
            return
        if self.state not in ON_CHANNELS:
            if path != self.path:
                self._leave(now)
            self._proved(path, now, rtt)
        elif self._measured is None or self._gives_way(self._measured, path):
            self._measured = path
            self._mtu.start(path, now)

    def _is_better(self, path: Path, rtt: float) -> bool:
        """No round trip is known of a path that was adopted just now."""
        if self.path is not None and self._gives_way(self.path, path):
            return True
        if path in self._learned:
            return False
        current = self._routes.round_trip_s(self.path) if self.path is not None else None
        return current is not None and 0.0 < rtt < min(current - BETTER_S, current * BETTER_SHARE)

    def _mtu_found(self, path: Path, mtu: int, now: Instant) -> None:
        """Where not even the smallest size passes, the path may be dead; then its keepalives tell."""
        waits, self._measured = path == self._measured, None
        if mtu:
            self._routes.set_mtu(path, mtu)
        elif waits:
            self._mtu.stop()
        if mtu and waits and self.state in ON_CHANNELS:
            self._proved(path, now)

    # Having a direct path

    def _proved(self, path: Path, now: Instant, rtt: float = 0.0) -> None:
        self._cancel_requests()
        self._finder.stop()
        self._finder.worked(path.remote)
        self._learned &= {path}
        before = self.path
        if self._machine.step(PathInput.PROVED, path):
            self._routes.set_direct(path, now, rtt)
            self._release(before)
            self._nomination.say(path, now)
        if self._mtu.path != path:
            self._mtu.start(path, now)
        self._relays.wanted(self.key, False, now)
        self._schedule_keepalive(now)

    def _keepalive_interval(self) -> int:
        return 0 if self._reachability.proved else int(KEEPALIVE_S)

    def _drop_direct(self, now: Instant) -> None:
        """Nothing is heard on it any more. Channels go on, if there are any."""
        if not self._routes.channels:
            self._lose(now)
            self.start(now)
            return
        self._cancel_requests()
        self._cancel_timer()
        self._mtu.stop()
        self._migration.stop()
        before = self.path
        self._machine.step(PathInput.DROPPED)
        self._routes.set_direct(None, now)
        self._release(before)
        self._relays.wanted(self.key, True, now)
        self._wanted_until = max(self._wanted_until, now.monotonic + WANTED_FOR_S)
        self._upgrades = 1
        self._open_channel(self._finder.relays, now)
        self._finder.start_later(now)
        self._upgrade(now)

    def _release(self, former: Path | None) -> None:
        """A socket that hole punching made for this path goes with it."""
        if former is None or self._engine.addressing.is_main_socket(former.socket):
            return
        if self.path is None or self.path.socket != former.socket:
            self._engine.emit(CloseSocket(former.socket))

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
        self._release(before)

    # Keeping it

    def _schedule_keepalive(self, now: Instant) -> None:
        self._set_timer(now.monotonic + jittered(self._engine.rng, KEEPALIVE_S), self._keepalive_due)

    def _keepalive_due(self, now: Instant) -> None:
        """Silence is what needs a PING; one side's PINGs keep the path for both."""
        heard_at = self._engine.peers.obtain(self.key).heard_at
        quiet_at = now.monotonic if heard_at is None else heard_at + KEEPALIVE_S * 0.8
        if quiet_at > now.monotonic and not self._routes.channels:
            self._set_timer(quiet_at, self._keepalive_due)
        else:
            self._send_keepalive(now)

    def _send_keepalive(self, now: Instant) -> None:
        if self.path is None:
            return
        self._keepalive = self._requests.start(
            self.key,
            [self.path],
            Ping(0, PingWant.ECHO, 0, self._engine.rng.randbytes(NONCE_LEN)),
            now,
            on_answer=self._keepalive_answered,
            on_failure=self._keepalive_failed,
            schedule=KEEPALIVE,
            speculative=bool(self._routes.channels),
        )

    def _keepalive_answered(self, answer: Answer, now: Instant) -> None:
        self._keepalive = None
        self._routes.add_round_trip(answer.path, answer.rtt)
        self._schedule_keepalive(now)

    def _keepalive_failed(self, now: Instant) -> None:
        self._keepalive = None
        self._drop_direct(now)

    # Silence

    def silent(self, path: Path, received: int, now: Instant) -> None:
        """Data went out on a path and nothing came back there. It goes on both now; find out which one works,
        and let relays and NATs learn where we are. received: packets that the peer sent so far."""
        if path not in self._routes.in_use or self._probe is not None:
            return
        self._machine.step(PathInput.SILENT)
        self._migration.distrust_no_more()
        one_way, self._received = received == self._received, received
        self._channels.check_relays(now)
        number = int.from_bytes(self._engine.rng.randbytes(4), "little")
        self._probe = self._requests.start(
            self.key,
            [path],
            Probe(0, number, number),
            now,
            on_answer=lambda answer, then: self._silence_answered(answer, one_way, then),
            on_failure=lambda then: self._silence_confirmed(path, then),
            schedule=_suspect_schedule(self._routes.silence_s),
            speculative=bool(self._routes.second),
        )

    def _silence_answered(self, answer: Answer, one_way: bool, now: Instant) -> None:
        at_once = self._probe is not None and self._probe.sends == 1
        self._probe = None
        self._machine.step(PathInput.HEARD)
        self._routes.add_round_trip(answer.path, answer.rtt)
        self._routes.heard_again(at_once=at_once, one_way=one_way)
        self._mtu.suspected(answer.path, now)

    def _silence_confirmed(self, path: Path, now: Instant) -> None:
        self._probe = None
        self._splitting.pause(now)
        self._routes.split(False)
        if path == self.path:
            self._drop_direct(now)
        elif path.channel:
            self._routes.demote_channel(path, now)
            first = self._routes.first
            if first is not None:
                self._nomination.say(first, now)

    # Agreeing on one of several paths

    def _nominated(self, path: Path, epoch: int, now: Instant) -> None:
        if not self._nomination.heard(epoch):
            return
        if path.channel:
            if self.state in ON_CHANNELS:
                self._routes.prefer_channel(path, now)
        elif path != self.path:
            self._check_path(path, now)

    def _check_path(self, path: Path, now: Instant) -> None:
        """The peer's packets come from there now. Where there is a path, wh.paths.migration decides."""
        if not self._engine.addressing.may_send_to(path.remote) or path.socket >= PUNCH_SOCKETS_FROM:
            return
        if self.state not in HAVING_PATH:
            if self._check is None:
                self._begin_check(path, now)
            return
        lately = self._engine.peers.obtain(self.key).is_validated(path, now, ALTERNATE_LIFETIME_S)
        if not (lately and self._nomination.is_ours):
            self._migration.seen_at(path, now, proved=lately)

    # What wh.paths.migration says (wh.paths.migration.Mover)

    def on_trial(self, path: Path | None, now: Instant) -> None:
        self._routes.set_trial(path)

    def moved(self, path: Path, rtt: float, now: Instant) -> None:
        if self.state in HAVING_PATH:
            self._proved(path, now, rtt)

    def _begin_check(self, path: Path, now: Instant) -> None:
        peer = self._engine.peers.obtain(self.key)
        nonce = self._engine.rng.randbytes(NONCE_LEN)
        self._check = self._requests.start(
            self.key,
            [path],
            Challenge(0, nonce) if peer.session else Ping(0, PingWant.ECHO, 0, nonce),
            now,
            on_answer=self._check_answered,
            on_failure=self._check_failed,
            speculative=True,
        )

    def _check_answered(self, answer: Answer, now: Instant) -> None:
        """What hole punching opened is not ours before its socket is adopted."""
        self._check = None
        if answer.path.channel or answer.path.socket >= PUNCH_SOCKETS_FROM:
            return
        if self.state in HAVING_PATH:
            self._leave(now)
            self._proved(answer.path, now, answer.rtt)
        else:
            self._take_direct(answer.path, answer.rtt, now)

    def _check_failed(self, now: Instant) -> None:
        self._check = None

    # Timers and requests

    def _set_timer(self, when: float, callback: Callable[[Instant], None]) -> None:
        self._cancel_timer()
        self._timer = self._engine.timers.call_at(when, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel_requests(self) -> None:
        for request in (self._probe, self._check, self._keepalive):
            self._requests.cancel(request)
        self._probe = self._check = self._keepalive = None

    def _cancel_all(self) -> None:
        self._cancel_requests()
        self._cancel_timer()
        self._finder.stop()
        self._mtu.stop()
        self._puncher.cancel(self.key)
        self._measured = self._adopting = None
        self._learned.clear()
        self._migration.stop()
        self._nomination.stop()


def _suspect_schedule(silence_s: float) -> Schedule:
    """Again after the time that was too long already, then with growing pauses."""
    after = [silence_s]
    while (following := 2 * after[-1]) < SUSPECT_FOR_S:
        after.append(following)
    return Schedule(tuple(each for each in after if each < SUSPECT_FOR_S), SUSPECT_FOR_S)
