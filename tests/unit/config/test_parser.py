"""The network file: what the 2018 WireHub makes of it, and what it should have refused."""

import ipaddress
import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.config.model import DEFAULT_PORT, Endpoint, PeerKind
from wh.config.parser import MAX_ERRORS, MAX_FILE_SIZE, decode, load, parse
from wh.errors import Code, ConfigError, ConfigErrors
from wh.wire.address import to_text
from whcore.keys import encode_key

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "wirehub_configs.json").read_text())
KEY_A = "zW-1lBeQ7IkT6NW6hL_NsV4eOPOwJi_rt1vO-omOEmQ"
KEY_B = "g878Bf9ZDc4IzFSUhWFTO1VYFVmHD5XfvEsVn83Dsho"
KEY_C = "9OtorxsAqPqZkJ-fAYNRAPr9piMWKMLnGqOVVpMUvXY"
SUBNET = "subnet 10.0.42.0/24\n"


def errors_of(text):
    with pytest.raises(ConfigErrors) as caught:
        parse(text, path="file")
    return caught.value.errors


def only_error(text):
    (error,) = errors_of(text)
    return error


def as_original(network):
    """A network in the words of the vectors."""
    return {
        "name": network.name,
        "namespace": network.namespace,
        "workbit": network.workbit,
        "subnet": str(network.subnet) if network.subnet else None,
        "peers": [
            {
                "key": encode_key(peer.key),
                "alias": peer.kind is PeerKind.ALIAS,
                "bootstrap": peer.kind is PeerKind.BOOT,
                "trust": peer.trusted,
                "router": peer.kind is PeerKind.ROUTER,
                "hostname": peer.hostname,
                "ip": str(peer.ip) if peer.ip else None,
                "endpoint": str(peer.endpoint) if peer.endpoint else None,
            }
            for peer in network.peers
        ],
    }


@pytest.mark.parametrize("name", VECTORS)
def test_agrees_with_the_original(name):
    config, expected = VECTORS[name]["config"], VECTORS[name]["result"]
    if "error" not in expected:
        assert as_original(parse(config)) == expected
        return
    line, _, reason = expected["error"].removeprefix("line ").partition(": ")
    error = errors_of(config)[0]
    assert reason in str(error)
    assert error.place.split(":")[1] == line


# Reading text


@pytest.mark.parametrize(
    "transform",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace("\n", " \t \n"),
        lambda text: text.rstrip("\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "# trust x y z\n"),
        lambda text: "\n\n  # nothing\n" + text.replace("\n", "\n\n"),
    ],
    ids=["crlf", "tabs", "trailing-space", "no-final-newline", "bom", "comments", "blank-lines"],
)
def test_white_space_and_comments_mean_nothing(transform):
    text = VECTORS["alias_router"]["config"]
    assert parse(transform(text)) == parse(text)


@given(
    st.text(alphabet=st.sampled_from("ab1 .:/#[]-_\t\r\n\x1b\u00e9\u00a0") | st.characters(), max_size=200)
)
@settings(derandomize=True, deadline=None)
def test_no_text_raises_anything_but_config_errors(text):
    for candidate in (text, f"{SUBNET}trust {text}", f"boot {KEY_A} {text}", f"subnet {text}"):
        try:
            parse(candidate)
        except ConfigErrors as error:
            assert error.errors
            assert all(each.place and each.code in set(Code) for each in error.errors)
            assert "\x1b" not in str(error)


def test_all_wrong_lines_are_reported_in_order_with_columns():
    errors = errors_of(f"name a b\nworkbit -1\nsubnet 10.0.42.0\n  trsut x\ntrust n {KEY_A} [::1]:0\n")
    assert [error.place for error in errors] == ["file:1:8", "file:2:9", "file:3:8", "file:4:3", "file:5:53"]


def test_a_file_that_is_something_else_does_not_flood():
    assert len(errors_of("junk\n" * 10_000)) == MAX_ERRORS


# Settings


@pytest.mark.parametrize(
    ("word", "nearest"), [("trsut", "trust"), ("Subnet", "subnet"), ("bootstrap", "boot")]
)
def test_unknown_words_name_the_nearest_known_one(word, nearest):
    error = only_error(f"\n {word} x")
    assert (error.code, error.place) == (Code.UNKNOWN_WORD, "file:2:2")
    assert f'"{nearest}"' in error.hint


@pytest.mark.parametrize(
    "line",
    ["name a", "namespace a", "workbit 4", "subnet 10.0.0.0/8", f"secret {KEY_A}", "listen-tcp 443"],
)
def test_settings_stand_once_and_have_one_value(line):
    word = line.split()[0]
    parse(line)
    assert only_error(f"{line}\n{line}").code is Code.SETTING_REPEATED
    assert only_error(word).code is Code.BAD_SETTING
    assert only_error(f"{line} more").code is Code.EXTRA_WORD


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("workbit 65", "not in 0..64"),
        ("workbit 8.0", "not a number"),
        ("workbit \u0663", "not a number"),
        ("subnet 10.0.0.0/33", "bad CIDR"),
        ("subnet 10.0.0.0/", "bad CIDR"),
        ("subnet 10.0.0.0/255.0.0.0", "bad CIDR"),
        ("subnet 10.0.0/8", "bad IP"),
        ("subnet 0.0.0.0/0", "every address"),
        ("subnet 127.0.0.0/8", "no host"),
        ("subnet 239.0.0.0/8", "no host"),
        ("subnet fe80::/64", "link-local"),
        ("subnet 2001:20::/32", "derived from keys"),
        (f"namespace {'n' * 256}", "longer than"),
        ("name a\x1b[2J", "cannot be seen"),
        ("secret short", "not 32 bytes"),
        ("listen-tcp 0", "bad port 0"),
        ("listen-tcp 65536", "bad port"),
        ("listen-tcp https", "bad port"),
    ],
)
def test_settings_that_cannot_be_meant(line, reason):
    assert reason in str(only_error(line))


@pytest.mark.parametrize("line", [f"secret {KEY_A}x", f"secret {KEY_A} {KEY_B}"])
def test_a_secret_is_never_quoted(line):
    error = only_error(line)
    assert KEY_A not in str(error) + error.hint
    assert KEY_B not in str(error) + error.hint
    assert KEY_A not in repr(parse(f"secret {KEY_A}"))


def test_bits_beyond_the_prefix_are_cleared():
    assert str(parse("subnet 10.0.42.9/24").subnet) == "10.0.42.0/24"


# Peers


def test_every_wrong_peer_line_says_what_is_wrong():
    # KEY: another one in each line, or they would say that it is used already
    lines = {
        "trust a": Code.NO_PEER_KEY,
        f"trust c {KEY_A[:-1]}": Code.NO_PEER_KEY,
        f"trust {KEY_A[:-1]}": Code.NO_PEER_KEY,
        f"trust d {KEY_A}A": Code.NO_PEER_KEY,
        "trust e f KEY": Code.BAD_HOSTNAME,
        "trust KEY nas": Code.BAD_ENDPOINT,
        "trust g 10.0.42.05 KEY": Code.BAD_HOSTNAME,
        "trust a\u200b KEY": Code.UNSEEN_CHARACTER,
        "trust a KEY\u2060": Code.UNSEEN_CHARACTER,
        "\ufefftrust a KEY": Code.UNSEEN_CHARACTER,
        "trust KEY KEY": Code.EXTRA_WORD,
        "trust KEY h:1 more": Code.EXTRA_WORD,
        "trust a.b KEY": Code.BAD_HOSTNAME,
        "trust -rf KEY": Code.BAD_HOSTNAME,
        f"trust {'h' * 64} KEY": Code.BAD_HOSTNAME,
        "trust localhost KEY": Code.BAD_HOSTNAME,
        "trust 167772161 KEY": Code.BAD_HOSTNAME,
        "trust a\u00e9 KEY": Code.BAD_HOSTNAME,
        "trust 10.0.42.0 KEY": Code.BAD_PRIVATE_IP,
        "trust 10.0.42.255 KEY": Code.BAD_PRIVATE_IP,
        "trust fd00::1 KEY": Code.BAD_PRIVATE_IP,
        "trust 10.0.42.3 10.0.42.4 KEY": Code.BAD_PRIVATE_IP,
        "boot KEY": Code.BAD_ENDPOINT,
        "boot KEY 192.0.2.300": Code.BAD_ENDPOINT,
        f"trust {'A' * 43}": Code.BAD_PEER_KEY,
        f"trust {'_' * 42}8": Code.BAD_PEER_KEY,
    }
    numbers = itertools.count(9)
    text = re.sub("KEY", lambda _: encode_key(bytes([next(numbers), *bytes(30), 1])), "\n".join(lines))
    errors = errors_of(SUBNET + text)
    assert [error.code for error in errors] == list(lines.values())
    assert [int(error.place.split(":")[1]) for error in errors] == list(range(2, 2 + len(lines)))


def test_a_cut_key_is_explained_as_a_key():
    for line in (f"trust a {KEY_A[:-1]}", f"trust {KEY_A[:-1]}", f"trust a b {KEY_A[:-1]}"):
        error = only_error(SUBNET + line)
        assert "is not a key: 42 characters" in str(error) or "a second host name" in str(error)
    error = only_error(f"{SUBNET}trust a {KEY_A}A 192.0.2.1:7")
    assert "is not a key: 44 characters" in str(error)
    assert error.hint.startswith("a key is 43 characters")


def test_a_name_behind_the_key_is_not_taken_for_an_endpoint():
    error = only_error(f"{SUBNET}trust {KEY_A} nas")
    assert error.hint.startswith("a host name stands in front of the key")
    for line in (f"trust a {KEY_A} nas", f"trust {KEY_A} nas:62096", f"peer {KEY_A} nas"):
        (peer,) = parse(SUBNET + line).peers
        assert peer.endpoint == Endpoint("nas", 62096)


def test_an_address_with_zeros_in_front_is_explained():
    for line in (f"trust a 10.0.42.05 {KEY_A}", f"trust a {KEY_A} 192.0.2.01:7", "subnet 10.0.042.0/24"):
        (error,) = errors_of((SUBNET if line.startswith("trust") else "") + line)
        assert "without zeros in front" in error.hint


@pytest.mark.parametrize(
    ("first", "second", "accepted"),
    [
        ("boot", "trust", True),
        ("router", "peer", True),
        ("boot", "peer", False),
        ("trust", "router", False),
        ("alias", "trust", False),
        ("peer", "alias", False),
        ("alias", "alias", False),
    ],
)
def test_which_lines_may_share_a_key(first, second, accepted):
    text = f"{SUBNET}{first} {KEY_A} 192.0.2.1\n{second} {KEY_A} 192.0.2.2\n"
    if accepted:
        assert [peer.kind.value for peer in parse(text).peers] == [first, second]
    else:
        error = only_error(text)
        assert (error.code, str(error)) == (Code.BAD_PEER_KEY, "public key was already set at line 2")


def test_a_member_that_is_bootstrap_node_too_is_one_trusted_peer():
    network = parse(f"{SUBNET}boot {KEY_A} 192.0.2.1\ntrust a {KEY_A}\n")
    peer = network.peer(network.peers[0].key)
    assert (peer.kind, peer.hostname, str(peer.endpoint)) == (PeerKind.TRUST, "a", "192.0.2.1:62096")
    assert network.peer(bytes(32)) is None


@pytest.mark.parametrize(
    ("clauses", "at", "expires"),
    [
        ("", False, None),
        ("at n", True, None),
        ("at N", True, None),
        (f"at {KEY_B}", True, None),
        ("expires 1900000000", False, 1900000000),
        ("expires 2030-03-17T17:46:40Z at n", True, 1900000000),
        ("at n expires 2030-03-17T19:46:40+02:00 # soon", True, 1900000000),
        ("expires 2030-03-17T17:46:40", False, 1900000000),
    ],
)
def test_an_alias_may_be_bound_to_a_node_and_a_time(clauses, at, expires):
    network = parse(f"{SUBNET}alias x {KEY_A} {clauses}\ntrust n {KEY_B}\n")
    alias, node = network.peers
    assert alias.at == (node.key if at else None)
    assert alias.expires == expires


@pytest.mark.parametrize(
    ("clauses", "code", "column"),
    [
        ("at", Code.BAD_ALIAS, 53),
        ("at nobody", Code.BAD_ALIAS, 56),
        ("at x", Code.BAD_ALIAS, 56),
        (f"at {KEY_A}", Code.BAD_ALIAS, 56),
        ("at n at n", Code.BAD_ALIAS, 58),
        ("at n n", Code.EXTRA_WORD, 58),
        ("expires", Code.BAD_ALIAS, 53),
        ("expires soon", Code.BAD_ALIAS, 61),
        ("expires 0", Code.BAD_ALIAS, 61),
        ("expires 99999999999", Code.BAD_ALIAS, 61),
        ("expires 4294967296", Code.BAD_ALIAS, 61),
        ("expires 1969-01-01", Code.BAD_ALIAS, 61),
        ("expires 9999-12-31", Code.BAD_ALIAS, 61),
    ],
)
def test_clauses_of_an_alias_that_make_no_sense(clauses, code, column):
    error = only_error(f"{SUBNET}trust n {KEY_B}\nalias x {KEY_A} {clauses}\n")
    assert (error.code, error.place) == (code, f"file:3:{column}")


def test_other_lines_have_no_clauses():
    assert only_error(f"{SUBNET}trust x {KEY_A} expires 7").code is Code.EXTRA_WORD
    alias, trust = parse(f"{SUBNET}alias at {KEY_A}\ntrust expires {KEY_B}\n").peers
    assert (alias.hostname, trust.hostname) == ("at", "expires")


def test_host_names_differ_by_more_than_case():
    assert (
        str(errors_of(f"{SUBNET}trust Ab {KEY_A}\nboot aB {KEY_B} h")[0])
        == "hostname was already set at line 2"
    )


def test_a_missing_subnet_is_said_once_and_a_wrong_one_only_where_it_stands():
    trusted = f"trust a {KEY_A}\ntrust b {KEY_B}\n"
    assert only_error(trusted).code is Code.NO_SUBNET
    assert only_error(f"subnet x/y\n{trusted}").place == "file:1:8"


@pytest.mark.parametrize(
    ("word", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", DEFAULT_PORT),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[2001:DB8::1]:65535", "2001:db8::1", 65535),
        ("[2001:db8::1]", "2001:db8::1", DEFAULT_PORT),
        ("2001:db8::1", "2001:db8::1", DEFAULT_PORT),
        ("::ffff:192.0.2.1", "192.0.2.1", DEFAULT_PORT),
        ("boot.example.org:7", "boot.example.org", 7),
        ("127.0.0.1:9", "127.0.0.1", 9),
    ],
)
def test_endpoints(word, host, port):
    endpoint = parse(f"peer {KEY_A} {word}").peers[0].endpoint
    assert (endpoint.host, endpoint.port) == (host, port)


@pytest.mark.parametrize(
    "word",
    ["h:0", "h:65536", "h:", "h:+1", ":1", "[::1", "[::1]x", "[h]:1", "1.2.3", "a..b", "-h", "0.1.2.3", "::",
     "224.0.0.1", "fe80::1%eth0", "h_\u00e9", "h" * 64, "fffff::1"],
)  # fmt: skip
def test_endpoints_that_cannot_be_reached(word):
    assert only_error(f"peer {KEY_A} {word}").code is Code.BAD_ENDPOINT


def test_numeric_endpoints_are_ready_for_the_wire_and_names_are_not():
    network = parse(f"peer {KEY_A} [2001:db8::1]:7\npeer {KEY_B} host\n")
    assert to_text(network.peers[0].endpoint.address) == "[2001:db8::1]:7"
    assert network.peers[1].endpoint.address is None


def test_an_endpoint_may_say_its_tcp_port():
    network = parse(f"boot {KEY_A} 192.0.2.1:7 tcp:443\npeer {KEY_B} [2001:db8::1]\n")
    assert [peer.endpoint.tcp_port for peer in network.peers] == [443, None]
    assert str(network.peers[0].endpoint) == "192.0.2.1:7 tcp:443"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("h tcp:0", Code.BAD_ENDPOINT),
        ("h tcp:", Code.BAD_ENDPOINT),
        ("h tcp:443x", Code.BAD_ENDPOINT),
        ("h tcp:1 tcp:2", Code.BAD_ENDPOINT),
        ("h udp:443", Code.EXTRA_WORD),
        ("h tcp", Code.EXTRA_WORD),
    ],
)
def test_tcp_ports_that_cannot_be_meant(words, code):
    assert only_error(f"peer {KEY_A} {words}").code is code


# Address assignment


def free_hosts(subnet, taken):
    """All hosts from the third address of the subnet on, the slow way: the oracle."""
    return [ip for ip in list(subnet)[2 : -1 if subnet.version == 4 else None] if ip not in taken]


@given(
    st.sampled_from(["10.1.0.0/28", "172.16.5.96/27", "fd00:1::/124", "192.168.1.0/30", "192.168.1.0/31"]),
    st.data(),
)
@settings(derandomize=True, deadline=None)
def test_free_addresses_are_given_in_the_order_of_the_file(subnet_text, data):
    subnet = ipaddress.ip_network(subnet_text)
    free = free_hosts(subnet, ())
    static = data.draw(st.lists(st.sampled_from(free), unique=True) if free else st.just([]))
    dynamic = data.draw(st.integers(0, len(free) - len(static) + 1))
    lines = data.draw(st.permutations([f"trust {ip}" for ip in static] + ["trust"] * dynamic))
    text = f"subnet {subnet}\n" + "".join(
        f"{line} {encode_key(bytes([number + 9, *bytes(30), 1]))}\n" for number, line in enumerate(lines)
    )
    expected = iter(free_hosts(subnet, static))
    if dynamic > len(free) - len(static):
        assert only_error(text).code is Code.SUBNET_FULL
        return
    for line, peer in zip(lines, parse(text).peers, strict=True):
        assert str(peer.ip) == (line.split()[1] if " " in line else str(next(expected)))
        assert peer.static_ip == (" " in line)


# Files


def test_a_file_is_loaded_with_its_name_in_places(tmp_path):
    path = tmp_path / "config"
    path.write_text("nonsense\n")
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    assert caught.value.place == f"{path}:1:1"


@pytest.mark.parametrize(
    "content",
    [b"name \xff\n", b"#" * (MAX_FILE_SIZE + 1), b"name \0"],
    ids=["not-utf8", "too-large", "nul"],
)
def test_what_is_no_text_file_is_refused_as_a_whole(content):
    with pytest.raises(ConfigError) as caught:
        decode(content, path="file")
    assert caught.value.code == Code.FILE_NOT_TEXT


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="cannot read") as caught:
            load(path)
        assert caught.value.code == Code.FILE_UNREADABLE


def test_the_largest_file_is_read_whole():
    line = "# a comment of some length, as people write them\n"
    assert decode(("name x\n" + line * (MAX_FILE_SIZE // len(line) - 1)).encode()).name == "x"
