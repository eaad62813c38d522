"""Control messages to bytes and back (docs/protocol.md section 3)."""

from __future__ import annotations

from typing import Annotated, Any, Union, get_args

import msgspec

from wh.wire import address
from wh.wire.contacts import PACKED_MAX, pack_contacts, unpack_untrusted
from wh.wire.errors import BadMessage
from wh.wire.fields import CLAIM_NONCE_LEN, Uint32
from wh.wire.messages import (
    Answer,
    Authed,
    AuthStatus,
    Contact,
    Dialback,
    Message,
    Nodes,
    Offer,
    Open,
    Opened,
    Pong,
    RecordBytes,
    RelayStatus,
    TokenBytes,
)
from wh.wire.public_key import is_public_key

MAX_MESSAGE_LEN = 1_100
"""A datagram of 1,200 bytes less the 92 of a RESP, the length field and the padding to 16."""


class _Head(msgspec.Struct, array_like=True):
    """The part that messages of all types share, also of types that we do not know."""

    type: Uint32
    request_id: Uint32


class _PackedNodes(msgspec.Struct, array_like=True, frozen=True, tag=Nodes.__struct_config__.tag):
    """NODES as it travels."""

    request_id: Uint32
    token: TokenBytes
    contacts: Annotated[bytes, msgspec.Meta(max_length=PACKED_MAX)]
    record: RecordBytes | None = None


_KINDS = tuple(_PackedNodes if kind is Nodes else kind for kind in get_args(Message))
_ON_THE_WIRE: Any = Union[_KINDS]  # noqa: UP007

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_ON_THE_WIRE)
_head_decoder = msgspec.msgpack.Decoder(_Head)
_KNOWN_TYPES = frozenset(message.__struct_config__.tag for message in get_args(Message))


def encode(message: Message) -> bytes:
    """At most MAX_MESSAGE_LEN bytes; raises ValueError where the message is longer."""
    if isinstance(message, Nodes):
        packed = pack_contacts(message.contacts)
        data = _encoder.encode(_PackedNodes(message.request_id, message.token, packed, message.record))
    else:
        data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE_LEN:
        raise ValueError(f"{type(message).__name__} of {len(data)} bytes; the limit is {MAX_MESSAGE_LEN}")
    return data


def decode_untrusted(data: bytes, *, allow_loopback: bool = False) -> Message | None:
    """The message, or None for a type that this version does not know. Raises BadMessage only.

    An address that no datagram may be sent to is refused (docs/protocol.md section 1), except in NODES, OFFER
    and ANSWER, where only its contact or candidate is left out, and OPENED, where it becomes zeros.
    allow_loopback: 127.0.0.0/8 and ::1 are usable (all nodes on one host).
    """
    if len(data) > MAX_MESSAGE_LEN:
        raise BadMessage(f"{len(data)} bytes; the limit is {MAX_MESSAGE_LEN}")
    try:
        message = _decoder.decode(data)
    except msgspec.ValidationError as error:
        if _is_unknown_type(data):
            return None
        raise BadMessage(str(error)) from None
    except (msgspec.DecodeError, RecursionError) as error:  # RecursionError: arrays nested hundreds deep
        raise BadMessage(str(error)) from None
    return _check_addresses(message, allow_loopback)


def _is_unknown_type(data: bytes) -> bool:
    try:
        return _head_decoder.decode(data).type not in _KNOWN_TYPES
    except (msgspec.DecodeError, RecursionError):
        return False


def _check_addresses(message: Message | _PackedNodes, allow_loopback: bool) -> Message:
    if isinstance(message, _PackedNodes):
        contacts = unpack_untrusted(message.contacts)
        kept = tuple(contact for contact in contacts if _is_usable(contact, allow_loopback))
        return Nodes(message.request_id, message.token, kept, message.record)
    if isinstance(message, Offer | Answer):
        candidates = tuple(
            each
            for each in message.candidates
            if address.is_usable(each.address, allow_loopback=allow_loopback)
        )
        return msgspec.structs.replace(message, candidates=candidates)
    if isinstance(message, Opened):
        return _check_opened(message, allow_loopback)
    if isinstance(message, Authed):
        return _check_authed(message)
    if isinstance(message, Open) and not is_public_key(message.peer):
        raise BadMessage("OPEN names no public key")
    if isinstance(message, Pong):
        named = message.observed
    elif isinstance(message, Dialback):
        named = message.address
    else:
        return message
    if not address.is_usable(named, allow_loopback=allow_loopback):
        raise BadMessage(f"{type(message).__name__} names the unusable address {address.to_text(named)}")
    return message


def _check_opened(opened: Opened, allow_loopback: bool) -> Opened:
    """A relay that sees our peer over TCP, or refuses, names no address."""
    if opened.status == RelayStatus.OK and not is_public_key(opened.peer):
        raise BadMessage("OPENED names no public key")
    if address.is_usable(opened.observed, allow_loopback=allow_loopback):
        return opened
    return msgspec.structs.replace(opened, observed=bytes(len(opened.observed)))


def _check_authed(authed: Authed) -> Authed:
    """Overlay addresses, which no datagram is sent to: IPv4 or IPv6 is all that is asked of them."""
    subnet = authed.subnet
    ips = [*authed.addresses, *authed.server_addresses, *([] if subnet is None else [subnet.base])]
    if any(len(ip) not in (4, 16) for ip in ips):
        raise BadMessage("AUTHED names an address of a wrong length")
    if len(authed.nonce) != (CLAIM_NONCE_LEN if authed.status == AuthStatus.PROVED else 0):
        raise BadMessage("AUTHED has a nonce of a wrong length")
    if subnet is not None and subnet.prefix_len > 8 * len(subnet.base):
        raise BadMessage("AUTHED names a subnet that is longer than an address")
    return authed


def _is_usable(contact: Contact, allow_loopback: bool) -> bool:
    return address.is_usable(contact.address, allow_loopback=allow_loopback) and is_public_key(contact.key)
