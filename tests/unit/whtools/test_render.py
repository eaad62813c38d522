"""What `wh show` prints for a status."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fake_daemon import OWN_KEY, PEER, PEER_KEY, STATUS
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.ipc.schema import Contact, DhtInfo, PeerInfo, Relayed, RelayInfo, Status
from whtools.render import Renderer, duration, size_text


def rendered(status: Status, *, everything: bool = False, colour: bool = False) -> str:
    return Renderer(colour=colour, now_unix=1_003_725.0, everything=everything).render(status)


def with_peer(**changes: Any) -> Status:
    return msgspec.structs.replace(STATUS, peers=[msgspec.structs.replace(PEER, **changes)])


def test_the_light_view_has_the_original_s_look() -> None:
    assert rendered(STATUS) == (
        "interface wh0, network tutorial, node node_a <NAT>\n"
        f"  public key: {OWN_KEY}\n"
        "  address: 10.0.42.2\n"
        "\n"
        "  peers\n"
        "  ●  node_b: 10.0.42.3, at 192.0.2.9:7, rtt 12.3 ms"
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"state": "relayed", "relay": "R" * 43},
            "  ○  node_b: 10.0.42.3, relayed by RRRRRRRRRR at 192.0.2.9:7, rtt 12.3 ms",
        ),
        (
            {"state": "relayed", "relay": "R" * 43, "why_relayed": "UDP is blocked", "rtt_ms": None},
            "  ○  node_b: 10.0.42.3, relayed by RRRRRRRRRR at 192.0.2.9:7, not direct: UDP is blocked",
        ),
        ({"state": "punching", "rtt_ms": None}, "  ◒  node_b: 10.0.42.3, at 192.0.2.9:7, punching"),
        ({"state": "idle", "endpoint": None, "rtt_ms": None}, "     node_b: 10.0.42.3"),
        ({"alias": True, "state": "idle", "endpoint": None, "rtt_ms": None}, "  ◌  node_b: 10.0.42.3"),
        (
            {"alias": True, "state": "idle", "endpoint": None, "rtt_ms": None, "expires_unix": 1_003_785},
            "  ◌  node_b: 10.0.42.3, open for 1 min",
        ),
        (
            {"alias": True, "state": "idle", "endpoint": None, "rtt_ms": None, "expires_unix": 1_003_725},
            "  ◌  node_b: 10.0.42.3, expired",
        ),
        ({"hostname": None, "address": None, "rtt_ms": None}, f"  ●  {PEER_KEY[:10]}: at 192.0.2.9:7"),
        (
            {"endpoint": None, "rtt_ms": None, "last_handshake_unix": 1_003_720.0, "received_bytes": 1536},
            "  ●  node_b: 10.0.42.3, handshake 5 s ago, 1.5 KiB received, 0 B sent",
        ),
    ],
)
def test_a_peer_s_line_tells_its_path(changes: dict[str, Any], line: str) -> None:
    assert rendered(with_peer(**changes)).splitlines()[5] == line


def test_strangers_and_the_dht_are_only_in_the_full_view() -> None:
    dht = DhtInfo(
        2, 5, 40, [Contact("K" * 43, "192.0.2.7:9", 3, "live"), Contact("L" * 43, "a:1", 1, "bootstrap")]
    )
    stranger = PeerInfo("S" * 43, None, "stranger", None, "2001:20::3", "direct", "192.0.2.8:1")
    status = msgspec.structs.replace(STATUS, dht=dht, peers=[stranger, PEER])
    assert "SSSS" not in rendered(status) and "bucket" not in rendered(status)
    full = rendered(status, everything=True)
    assert "  ●  KKKKKKKKKK: 192.0.2.7:9 (bucket:3)\n  ●  LLLLLLLLLL: a:1 (bucket:1), bootstrap" in full
    assert full.index("node_b") < full.index("SSSSSSSSSS: at 192.0.2.8:1")
    assert "  dht: 2 public nodes known, 5 records stored, about 40 in the network\n" in full
    assert "up for 1 h 2 min" in full


def test_the_full_view_tells_of_relays() -> None:
    relays = [RelayInfo("R" * 43, "192.0.2.7:9", 12.3), RelayInfo("S" * 43, "192.0.2.8:9")]
    status = msgspec.structs.replace(STATUS, relays=relays, relayed=Relayed(True, 1, 2))
    assert "RRRR" not in rendered(status)
    full = rendered(status, everything=True)
    assert "\n  relays: RRRRRRRRRR at 192.0.2.7:9 (rtt 12 ms), SSSSSSSSSS at 192.0.2.8:9\n" in full
    assert "\n  relays for others: 1 reservation, 2 channels\n" in full


@pytest.mark.parametrize(
    ("reachability", "label"),
    [
        ("nat", " <NAT>"),
        ("direct", " <DIRECT>"),
        ("untranslated", " <no NAT>"),
        ("blocked", " <UDP blocked>"),
        ("unknown", ""),
    ],
)
def test_the_title_tells_as_much_of_our_reachability_as_is_known(reachability: str, label: str) -> None:
    status = msgspec.structs.replace(STATUS, reachability=reachability)
    assert rendered(status).splitlines()[0] == f"interface wh0, network tutorial, node node_a{label}"


def public_node(**changes: Any) -> Status:
    return msgspec.structs.replace(
        STATUS,
        **{"has_interface": False, "hostname": None, "address": None, "peers": [], "network": "public"}
        | {"reachability": "direct", "dht": DhtInfo(3, 1)}
        | changes,
    )


def test_a_public_node_says_what_it_is_for() -> None:
    assert rendered(public_node()) == (
        "public node wh0, network public <DIRECT>\n"
        f"  public key: {OWN_KEY}\n"
        "  helps others to find each other: 3 other public nodes known, 1 record stored"
    )
    boot = msgspec.structs.replace(PEER, kind="boot", state="idle", hostname=None)
    assert "no peer was found yet" in rendered(public_node(peers=[boot], dht=DhtInfo(0, 0)))
    assert "forward UDP port 4242" in rendered(public_node(reachability="nat"))


def test_advice_comes_where_nothing_was_found_and_only_there() -> None:
    lonely = msgspec.structs.replace(with_peer(state="idle", endpoint=None), dht=DhtInfo(0, 0))
    assert "check that UDP port 4242" in rendered(lonely)
    assert "wh reload wh0" in rendered(msgspec.structs.replace(STATUS, peers=[]))
    assert "check that" not in rendered(STATUS)
    unresolved = rendered(msgspec.structs.replace(lonely, unresolved={"boot.invalid": "not known"}))
    assert "cannot resolve boot.invalid: not known" in unresolved
    stranger = rendered(msgspec.structs.replace(lonely, address=None, hostname=None))
    assert "this node is no member" in stranger and "check that" not in stranger


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_no_name_can_drive_the_terminal(name: str) -> None:
    status = msgspec.structs.replace(with_peer(hostname=name, endpoint=name), network=name, hostname=name)
    assert all(line.isprintable() for line in rendered(status, everything=True).split("\n"))


def test_colour_changes_nothing_but_sequences() -> None:
    import re

    painted = rendered(STATUS, colour=True, everything=True)
    assert "\x1b[1m" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == rendered(STATUS, everything=True)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**60, "1048576.0 TiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "0 s"), (61, "1 min 1 s"), (90_000, "1 d 1 h"), (86_401, "1 d 1 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_check_words_are_part_of_everything() -> None:
    status = with_peer(check_words=["acid", "barn", "cactus"])
    assert "check words acid barn cactus" in rendered(status, everything=True)
    assert "acid" not in rendered(status)
