"""The commands about who comes and who goes, and the files that `wh join` makes."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import msgspec
import programs
import pytest
from command_line import NETWORK, Wh
from fake_daemon import INVITATION, OWN_KEY, PEER_KEY, PLACE, FakeDaemon

from wh.config.model import Network, PeerKind
from wh.config.parser import load, parse
from wh.config.writer import render
from wh.daemon import host_facts
from wh.errors import Code, InvitationError, IpcError, SystemSetupError
from wh.ipc import schema
from wh.ipc.schema import Ready
from wh.system.exit_codes import (
    EXIT_BAD_CONFIG,
    EXIT_BAD_INVITATION,
    EXIT_FAILED,
    EXIT_NO_DAEMON,
    EXIT_OK,
    EXIT_USAGE,
)
from wh.trust.degrees import Held, Holding, HostFacts
from wh.trust.invitation import Flag, Invitation, encode
from wh.wire.address import pack
from whcore.keys import SecretKey, decode_key, encode_key_wg, workbit
from whtools import launcher
from whtools.commands.join import join, network_of, waiting_room
from whtools.launcher import Launch

SERVER, OWN = decode_key(PEER_KEY), decode_key(OWN_KEY)
BOOT, STRANGER = bytes([9]) + bytes(31), bytes([9, 9]) + bytes(30)
INVITED = Invitation(
    SERVER,
    bytes(range(16)),
    bootstraps=((BOOT, pack("192.0.2.7", 62096)),),
    network_name="home",
    namespace="family",
    workbit=2,
    network_secret=bytes(range(32)),
    subnet=ip_network("10.0.42.0/24"),
    guides=((STRANGER, pack("192.0.2.8", 62096)), (SERVER, pack("127.0.0.1", 62096))),
)


def held(holding: Holding, *networks: str) -> list[Held]:
    return [Held(holding, ip_network(network)) for network in networks]


@pytest.fixture
def wh(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Wh:
    monkeypatch.setenv("WH_RUNDIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").write_text(NETWORK)
    monkeypatch.setattr(host_facts, "collect", lambda names=(): HostFacts())
    monkeypatch.setattr(host_facts, "rehearse_interface", lambda name: None)
    return Wh(capfd, monkeypatch)


@pytest.fixture
def daemon(wh: Wh) -> Iterator[FakeDaemon]:
    with FakeDaemon() as running:
        yield running


# invite, revoke, authenticate


def test_an_invitation_is_alone_on_standard_output(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("invite", "guest", "expires", "90m") == EXIT_OK
    assert wh.out == f"{INVITATION}\n"
    assert "guest" in wh.err
    assert "10.0.42.4" in wh.err
    assert daemon.calls == [("invite", {"name": "guest", "expires_s": 5400})]


def test_who_invites_hears_what_nobody_will_take(wh: Wh) -> None:
    far = encode(replace(INVITED, subnet=ip_network("203.0.113.0/24")))

    async def invited(arguments: Any, progress: Any) -> schema.Invited:
        return schema.Invited(far, arguments.name, PEER_KEY, "203.0.113.4", None)

    with FakeDaemon(handlers={"invite": invited}):
        assert wh("invite", "router") == EXIT_OK
    assert wh.out == f"{far}\n"
    assert "subnet 203.0.113.0/24" in wh.err
    assert "the name router" in wh.err


def test_an_invitation_that_could_not_be_printed_is_taken_back(daemon: FakeDaemon) -> None:
    for words in (["invite", "guest"], ["invite", "guest", "json"]):
        ran = programs.run("wh", *words, full=(1,))
        assert (ran.returncode, b"WH131" in ran.stderr) == (1, True)
    calls = [call for call in daemon.calls if call[0] == "revoke"]
    assert calls == [("revoke", {"peer": PEER_KEY})] * 2


def test_who_invites_hears_of_a_name_that_resolvers_refuse(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("invite", "node_c") == EXIT_OK
    assert "systemd-resolved refuses" in wh.err and "node_c" in wh.err
    assert wh("invite", "node-c") == EXIT_OK
    assert "refuses" not in wh.err


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("90s", 90), ("1h", 3600), ("2d", 172800)])
def test_times_have_units(wh: Wh, daemon: FakeDaemon, text: str, seconds: int) -> None:
    assert wh("invite", "guest", "--expires", text, "--json") == EXIT_OK
    assert json.loads(wh.out)["expires_unix"] == 1_700_000_000 + seconds


@pytest.mark.parametrize("text", ["0", "h", "1w", "-1h", "1.5h", "99999d", "\u0661h"])
def test_times_that_are_none_are_refused(wh: Wh, daemon: FakeDaemon, text: str) -> None:
    assert wh("invite", "guest", f"--expires={text}") == EXIT_USAGE
    assert daemon.calls == []


def test_a_qr_code_holds_the_invitation_in_capitals(wh: Wh, daemon: FakeDaemon) -> None:
    import segno

    assert wh("invite", "guest", "qr") == EXIT_OK
    code = segno.make(INVITATION.upper(), error="l")
    assert code.mode == "alphanumeric"
    assert len(wh.out.splitlines()) == 1 + (code.symbol_size(border=4)[1] + 1) // 2


def test_several_interfaces_need_a_name(wh: Wh, daemon: FakeDaemon) -> None:
    with FakeDaemon("wh1") as other:
        assert wh("invite", "guest") == EXIT_USAGE
        assert "wh0 | wh1" in wh.err
        assert wh("revoke", "guest", "interface", "wh1") == EXIT_OK
        assert other.calls == [("revoke", {"peer": "guest"})]
    assert daemon.calls == []


def test_without_a_daemon_nobody_is_invited(wh: Wh) -> None:
    assert wh("invite", "guest") == EXIT_NO_DAEMON


def test_a_revocation_tells_what_was_revoked(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("revoke", "guest") == EXIT_OK
    assert wh.out == "revoked the invitation of guest\n"
    assert wh("revoke", "node_b") == EXIT_OK
    assert wh.out == "revoked the member node_b\n"
    assert wh("revoke", "node_b", "json") == EXIT_OK
    assert json.loads(wh.out)["kind"] == "trust"


def test_the_key_of_an_alias_is_passed_as_an_open_file(
    wh: Wh, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alias = SecretKey.generate()
    with open("alias.sk", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        alias.write_fd(file.fileno())
    assert wh("authenticate", "wh0", "node_b", "alias.sk") == EXIT_OK
    assert wh.out == "you are guest, 10.0.42.4\ncheck words: acid barn cactus (node_b shows the same)\n"
    ((verb, arguments),) = daemon.calls
    assert (verb, arguments["peer"]) == ("authenticate", "node_b")
    assert daemon.passed == [alias.public_key]
    assert wh("authenticate", "wh0", "node_b", "alias.sk", "json") == EXIT_OK
    assert json.loads(wh.out) == json.loads(msgspec.json.encode(PLACE))
    assert wh("authenticate", "wh0", "node_b", "none.sk") != EXIT_OK


def test_a_verb_that_takes_a_file_is_refused_without_one(wh: Wh, daemon: FakeDaemon) -> None:
    """And no number in the request stands for one of the daemon's own."""
    assert wh("ipc", "wh0", "authenticate", '{"peer": "node_b", "descriptor": 2}') != EXIT_OK
    assert "a file was to come" in wh.err
    assert daemon.calls == []


# join: what it refuses before it does anything


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", "WH140"),
        (INVITATION[:-5], "WH141"),
        (INVITATION[:60] + ("a" if INVITATION[60] != "a" else "b") + INVITATION[61:], "WH142"),
        ("wh3" + INVITATION[3:], "WH143"),
        (encode(replace(INVITED, expiry=1)), "WH144"),
        (encode(replace(INVITED, flags=Flag.STREAM)), "WH140"),
    ],
)
@pytest.mark.parametrize("way", ["word", "file", "stdin", "variable"])
def test_invitations_that_let_nobody_in_are_told_apart(
    wh: Wh, monkeypatch: pytest.MonkeyPatch, way: str, text: str, code: str
) -> None:
    Path("word").write_text(f"{text}\n")
    monkeypatch.setenv("WH_INVITATION", text)
    words = {"word": [text], "file": ["./word"], "stdin": ["-"], "variable": []}[way]
    assert wh("join", *words, "config", "./made", stdin=text) == EXIT_BAD_INVITATION
    assert code in wh.err
    assert "fix:" in wh.err
    assert not Path("made").exists()
    assert not Path("made.sk").exists()


def test_no_daemon_inherits_the_invitation(wh: Wh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WH_INVITATION", encode(replace(INVITED, expiry=1)))
    assert wh("join", "config", "./made") == EXIT_BAD_INVITATION
    assert "WH_INVITATION" not in os.environ


def test_an_invitation_must_come_from_somewhere(wh: Wh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WH_INVITATION", raising=False)
    assert wh("join", "config", "./made") == EXIT_USAGE
    assert wh("join", "./nowhere", "config", "./made") == EXIT_BAD_INVITATION


def test_an_invitation_for_oneself_is_told(wh: Wh) -> None:
    secret = SecretKey.generate()
    with Path("own.sk").open("wb") as file:
        secret.write_fd(file.fileno())
    Path("own.sk").chmod(0o600)
    own = encode(replace(INVITED, server_key=secret.public_key))
    assert wh("join", own, "private-key", "own.sk", "config", "./made") == EXIT_BAD_INVITATION
    assert "WH145" in wh.err


def test_nothing_is_overwritten(wh: Wh) -> None:
    assert wh("join", INVITATION, "config", "./net") == EXIT_BAD_CONFIG
    assert "exists" in wh.err
    assert not Path("net.sk").exists()


# join: the whole way, with daemons that only answer


class Launches:
    """Stands in for whtools.launcher.run_in_background. networks: what each daemon was given."""

    def __init__(self, claim_error: IpcError | None = None) -> None:
        self.networks: list[Network] = []
        self.keys: list[bytes] = []
        self._claim_error = claim_error
        self._running: list[FakeDaemon] = []

    def run(self, launch: Launch, log: Path) -> Ready:
        self.networks.append(parse(os.read(launch.config_fd, 1 << 16).decode()))
        self.keys.append(SecretKey.read_fd(launch.key_fd).public_key)
        handlers = {} if self._claim_error is None else {"claim": self._refuse}
        self._running.append(FakeDaemon(launch.interface, handlers))
        self._running[-1].__enter__()
        address = "10.0.42.4" if self.networks[-1].subnet else None
        return Ready(launch.interface, bool(address), "k", address, 4242, ["no IPv6 here"] * bool(address))

    async def _refuse(self, arguments: Any, progress: Any) -> schema.Authenticated:
        assert self._claim_error is not None
        raise self._claim_error

    def close(self) -> None:
        for daemon in self._running:
            daemon.__exit__()


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Launches]]:
    made: list[Launches] = []

    def replace_launcher(claim_error: IpcError | None = None) -> Launches:
        made.append(Launches(claim_error))
        monkeypatch.setattr(launcher, "run_in_background", made[-1].run)
        return made[-1]

    yield replace_launcher
    for each in made:
        each.close()


def test_join_claims_in_a_waiting_room_and_then_goes_in(wh: Wh, launch: Callable[..., Launches]) -> None:
    launches = launch()
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5") == EXIT_OK
    waiting, inside = launches.networks
    assert (waiting.subnet, str(inside.subnet)) == (None, "10.0.42.0/24")
    assert launches.keys[0] == launches.keys[1]
    assert workbit(launches.keys[0], b"family") >= INVITED.workbit
    assert load("made") == inside
    assert inside == network_of(INVITED, PLACE, launches.keys[0])
    with Path("made.sk").open() as file:
        assert SecretKey.read_fd(file.fileno()).public_key == launches.keys[0]
    assert stat.S_IMODE(Path("made").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("made.sk").stat().st_mode) == 0o600
    assert wh.out.splitlines() == [
        f"invitation to network home, subnet 10.0.42.0/24, from {PEER_KEY}",
        "subnet 10.0.42.0/24",
        "name guest: 10.0.42.4",
        "name node_b: 10.0.42.3",
        "interface wh5, network home, address 10.0.42.4, port 4242",
        "you are guest, 10.0.42.4",
        "check words: acid barn cactus (node_b shows the same)",
    ]
    assert "no IPv6 here" in wh.err


def test_join_tells_all_in_json(wh: Wh, launch: Callable[..., Launches]) -> None:
    launch()
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5", "json") == EXIT_OK
    told = json.loads(wh.out)
    assert told["ready"]["interface"] == "wh5"
    assert told["place"]["check_words"] == ["acid", "barn", "cactus"]


def test_a_claim_that_was_refused_leaves_nothing(wh: Wh, launch: Callable[..., Launches]) -> None:
    launch(IpcError("used", code=Code.INVITATION_USED, hint="ask"))
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5") == EXIT_BAD_INVITATION
    assert "WH146" in wh.err
    assert not Path("made").exists()
    assert not Path("made.sk").exists()
    assert wh("show", "interfaces") == EXIT_OK
    assert wh.out == ""


def test_a_claim_that_had_no_answer_keeps_the_key_for_another(
    wh: Wh, launch: Callable[..., Launches]
) -> None:
    launches = launch(IpcError("silence", code=Code.NO_ANSWER))
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5") == EXIT_FAILED
    assert "private-key made.sk" in wh.err
    assert not Path("made").exists()
    again = launch()
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5") == EXIT_OK
    assert again.keys[0] == launches.keys[0]


def test_what_failed_after_the_claim_is_finished_by_the_same_join_without_another(
    wh: Wh, launch: Callable[..., Launches], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = launch()
    answers = iter([first.run])
    taken = SystemSetupError("eth0 has a route", code=Code.ROUTE_TAKEN)

    def fail_second(launched: Launch, log: Path) -> Ready:
        for run in answers:
            return run(launched, log)
        raise taken

    monkeypatch.setattr(launcher, "run_in_background", fail_second)
    words = ("join", encode(INVITED), "config", "made", "interface", "wh5")
    assert wh(*words) == EXIT_FAILED
    assert "WH221" in wh.err and "wh up " in wh.err and "made.sk" in wh.err
    again = launch(IpcError("used", code=Code.INVITATION_USED))  # nobody claims
    assert wh(*words) == EXIT_OK
    assert [network.subnet for network in again.networks] == [ip_network("10.0.42.0/24")]
    assert again.keys == first.keys


def test_who_may_make_no_interface_claims_nothing(
    wh: Wh, launch: Callable[..., Launches], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise SystemSetupError(f"no permission to make {name}", code=Code.NOT_PERMITTED)

    monkeypatch.setattr(host_facts, "rehearse_interface", refuse)
    launches = launch()
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5") == 4
    assert launches.networks == []
    assert not Path("made").exists()
    assert not Path("made.sk").exists()


def test_a_key_that_was_there_before_is_never_removed(wh: Wh, launch: Callable[..., Launches]) -> None:
    launch(IpcError("used", code=Code.INVITATION_USED))
    with Path("made.sk").open("wb") as file:
        SecretKey.generate().write_fd(file.fileno())
    Path("made.sk").chmod(0o600)
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5") == EXIT_BAD_INVITATION
    assert Path("made.sk").exists()


# join: what the host does not take from others


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[HostFacts], None]]:
    yield lambda host: monkeypatch.setattr(host_facts, "collect", lambda names=(): host)


@pytest.mark.parametrize(
    "host",
    [
        HostFacts(held(Holding.ADDRESS, "10.0.0.0/16")),
        HostFacts(held(Holding.ROUTE, "0.0.0.0/0", "10.0.42.128/25")),
        HostFacts(held(Holding.GATEWAY, "10.0.42.1/32")),
        HostFacts(held(Holding.RESOLVER, "10.0.42.53/32")),
    ],
)
def test_a_subnet_that_this_host_has_a_part_of_makes_nothing(
    wh: Wh, launch: Callable[..., Launches], facts: Callable[[HostFacts], None], host: HostFacts
) -> None:
    launches = launch()
    facts(host)
    files = ("config", "made", "interface", "wh5")
    assert wh("join", encode(INVITED), *files) == EXIT_BAD_INVITATION
    assert "WH149" in wh.err
    assert "subnet 10.0.42.0/24" in wh.err
    assert not list(Path().glob("made*"))
    assert launches.networks == []
    assert wh("join", encode(INVITED), *files, "subnet", "10.0.43.0/24") == EXIT_BAD_INVITATION
    assert wh("join", encode(INVITED), *files, "subnet", "10.0.42.1/24") == EXIT_OK


def test_a_subnet_that_is_said_only_after_the_claim_is_judged_then(
    wh: Wh, launch: Callable[..., Launches], facts: Callable[[HostFacts], None]
) -> None:
    """The key is kept: claiming again with it is no second use."""
    launches, later = launch(), replace(INVITED, subnet=None)
    facts(HostFacts(held(Holding.RULE, "10.0.42.0/28")))
    files = ("config", "made", "interface", "wh5")
    assert wh("join", encode(later), *files) == EXIT_BAD_INVITATION
    assert "WH149" in wh.err and "private-key made.sk" in wh.err
    assert [path.name for path in Path().glob("made*")] == ["made.sk"]
    assert [network.subnet for network in launches.networks] == [None]
    assert wh("join", encode(later), *files, "subnet", "10.0.42.0/24") == EXIT_OK


def test_another_subnet_than_was_invited_to_makes_nothing(wh: Wh, launch: Callable[..., Launches]) -> None:
    launch()
    other = replace(INVITED, subnet=ip_network("10.0.41.0/24"))
    assert wh("join", encode(other), "config", "made", "interface", "wh5") == EXIT_BAD_INVITATION
    assert "WH148" in wh.err
    assert not Path("made").exists()


@pytest.mark.parametrize("word", ["10.0.42.0", "x", "0.0.0.0/0", ""])
def test_the_subnet_that_is_said_must_be_one(wh: Wh, word: str) -> None:
    assert wh("join", encode(INVITED), "config", "made", "subnet", word) == EXIT_USAGE


def test_names_that_mean_something_are_left_out_with_a_warning(
    wh: Wh, launch: Callable[..., Launches], facts: Callable[[HostFacts], None]
) -> None:
    launches = launch()
    facts(HostFacts(own_names=frozenset({"guest"}), known_names=frozenset({"node_b"})))
    assert wh("join", encode(INVITED), "config", "made", "interface", "wh5") == EXIT_OK
    assert [peer.hostname for peer in launches.networks[-1].peers] == [None, None, None]
    assert "name guest" not in wh.out
    assert "this machine's own name" in wh.err and "means something on this machine already" in wh.err


def test_the_command_line_completes_the_invitations_subnet(wh: Wh) -> None:
    context = click.Context(join, info_name="join")
    context.params = {"invitation": encode(INVITED)}
    (parameter,) = [each for each in join.params if each.name == "subnet"]
    assert [each.value for each in parameter.shell_complete(context, "10")] == ["10.0.42.0/24"]


def test_strangers_and_loopback_addresses_are_in_no_file() -> None:
    boots = (*INVITED.bootstraps, (SERVER, pack("127.0.0.1", 1)))
    network = network_of(replace(INVITED, bootstraps=boots), PLACE, OWN)
    assert [peer.key for peer in network.peers if peer.kind is PeerKind.BOOT] == [BOOT]


# join: the files


def test_the_waiting_room_knows_the_way_and_makes_no_interface() -> None:
    network = parse(render(waiting_room(INVITED)))
    assert (network.namespace, network.workbit, network.subnet) == ("family", 2, None)
    assert network.secret == encode_key_wg(bytes(range(32)))
    assert [(peer.kind, peer.key) for peer in network.peers] == [
        (PeerKind.BOOT, BOOT),
        (PeerKind.BOOT, STRANGER),
        (PeerKind.PEER, SERVER),
    ]


def test_a_server_that_is_a_public_node_too_stands_once_in_the_waiting_room() -> None:
    bootstraps = ((SERVER, pack("192.0.2.9", 1)), (SERVER, pack("192.0.2.9", 2)))
    invited = replace(INVITED, bootstraps=bootstraps, guides=())
    (peer,) = parse(render(waiting_room(invited))).peers
    assert (peer.kind, str(peer.endpoint)) == (PeerKind.BOOT, "192.0.2.9:1")


def test_the_network_file_has_what_the_invitation_and_the_server_said() -> None:
    network = network_of(INVITED, PLACE, OWN)
    assert (network.name, network.namespace, network.workbit, str(network.subnet)) == (
        "home",
        "family",
        2,
        "10.0.42.0/24",
    )
    told = [(each.kind.value, each.hostname, str(each.ip), str(each.endpoint)) for each in network.peers]
    assert told == [
        ("boot", None, "None", "192.0.2.7:62096"),
        ("trust", "node_b", "10.0.42.3", "192.0.2.9:7"),
        ("trust", "guest", "10.0.42.4", "None"),
    ]
    assert [peer.key for peer in network.peers] == [BOOT, SERVER, OWN]


def test_a_server_that_is_no_member_is_not_trusted() -> None:
    place = msgspec.structs.replace(PLACE, server_addresses=[], endpoint=None)
    kinds = {peer.key: peer.kind for peer in network_of(INVITED, place, OWN).peers}
    assert kinds == {BOOT: PeerKind.BOOT, SERVER: PeerKind.PEER, OWN: PeerKind.TRUST}
    boot = replace(INVITED, bootstraps=((SERVER, pack("192.0.2.9", 1)),))
    kinds = {peer.key: peer.kind for peer in network_of(boot, place, OWN).peers}
    assert kinds == {SERVER: PeerKind.BOOT, OWN: PeerKind.TRUST}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"subnet": None},
        {"subnet": "0.0.0.0/0"},
        {"subnet": "127.0.0.0/8"},
        {"addresses": ["192.0.2.1"]},
        {"addresses": ["10.0.42.3"]},
        {"addresses": ["10.0.42.255"]},
        {"name": "localhost"},
        {"name": "node_b"},
        {"name": "a b"},
        {"name": "x\nboot"},
        {"server_name": "#"},
        {"endpoint": "nonsense:x"},
    ],
)
def test_a_server_cannot_say_what_no_file_may(nonsense: dict[str, object]) -> None:
    with pytest.raises(InvitationError) as caught:
        network_of(INVITED, msgspec.structs.replace(PLACE, **nonsense), OWN)
    assert caught.value.code == Code.INVITATION_FAILED
