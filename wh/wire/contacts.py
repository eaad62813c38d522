"""Contacts as NODES carries them: 39 bytes each with an IPv4 address, 51 with an IPv6 one, so that K fit.

    family and capabilities 1 || key 32 || address 4 or 16 || port 2, big-endian

The upper bit of the first byte says IPv6. A contact that is cut off ends the list, and the message with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from wh.wire.address import V4_PREFIX, is_v4
from wh.wire.errors import BadMessage
from wh.wire.messages import MAX_CONTACTS, Contact

CONTACT_LEN_V4, CONTACT_LEN_V6 = 39, 51
PACKED_MAX = MAX_CONTACTS * CONTACT_LEN_V6

_IPV6 = 0x80
_KEY_END = 33


def pack_contacts(contacts: Iterable[Contact]) -> bytes:
    """Capabilities beyond the lower seven bits are left out."""
    return b"".join(map(_pack, contacts))


def packed_len(contact: Contact) -> int:
    return CONTACT_LEN_V4 if is_v4(contact.address) else CONTACT_LEN_V6


def unpack_untrusted(data: bytes) -> tuple[Contact, ...]:
    """Raises BadMessage where a contact is cut off, or there are more than MAX_CONTACTS."""
    contacts: list[Contact] = []
    at = 0
    while at < len(data):
        is_v6 = data[at] & _IPV6
        end = at + (CONTACT_LEN_V6 if is_v6 else CONTACT_LEN_V4)
        if end > len(data) or len(contacts) >= MAX_CONTACTS:
            raise BadMessage("NODES with a contact that is cut off, or too many")
        address = data[at + _KEY_END : end]
        key = data[at + 1 : at + _KEY_END]
        contacts.append(Contact(key, address if is_v6 else V4_PREFIX + address, data[at] & ~_IPV6))
        at = end
    return tuple(contacts)


def _pack(contact: Contact) -> bytes:
    if is_v4(contact.address):
        return bytes((contact.flags & 0x7F,)) + contact.key + contact.address[len(V4_PREFIX) :]
    return bytes((contact.flags & 0x7F | _IPV6,)) + contact.key + contact.address
