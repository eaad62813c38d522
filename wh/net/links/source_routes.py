"""Whether what leaves from an address of ours still takes the way that it took when it was learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from wh.config.model import IPAddress
from wh.net.links.netlink_socket import NetlinkSocket
from wh.wire.address import Address, ip_of

ADDRESS_LEN = 16
"""Of a source, as of whcore.datapath.ControlDatagram: the index of its link follows, 4 bytes."""


class Use(NamedTuple):
    """Datagrams to remote leave from source, by the link that the other side's came in on."""

    remote: Address
    source: bytes


class _Ways(NamedTuple):
    """routed: the link that routes and rules lead to. held: whether a gateway is on the way out of the
    source's own link; None where there is no such way."""

    routed: int | None
    held: bool | None


class SourceRoutes:
    """mark: the fwmark of our sockets, 0: none. Raises RtnetlinkError, DumpInterrupted."""

    def __init__(self, mark: Callable[[], int] = lambda: 0) -> None:
        self._mark = mark
        self._learnt: dict[tuple[IPAddress, bytes], _Ways] = {}

    def learn(self, kernel: NetlinkSocket, uses: Iterable[Use]) -> None:
        """Call it when nothing has changed lately."""
        keys = {_key(use) for use in uses}
        self._learnt = {
            key: self._learnt[key] if key in self._learnt else self._ways(kernel, *key) for key in keys
        }

    def refused(self, kernel: NetlinkSocket, uses: Iterable[Use]) -> set[Use]:
        """After a change: those whose address is no longer ours, or which take another way than they did."""
        ours = {entry.address.ip for entry in kernel.addresses()}
        verdicts: dict[tuple[IPAddress, bytes], bool] = {}
        found = set()
        for use in uses:
            key = _key(use)
            if key not in verdicts:
                verdicts[key] = _address(use.source) not in ours or self._differs(kernel, *key)
            if verdicts[key]:
                found.add(use)
        return found

    def _differs(self, kernel: NetlinkSocket, to: IPAddress, source: bytes) -> bool:
        link = _link(source)
        now = self._ways(kernel, to, source)
        before = self._learnt.get((to, source), _Ways(link, now.held))
        if now.routed is None or now.held is None or now.held != before.held:
            return True
        return now.routed not in (before.routed, link)

    def _ways(self, kernel: NetlinkSocket, to: IPAddress, source: bytes) -> _Ways:
        link, ours, mark = _link(source), _address(source), self._mark()
        if to.version == 6 and to.is_link_local:
            return _Ways(link, False)
        routed = kernel.way_to(to, source=ours, mark=mark)
        held = kernel.way_to(to, source=ours, mark=mark, ifindex=link)
        return _Ways(
            None if routed is None else routed.ifindex, None if held is None else held.gateway is not None
        )


def _key(use: Use) -> tuple[IPAddress, bytes]:
    return ip_of(use.remote), use.source


def _address(source: bytes) -> IPAddress:
    return ip_of(source[:ADDRESS_LEN] + bytes(2))


def _link(source: bytes) -> int:
    return int.from_bytes(source[ADDRESS_LEN:], "little")
