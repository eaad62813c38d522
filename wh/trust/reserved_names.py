"""Names that systems and programs look up without being told: no other host may answer for them here."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
"""One label of letters, digits, hyphens and underscores: no dots, no escapes, nothing that only looks like a
letter. `_gateway` and `_outbound`, which systemd answers for, begin otherwise."""

_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_ENCODED = re.compile(r"..--.*")

_ITSELF = "means every host itself"
_NETWORK = "means a part of the network around a host"
_DISCOVERY = "is looked up by programs, which do what the answer says"
_RESERVED = "is reserved (RFC 6761, RFC 6762, RFC 8375, RFC 9476)"

_NAMES = {
    **dict.fromkeys(("localdomain", "loopback", "broadcasthost", "localnet"), _ITSELF),
    **dict.fromkeys(
        ("gateway", "router", "modem", "outbound", "resolver", "nameserver", "dns", "ns", "dhcp", "proxy")
        + ("default", "link-local", "mcastprefix", "allnodes", "allrouters", "allhosts", "host"),
        _NETWORK,
    ),
    **dict.fromkeys(
        ("wpad", "isatap", "teredo", "autodiscover", "autoconfig", "lyncdiscover", "lyncdiscoverinternal")
        + ("sip", "sipinternal", "sipexternal", "enterpriseenrollment", "enterpriseregistration")
        + ("metadata", "instance-data", "rancher-metadata", "kubernetes", "docker", "host-gateway")
        + ("puppet", "puppetca", "salt", "chef", "loghost", "mailhost", "timehost", "time", "ntp", "kerberos")
        + ("kdc", "ldap", "syslog", "pxe", "tftp", "pki", "vpn"),
        _DISCOVERY,
    ),
    **dict.fromkeys(
        ("local", "arpa", "test", "invalid", "example", "onion", "internal", "alt", "home", "corp", "lan")
        + ("intranet", "private", "mail", "domain"),
        _RESERVED,
    ),
}
_BEGINNINGS = (("localhost", _ITSELF), ("ip6-", _ITSELF), ("ipv6-", _ITSELF), ("wpad", _DISCOVERY))


def why_reserved(name: str) -> str | None:
    """Why a name, in lower case, is none for another's host: the end of a sentence about it."""
    if _PLAIN.fullmatch(name) is None:
        return "is not one word of letters, digits, hyphens and underscores"
    if _NUMBER.fullmatch(name):
        return "would be read as an address"
    if _ENCODED.fullmatch(name):
        return "is shown with other letters than it has"
    beginning = next((reason for start, reason in _BEGINNINGS if name.startswith(start)), None)
    return beginning or _NAMES.get(name)
