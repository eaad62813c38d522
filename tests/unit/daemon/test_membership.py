"""Claims, invitations and revocations: one change to the file, one reload, and what goes wrong in between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.config.model import Network
from wh.config.network_file import NetworkFile
from wh.config.parser import load, parse
from wh.config.writer import render
from wh.daemon.membership import Membership
from wh.daemon.persistence.claim_log import ClaimLog
from wh.engine.events import Instant
from wh.engine.events import Path as NetworkPath
from wh.errors import Code, ConfigError, InvitationError, SystemSetupError
from wh.helper.file_edits import change_of
from wh.helper.requests import FileEdit
from wh.node.status import CandidateStatus, ContactStatus, NodeStatus, Relayed, RelayStatus
from wh.trust.alias import Aliases, Verdict
from wh.trust.invitation import decode_untrusted, encode
from wh.wire.address import pack
from wh.wire.messages import AuthStatus
from whcore.keys import encode_key

T = TypeVar("T")
PROOF = b"p" * 32
WORDS = ("acid", "barn", "cactus")


def key(number: int) -> bytes:
    return bytes([9, number]) + bytes(30)


OWN, ALIAS, CLAIMANT, OTHER, BOOT, RELAY = (key(number) for number in range(6))
FILE = f"""\
name home
namespace family
subnet 10.0.42.0/24
secret {encode_key(key(99))}
trust server {encode_key(OWN)}
alias guest {encode_key(ALIAS)}
"""


class FakeNode:
    """Reads the file again as a running node does."""

    def __init__(self, path: Path | None, text: str = FILE) -> None:
        self.own_key = OWN
        self.network = parse(text)
        self.refusal: ConfigError | None = None
        self.reload_failure: SystemSetupError | None = None
        self._path = path

    async def edit_file(self, edit: FileEdit) -> None:
        assert self._path is not None
        NetworkFile(str(self._path)).edit(change_of(edit), self._accept)

    def _accept(self, network: Network) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def reload(self) -> None:
        assert self._path is not None
        if self.reload_failure is not None:
            raise self.reload_failure
        self.network = load(self._path)

    async def adopt(self, network: Network) -> None:
        self.network = network


class Scene:
    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            path.write_text(FILE)
        self.node = FakeNode(path)
        self.claims = ClaimLog(None if path is None else path.with_name("claims"))
        self.membership = Membership(self.node, self.claims, has_file=path is not None)

    @property
    def text(self) -> str:
        assert self.path is not None
        return self.path.read_text()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "net")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


# Claims


def test_a_claim_is_in_the_file_and_in_force(scene: Scene):
    assert run(scene.membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.OK
    assert scene.text.endswith(f"trust guest 10.0.42.3 {encode_key(CLAIMANT)}\n")
    peer = scene.node.network.peer(CLAIMANT)
    assert peer is not None
    assert str(peer.ip) == "10.0.42.3"
    assert scene.membership.check_words(CLAIMANT) == WORDS
    assert scene.membership.check_words(OTHER) == ()


def test_a_claim_of_a_network_in_no_file_is_in_force():
    scene = Scene(None)
    assert run(scene.membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.OK
    assert scene.node.network.peer(CLAIMANT) is not None
    assert run(scene.membership.bind(ALIAS, OTHER, WORDS)) is AuthStatus.USED


def test_where_another_daemon_was_first_the_file_decides(scene: Scene):
    other = Membership(FakeNode(scene.path), ClaimLog(None), has_file=True)
    run(other.bind(ALIAS, CLAIMANT, WORDS))
    assert run(scene.membership.bind(ALIAS, OTHER, WORDS)) is AuthStatus.USED
    assert scene.node.network.peer(CLAIMANT) is not None  # and is known here now
    assert run(scene.membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.OK
    assert scene.claims.items() == ()


@pytest.mark.parametrize("code", [Code.RESTART_NEEDED, Code.BAD_SETTING])
def test_a_claim_that_cannot_be_in_force_is_not_in_the_file(scene: Scene, code: Code):
    scene.node.refusal = ConfigError("no", code=code)
    assert run(scene.membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.FAILED
    assert scene.text == FILE


def test_a_claim_that_the_system_refuses_is_completed_later(scene: Scene):
    scene.node.reload_failure = SystemSetupError("a route is taken")
    assert run(scene.membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.FAILED
    assert run(scene.membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.FAILED
    scene.node.reload_failure = None
    assert run(scene.membership.bind(ALIAS, OTHER, WORDS)) is AuthStatus.USED
    assert run(scene.membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.OK
    assert scene.claims.items() == ((ALIAS, CLAIMANT),)


def test_a_claim_that_cannot_be_noted_is_none(scene: Scene, tmp_path: Path):
    (tmp_path / "file").touch()
    claims = ClaimLog(tmp_path / "file" / "claims")
    membership = Membership(scene.node, claims, has_file=True)
    assert run(membership.bind(ALIAS, CLAIMANT, WORDS)) is AuthStatus.FAILED
    assert scene.text == FILE


def test_of_many_claims_at_once_one_is_bound(scene: Scene):
    async def bind_all() -> list[AuthStatus]:
        return await asyncio.gather(
            *(scene.membership.bind(ALIAS, key(100 + number), WORDS) for number in range(20))
        )

    statuses = run(bind_all())
    assert sorted(statuses) == [AuthStatus.OK] + [AuthStatus.USED] * 19
    winner = key(100 + statuses.index(AuthStatus.OK))
    assert scene.text.count("guest") == 1
    assert encode_key(winner) in scene.text


# Invitations and revocations


def status(**changes: Any) -> NodeStatus:
    facts: dict[str, Any] = {
        "key": OWN,
        "mode": "unknown",
        "server": False,
        "joined": True,
        "nat": "",
        "translated": None,
        "candidates": (),
        "published": True,
        "peers": (),
        "relays": (),
        "contacts": (),
        "relayed": Relayed(),
        "stored_records": 0,
        "size_estimate": 1,
    }
    return NodeStatus(**{**facts, **changes})


def test_an_invitation_says_what_a_newcomer_needs(scene: Scene):
    here, there = pack("192.0.2.1", 1), pack("192.0.2.2", 2)
    now = status(
        candidates=(CandidateStatus(here, False), CandidateStatus(there, True)),
        relays=(RelayStatus(RELAY, pack("192.0.2.3", 3), 1.0),),
        contacts=(
            ContactStatus(OTHER, pack("192.0.2.4", 4), 1.0, bootstrap=False, alive=True),
            ContactStatus(BOOT, pack("192.0.2.5", 5), 1.0, bootstrap=True, alive=True),
            ContactStatus(key(50), pack("192.0.2.6", 6), 1.0, bootstrap=True, alive=False),
        ),
    )
    invited = run(scene.membership.invite("new", 3600, now))
    assert decode_untrusted(encode(invited)) == invited
    assert (invited.server_key, invited.network_name, invited.namespace) == (OWN, "home", "family")
    assert invited.network_secret == key(99)
    assert invited.endpoints == (there, here)
    assert invited.relays == ((RELAY, pack("192.0.2.3", 3)),)
    assert str(invited.subnet) == "10.0.42.0/24"
    (alias,) = [peer for peer in scene.node.network.peers if peer.hostname == "new"]
    assert alias.key == invited.alias_secret().public_key
    assert alias.expires == invited.expiry


def test_strangers_of_the_table_are_good_for_the_claim_only(tmp_path: Path):
    """Whoever came into the DHT's table is no boot node of a newcomer's; those of the file are, and members
    that serve."""
    scene = Scene(tmp_path / "net")
    member, dead = key(51), key(50)
    scene.node.network = parse(
        f"{FILE}boot {encode_key(BOOT)} 192.0.2.5:5\nboot {encode_key(dead)} 192.0.2.6:6\n"
        f"trust public {encode_key(member)}\npeer {encode_key(key(52))} 192.0.2.8\n"
    )
    (tmp_path / "net").write_text(render(scene.node.network))
    strangers = [key(number) for number in range(60, 80)]
    now = status(
        contacts=(
            *(ContactStatus(each, pack("192.0.2.4", 4), 1.0, False, True) for each in strangers),
            ContactStatus(ALIAS, pack("192.0.2.4", 4), 1.0, bootstrap=False, alive=True),
            ContactStatus(key(52), pack("192.0.2.8", 4), 1.0, bootstrap=True, alive=True),
            ContactStatus(member, pack("192.0.2.7", 7), 1.0, bootstrap=False, alive=True),
            ContactStatus(BOOT, pack("192.0.2.5", 5), 1.0, bootstrap=True, alive=True),
            ContactStatus(dead, pack("192.0.2.6", 6), 1.0, bootstrap=True, alive=False),
        ),
    )
    invited = run(scene.membership.invite("new", None, now))
    assert invited.bootstraps == ((BOOT, pack("192.0.2.5", 5)), (member, pack("192.0.2.7", 7)))
    assert [each for each, _ in getattr(invited, "guides", ())] == strangers[:2]


def test_a_network_with_more_work_than_may_be_asked_for_invites_nobody(tmp_path: Path):
    scene = Scene(tmp_path / "net")
    scene.node.network = parse(f"workbit 21\n{FILE}")
    with pytest.raises(InvitationError) as caught:
        run(scene.membership.invite("new", None, status()))
    assert caught.value.code == Code.INVITATION_EXCESSIVE
    assert scene.text == FILE


def test_an_address_that_the_file_gives_comes_first_in_an_invitation(tmp_path: Path):
    scene = Scene(tmp_path / "net")
    text = FILE.replace(encode_key(OWN), f"{encode_key(OWN)} 203.0.113.1:7")
    (tmp_path / "net").write_text(text)
    scene.node.network = parse(text)
    candidates = tuple(CandidateStatus(pack(f"192.0.2.{number}", 1), True) for number in range(1, 9))
    invited = run(scene.membership.invite("new", None, status(candidates=candidates)))
    assert invited.endpoints[0] == pack("203.0.113.1", 7)
    assert len(invited.endpoints) == 4
    assert invited.expiry == 0


def test_a_network_whose_name_is_no_word_for_an_invitation_goes_without(tmp_path: Path):
    scene = Scene(tmp_path / "net")
    scene.node.network = parse(FILE.replace("home", "h\u00f6me!"))
    assert run(scene.membership.invite("new", None, status())).network_name is None


@pytest.mark.parametrize("name", ["guest", "server", "10.0.42.9", "-x", "localhost"])
def test_a_name_that_cannot_be_invites_nobody(scene: Scene, name: str):
    with pytest.raises(ConfigError):
        run(scene.membership.invite(name, None, status()))
    assert scene.text == FILE


def test_who_is_revoked_is_out_of_the_file(scene: Scene):
    run(scene.membership.bind(ALIAS, CLAIMANT, WORDS))
    run(scene.membership.revoke(CLAIMANT))
    assert "guest" not in scene.text
    assert scene.node.network.peer(CLAIMANT) is None


def test_a_node_does_not_revoke_itself_nor_whom_it_does_not_trust(scene: Scene):
    for peer in (OWN, OTHER):
        with pytest.raises(ConfigError):
            run(scene.membership.revoke(peer))
    assert scene.text == FILE


# Crashes


class Killed(BaseException):
    """kill -9."""


CRASHES = ("before it is noted", "before it is written", "before it is in force", "before it is answered")


class Life:
    """One run of a daemon, from its start to its death: what it heard, and what it answered."""

    def __init__(self, path: Path) -> None:
        self.node = FakeNode(path, path.read_text())
        self.claims = ClaimLog(path.with_name("claims"))
        self.membership = Membership(self.node, self.claims, has_file=True)
        self.aliases = Aliases(OWN, lambda claimant, alias, commitment, proof: proof == PROOF)
        self.aliases.set_network(self.node.network)
        for alias, claimant in self.membership.former_claims():
            self.aliases.remember(alias, claimant)

    def hear(self, claimant: bytes, proof: bytes, crash: str | None, patch: pytest.MonkeyPatch) -> object:
        """The answer to a claim, None for silence. Raises Killed."""
        now = Instant(0.0, 0.0)
        path = NetworkPath(0, pack("192.0.2.1", 1))
        verdict = self.aliases.judge(claimant, ALIAS, bytes(32), proof, path, now)
        if verdict is not Verdict.PROVED or not self.aliases.take(claimant, ALIAS):
            return verdict if isinstance(verdict, AuthStatus) else None
        with patch.context() as patched:
            self._die_at(crash, patched)
            status = run(self.membership.bind(ALIAS, claimant, WORDS))
        self.aliases.set_network(self.node.network)
        self.aliases.bound(ALIAS, claimant, status)
        if crash == "before it is answered":
            raise Killed
        return status

    def _die_at(self, crash: str | None, patched: pytest.MonkeyPatch) -> None:
        def die(*arguments: object) -> None:
            raise Killed

        if crash == "before it is noted":
            patched.setattr(self.claims, "add", die)
        elif crash == "before it is written":
            patched.setattr(Path, "rename", die)
        elif crash == "before it is in force":
            patched.setattr(self.node, "reload", die)


attempts = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.none() | st.sampled_from(CRASHES)), max_size=8
)


@given(attempts)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_whatever_is_killed_when_one_key_alone_is_ever_let_in(
    claims: list[tuple[int, bool, str | None]],
) -> None:
    let_in: set[bytes] = set()
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # a process dies here, not the power
        path = Path(directory) / "net"
        path.write_text(FILE)
        life = Life(path)
        for number, knows, crash in claims:
            claimant = key(100 + number)
            try:
                answer = life.hear(claimant, PROOF if knows else bytes(32), crash, patch)
            except Killed:
                life = Life(path)
                continue
            if answer is AuthStatus.OK:
                let_in.add(claimant)
            if answer is AuthStatus.USED:
                assert "alias guest" not in path.read_text()
        assert len(let_in) <= 1
        members = {peer.key for peer in load(path).peers if peer.trusted} - {OWN, ALIAS}
        assert let_in <= members
        assert len(members) <= 1
        survivor = Life(path)
        for claimant in members:  # who was let in, and perhaps never heard of it, may ask again
            assert survivor.hear(claimant, PROOF, None, patch) is AuthStatus.OK
