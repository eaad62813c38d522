"""Endpoint records: what is signed, what is refused."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.wire.address import pack
from wh.wire.candidates import Candidate, CandidateFlag, Filtering, Mapping, NatProfile
from wh.wire.errors import BadRecord
from wh.wire.records import (
    CLOCK_SKEW_S,
    MAX_LIFETIME_S,
    Record,
    RecordFlag,
    Relay,
    decode_header_untrusted,
    decode_untrusted,
    next_sequence,
    sign_record,
)

deterministic = settings(derandomize=True, deadline=None)

KEY = b"\x09" + bytes(31)
OTHER_KEY = b"\x0a" + bytes(31)
NOW = 1_800_000_000.0
NAMESPACE = b"public"


def signature_of(key: bytes, message: bytes) -> bytes:
    """Stands in for XEdDSA: anybody could make it, but it depends on every bit of key and message."""
    return hashlib.blake2b(message, key=key, digest_size=64).digest()


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(signature_of(key, message), signature)


def signed(record: Record, namespace: bytes = NAMESPACE) -> bytes:
    return sign_record(
        record, namespace=namespace, sign=lambda message: signature_of(record.key, message)
    ).encoded


def decode(data: bytes, *, unix: float = NOW, namespace: bytes = NAMESPACE) -> Record:
    return decode_untrusted(data, namespace=namespace, verify=verify, unix=unix)


def make_record(**changes: object) -> Record:
    fields: dict[str, object] = {
        "key": KEY,
        "sequence": 1_800_000_000_123,
        "expiry": int(NOW) + 3600,
        "flags": RecordFlag.SERVER,
        "candidates": (
            Candidate(pack("192.0.2.1", 62096), CandidateFlag.CONFIRMED),
            Candidate(pack("2001:db8::1", 62096)),
        ),
        "relays": (Relay(OTHER_KEY, pack("198.51.100.1", 1), 25),),
        "nat": NatProfile(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT),
    }
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


addresses = st.builds(
    pack,
    st.one_of(st.ip_addresses(v=4, network="192.0.2.0/24"), st.ip_addresses(v=6, network="2001:db8::/32")),
    st.integers(1, 0xFFFF),
)
records = st.builds(
    Record,
    key=st.sampled_from([KEY, OTHER_KEY]),
    sequence=st.integers(0, 2**64 - 1),
    expiry=st.integers(int(NOW) + 1, int(NOW) + MAX_LIFETIME_S),
    flags=st.integers(0, 0xFFFF),
    candidates=st.lists(st.builds(Candidate, addresses, st.integers(0, 255)), max_size=8).map(tuple),
    relays=st.lists(
        st.builds(Relay, st.just(OTHER_KEY), addresses, st.integers(0, 65535), st.integers(0, 255)),
        max_size=3,
    ).map(tuple),
    nat=st.builds(NatProfile, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)),
)


@deterministic
@given(records)
def test_what_is_signed_is_read_back(record):
    data = signed(record)
    assert len(data) <= 512
    decoded = decode(data)
    assert decoded == record
    assert decoded.encoded == data
    assert decode_header_untrusted(data) == (record.key, record.sequence, record.expiry, record.flags)


def test_the_layout_is_that_of_the_protocol():
    data = signed(make_record(candidates=(), relays=(), nat=NatProfile()))
    body = b"\x93\x90\x90\x93\x00\x00\x00"
    unsigned = (
        b"WHR2"
        + KEY
        + (1_800_000_000_123).to_bytes(8, "little")
        + (int(NOW) + 3600).to_bytes(4, "little")
        + (1).to_bytes(2, "little")
        + len(body).to_bytes(2, "little")
        + body
    )
    assert data == unsigned + signature_of(KEY, b"wirehub record\x06public" + unsigned)


@deterministic
@given(records, st.data())
def test_no_changed_record_is_accepted(record, data):
    encoded = bytearray(signed(record))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadRecord):
        decode(bytes(encoded))


@deterministic
@given(records, st.data())
def test_no_cut_or_lengthened_record_is_accepted(record, data):
    encoded = signed(record)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for changed in (encoded[:cut], encoded + data.draw(st.binary(min_size=1, max_size=600))):
        with pytest.raises(BadRecord):
            decode(changed)


@deterministic
@given(st.one_of(st.binary(max_size=600), st.binary(max_size=500).map(lambda tail: b"WHR2" + KEY + tail)))
def test_random_bytes_raise_nothing_but_bad_record(data):
    for function in (decode, decode_header_untrusted):
        try:
            function(data)
        except BadRecord:
            continue
        # Without a signature only the header of well-formed bytes can pass.
        assert function is decode_header_untrusted


@deterministic
@given(st.binary(max_size=396))
def test_a_signed_body_of_junk_raises_nothing_but_bad_record(body):
    unsigned = (
        b"WHR2"
        + KEY
        + bytes(8)
        + (int(NOW) + 60).to_bytes(4, "little")
        + bytes(2)
        + len(body).to_bytes(2, "little")
        + body
    )
    data = unsigned + signature_of(KEY, b"wirehub record\x06public" + unsigned)
    try:
        decode(data)
    except BadRecord as error:
        assert "body" in str(error)


def test_a_record_belongs_to_one_namespace():
    data = signed(make_record(), namespace=b"public")
    with pytest.raises(BadRecord, match="signature"):
        decode(data, namespace=b"publi")


@pytest.mark.parametrize(
    ("expiry_from_now", "accepted"),
    [
        (-1, False),
        (0, False),
        (1, True),
        (MAX_LIFETIME_S + CLOCK_SKEW_S, True),
        (MAX_LIFETIME_S + CLOCK_SKEW_S + 1, False),
    ],
)
def test_expiry_is_ahead_but_not_too_far(expiry_from_now, accepted):
    data = signed(make_record(expiry=int(NOW) + expiry_from_now))
    if accepted:
        assert decode(data).expiry == int(NOW) + expiry_from_now
    else:
        with pytest.raises(BadRecord, match="expire"):
            decode(data)


def test_the_signature_is_checked_only_where_everything_else_holds():
    """It is the expensive part: whoever sends junk must not buy one with each datagram."""

    def never(key: bytes, message: bytes, signature: bytes) -> bool:
        raise AssertionError("signature checked")

    for data in (b"", signed(make_record(expiry=int(NOW) - 1)), b"WHR3" + signed(make_record())[4:]):
        with pytest.raises(BadRecord):
            decode_untrusted(data, namespace=NAMESPACE, verify=never, unix=NOW)


def test_unusable_candidates_and_relays_are_left_out():
    good = Candidate(pack("192.0.2.1", 1))
    record = make_record(
        candidates=(Candidate(pack("192.0.2.1", 0)), good, Candidate(pack("127.0.0.1", 1))),
        relays=(Relay(bytes(32), pack("192.0.2.1", 1)), Relay(OTHER_KEY, pack("224.0.0.1", 1))),
    )
    decoded = decode(signed(record))
    assert (decoded.candidates, decoded.relays) == ((good,), ())


def test_more_than_512_bytes_are_not_signed():
    long_candidates = tuple(Candidate(pack("192.0.2.1", port)) for port in range(1, 20))
    with pytest.raises(ValueError, match="512"):
        sign_record(
            make_record(candidates=long_candidates), namespace=NAMESPACE, sign=lambda message: bytes(64)
        )


@deterministic
@given(st.lists(st.floats(0, 2**32), min_size=1, max_size=20))
def test_sequences_rise_whatever_the_clock_does(clock):
    last = 0
    for unix in clock:
        sequence = next_sequence(last, unix)
        assert sequence > last
        assert sequence >= int(unix * 1000)
        last = sequence
