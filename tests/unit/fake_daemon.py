"""A daemon's local socket with canned answers, served from a thread: for tests of the client and of `wh`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, Self

from wh.errors import Code, ConfigError, ConfigErrors, IpcError
from wh.ipc import schema
from wh.ipc.paths import socket_path
from wh.ipc.server import Handler, IpcServer, Progress
from wh.trust.invitation import Invitation, encode
from whcore.keys import SecretKey, decode_key

OWN_KEY = "zW-1lBeQ7IkT6NW6hL_NsV4eOPOwJi_rt1vO-omOEmQ"
PEER_KEY = "g878Bf9ZDc4IzFSUhWFTO1VYFVmHD5XfvEsVn83Dsho"

PEER = schema.PeerInfo(
    public_key=PEER_KEY,
    hostname="node_b",
    kind="trust",
    address="10.0.42.3",
    orchid="2001:20::2",
    state="direct",
    endpoint="192.0.2.9:7",
    rtt_ms=12.34,
)
STATUS = schema.Status(
    interface="wh0",
    has_interface=True,
    network="tutorial",
    namespace="public",
    public_key=OWN_KEY,
    hostname="node_a",
    address="10.0.42.2",
    orchid="2001:20::1",
    listen_port=4242,
    mode="unknown",
    reachability="nat",
    nat=None,
    candidates=["192.0.2.1:4242"],
    version="2.0",
    pid=1,
    started_unix=1_000_000.0,
    config_path="/etc/net",
    peers=[PEER],
    dht=schema.DhtInfo(servers=1, stored_records=0),
)
INVITATION = encode(Invitation(decode_key(PEER_KEY), bytes(range(16))))
PLACE = schema.Authenticated(
    public_key=PEER_KEY,
    name="guest",
    addresses=["10.0.42.4"],
    subnet="10.0.42.0/24",
    server_name="node_b",
    server_addresses=["10.0.42.3"],
    endpoint="192.0.2.9:7",
    check_words=["acid", "barn", "cactus"],
)

NETCHECK = schema.NetCheck(
    interface="wh0",
    hostname="node_a",
    listen_port=4242,
    udp="works",
    families=[
        schema.FamilyCheck(4, ["192.168.1.2"], ["203.0.113.5:999"], "endpoint-independent", "unknown"),
        schema.FamilyCheck(6, [], [], "unknown", "unknown"),
    ],
    hairpinning=False,
    gateways=["192.168.1.1"],
    searching=False,
    port_mappings=[
        schema.MappingCheck(
            "PCP", 4, "192.168.1.1", "maps", "udp", "203.0.113.5:14242", 3700.0, verified=True
        ),
        schema.MappingCheck("UPnP IGD", 4, "192.168.1.1", "there", external="203.0.113.5"),
    ],
    relays=[schema.NearRelay(OWN_KEY, "192.0.2.9:7", 12.34, reserved=True)],
    peers=[schema.PeerCheck(PEER_KEY, "node_b", "relayed", OWN_KEY, "both NATs are random")],
)

HEALTH = schema.Health(
    interface="wh0",
    healthy=True,
    place="host",
    public_key=OWN_KEY,
    servers=1,
    members=2,
    direct=1,
    relayed=0,
    over_tcp=False,
    problems=[],
)


class FakeDaemon:
    """Context manager. calls: what was asked, in order, as (verb, arguments)."""

    def __init__(self, interface: str = "wh0", handlers: Mapping[str, Handler] | None = None) -> None:
        self.interface = interface
        self.passed: list[bytes] = []  # public halves of keys that came as files
        self.calls: list[tuple[str, dict[str, str]]] = []
        self._replacements = dict(handlers or {})
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._up.wait(10):
            raise RuntimeError("the fake daemon did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        """As the daemon does, the runner ends the task of a caller who came late."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = IpcServer(socket_path(self.interface), {**self._canned(), **self._replacements})
        await server.start()
        self._up.set()
        await self._stop.wait()
        await server.close()

    def _canned(self) -> dict[str, Handler]:
        answers = {
            "status": self._status,
            "netcheck": self._netcheck,
            "health": self._health,
            "resolve": self._resolve,
            "lookup": self._lookup,
            "ping": self._ping,
            "down": self._down,
            "reload": self._reload,
            "forget": self._forget,
            "invite": self._invite,
            "authenticate": self._authenticate_by_file,
            "claim": self._authenticate,
            "revoke": self._revoke,
        }
        return {verb: self._recorded(verb, answer) for verb, answer in answers.items()}

    def _recorded(self, verb: str, handler: Handler) -> Handler:
        async def record(arguments: Any, progress: Progress) -> Any:
            fields = {name: getattr(arguments, name) for name in arguments.__struct_fields__}
            self.calls.append((verb, fields))
            return await handler(arguments, progress)

        return record

    async def _status(self, arguments: schema.NoArguments, progress: Progress) -> schema.Status:
        return STATUS

    async def _netcheck(self, arguments: schema.NoArguments, progress: Progress) -> schema.NetCheck:
        return NETCHECK

    async def _health(self, arguments: schema.NoArguments, progress: Progress) -> schema.Health:
        return HEALTH

    async def _resolve(self, arguments: schema.ResolveArguments, progress: Progress) -> schema.ResolveResult:
        if arguments.name == "nobody":
            raise IpcError("no such name", code=Code.UNKNOWN_PEER)
        return schema.ResolveResult(arguments.name, PEER_KEY, "node_b", ["10.0.42.3", "2001:20::2"])

    async def _lookup(self, arguments: schema.PeerArguments, progress: Progress) -> schema.LookupResult:
        progress(schema.LookupProgress(asked=1, closest_bucket=3))
        progress(schema.LookupProgress(asked=2, closest_bucket=9))
        if arguments.peer == "nobody":
            return schema.LookupResult(PEER_KEY, False, [], [], 2, 7.0)
        return schema.LookupResult(PEER_KEY, True, ["192.0.2.9:7"], [OWN_KEY], 2, 7.0)

    async def _ping(self, arguments: schema.PeerArguments, progress: Progress) -> schema.PingResult:
        if arguments.peer == "nobody":
            raise IpcError("no such name", code=Code.UNKNOWN_PEER)
        if arguments.peer == "silent":
            raise IpcError("the peer does not answer", code=Code.NO_ANSWER, hint="is it up?")
        return schema.PingResult(PEER_KEY, "node_b", "192.0.2.9:7", 1.5, None)

    async def _down(self, arguments: schema.NoArguments, progress: Progress) -> schema.Nothing:
        self._stop.set()
        return schema.Nothing()

    async def _reload(self, arguments: schema.NoArguments, progress: Progress) -> schema.Reloaded:
        if self.interface != "broken":
            return schema.Reloaded(added=["node_c"], removed=[], changed=[])
        first = ConfigError(
            "unknown word 'trsut'", code=Code.UNKNOWN_WORD, hint="did you mean trust?", place="/net:3:1"
        )
        raise ConfigErrors((first, ConfigError("no key", code=Code.NO_PEER_KEY, place="/net:4:7")))

    async def _invite(self, arguments: schema.InviteArguments, progress: Progress) -> schema.Invited:
        expires = None if arguments.expires_s is None else 1_700_000_000 + arguments.expires_s
        return schema.Invited(INVITATION, arguments.name, PEER_KEY, "10.0.42.4", expires)

    async def _authenticate_by_file(
        self, arguments: schema.AuthenticateArguments, progress: Progress
    ) -> schema.Authenticated:
        secret = SecretKey.read_fd(arguments.descriptor)
        self.passed.append(secret.public_key)
        secret.close()
        return PLACE

    async def _authenticate(self, arguments: Any, progress: Progress) -> schema.Authenticated:
        return PLACE

    async def _revoke(self, arguments: schema.PeerArguments, progress: Progress) -> schema.Revoked:
        return schema.Revoked(PEER_KEY, arguments.peer, "alias" if arguments.peer == "guest" else "trust")

    async def _forget(self, arguments: schema.PeerArguments, progress: Progress) -> schema.Nothing:
        return schema.Nothing()
