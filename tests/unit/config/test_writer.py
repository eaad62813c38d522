"""What is written is read back as the same network."""

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from wh.config.fields import is_key
from wh.config.parser import parse
from wh.config.writer import render
from whcore.keys import encode_key

HOSTNAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True).filter(lambda name: name != "localhost")
KEYS = st.binary(min_size=31, max_size=31).map(lambda data: b"\x09" + data[:-1] + bytes([data[-1] & 0x7E]))
ENDPOINTS = st.one_of(
    st.sampled_from(["boot.example.org", "host:7", "2001:db8::1", "[2001:db8::2]:9", "::ffff:192.0.2.9"]),
    st.builds("192.0.2.{}:{}".format, st.integers(1, 254), st.integers(1, 65535)),
)
LABELS = st.from_regex(r"[A-Za-z0-9.\u00e9-]{1,20}", fullmatch=True)


@st.composite
def network_files(draw):
    subnet = draw(st.sampled_from(["10.0.42.0/24", "172.16.0.0/16", "fd12::/64"]))
    lines = [f"subnet {subnet}"]
    lines += [f"{word} {draw(LABELS)}" for word in ("name", "namespace") if draw(st.booleans())]
    lines += [f"workbit {draw(st.integers(0, 64))}"] if draw(st.booleans()) else []
    lines += [f"secret {encode_key(draw(KEYS))}"] if draw(st.booleans()) else []
    lines += [f"listen-tcp {draw(st.integers(1, 65535))}"] if draw(st.booleans()) else []
    keys = draw(st.lists(KEYS, unique=True, max_size=6))
    hostnames = draw(st.lists(HOSTNAMES, unique=True, min_size=6, max_size=6))
    hosts = draw(st.lists(st.integers(2, 200), unique=True, min_size=6, max_size=6))
    for key, hostname, host in zip(keys, hostnames, hosts, strict=False):
        kind = draw(st.sampled_from(["boot", "trust", "router", "peer", "alias"]))
        words = [kind]
        if draw(st.booleans()):
            words.append(hostname)
        if kind not in ("boot", "peer") and draw(st.booleans()):
            words.append(str(ipaddress.ip_network(subnet).network_address + host))
        words.append(encode_key(key))
        if kind == "boot" or draw(st.booleans()):
            words.append(draw(ENDPOINTS))
            words += [f"tcp:{draw(st.integers(1, 65535))}"] if draw(st.booleans()) else []
        if kind == "alias":
            words += [f"expires {draw(st.integers(1, 0xFFFFFFFF))}"] if draw(st.booleans()) else []
            nodes = [line for line in lines if line.startswith("trust ")]
            words += [f"at {nodes[0].split()[-1]}"] if nodes and is_key(nodes[0].split()[-1]) else []
        lines.append(" ".join(words))
    return "\n".join(lines)


@given(network_files())
@settings(derandomize=True, deadline=None)
def test_a_network_survives_being_written(text):
    network = parse(text)
    written = render(network)
    assert parse(written) == network
    assert render(parse(written)) == written


def test_an_empty_network_can_be_written():
    assert parse(render(parse(""))) == parse("")
