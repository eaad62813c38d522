"""How far those are followed who name contacts: what answers nothing may not exist, and be somebody's victim
(docs/protocol.md section 5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wh.dht.table.diversity import Networks
from wh.wire.messages import Contact
from wh.wire.public_key import Key

MAX_SILENT_OF_SOURCE = 3
MAX_SILENT_OF_NETWORKS = (2, 4)  # of one /24, or /48; of one /16, or /32
"""Contacts that may be asked at once without an answer. What never answers keeps its place, and what answers
makes room for one more."""

AT_ONCE_OF_SOURCE = 1
"""Of them, how many wait for an answer at the same time: who invents takes one place of a lookup's three."""

AMPLIFICATION = 3
"""Bytes that go to contacts which have not answered, for each byte of who named them (as RFC 9000, 8.1)."""

FIRST_CONTACT_LEN = 240
NODES_LEN, CONTACT_LEN = 80, 39
"""Bytes of datagrams with their IPv4 and UDP headers: an INIT with PING; NODES without contacts, and what
each adds."""


@dataclass(slots=True)
class _Account:
    """asked: contacts in flight; dead: those that never answered."""

    limit: int
    at_once: int = 0  # beside those that answered; 0: as many as limit
    asked: int = 0
    dead: int = 0
    answered: int = 0
    datagrams: float = float("inf")

    @property
    def has_room(self) -> bool:
        few = not self.at_once or self.asked < self.at_once + self.answered
        return few and self.asked + self.dead < self.limit + self.answered and self.datagrams >= 1

    @property
    def is_closed(self) -> bool:
        """There is no room, and nothing on its way that could make any."""
        return not self.has_room and not self.asked


class Trial:
    """One contact at one address, from the first datagram to its answer or its end. sent: datagrams."""

    __slots__ = ("_accounts", "_sources", "sent")

    def __init__(self, sources: Sequence[_Account], networks: Sequence[_Account]) -> None:
        self._sources = sources
        self._accounts = (*sources, *networks)
        self.sent = 0
        for account in self._accounts:
            account.asked += 1

    @property
    def can_pay(self) -> bool:
        return any(source.datagrams >= 1 for source in self._sources)

    @property
    def waits(self) -> bool:
        """Those who named the contact may still earn something, by others."""
        return any(source.asked for source in self._sources)

    def pay(self) -> bool:
        """For one datagram; False where nobody who named the contact has enough left."""
        if not self.can_pay:
            return False
        self.sent += 1
        for source in self._sources:
            source.datagrams -= 1
        return True

    def answered(self) -> None:
        for account in self._accounts:
            account.asked -= 1
            account.answered += 1
        self._refund()
        for source in self._sources:
            source.datagrams += 1  # as much has come from there as a first contact takes

    def failed(self) -> None:
        for account in self._accounts:
            account.asked -= 1
            account.dead += 1

    def again(self) -> None:
        """After failed()."""
        for account in self._accounts:
            account.asked += 1
            account.dead -= 1

    def withdrawn(self) -> None:
        """Nothing was sent after all: nobody is to blame."""
        for account in self._accounts:
            account.asked -= 1
        self._refund()

    def _refund(self) -> None:
        for source in self._sources:
            source.datagrams += self.sent
        self.sent = 0


class Credit:
    """Accounts of all sources and networks of one lookup."""

    def __init__(self) -> None:
        self._sources: dict[Key, _Account] = {}
        self._networks: dict[bytes, _Account] = {}

    def earn(self, source: Key, contacts: Sequence[Contact], record_len: int) -> None:
        """A source has sent NODES."""
        bytes_sent = NODES_LEN + CONTACT_LEN * len(contacts) + record_len
        self._source(source).datagrams += AMPLIFICATION * bytes_sent / FIRST_CONTACT_LEN

    def may_ask(self, sources: Collection[Key], networks: Networks) -> bool:
        return any(self._source(source).has_room for source in sources) and all(
            network.has_room for network in self._accounts_of(networks)
        )

    def is_closed(self, sources: Collection[Key], networks: Networks) -> bool:
        """Whether it will never be asked."""
        return all(self._source(source).is_closed for source in sources) or any(
            network.is_closed for network in self._accounts_of(networks)
        )

    def begin(self, sources: Collection[Key], networks: Networks) -> Trial:
        return Trial([self._source(source) for source in sources], self._accounts_of(networks))

    def _source(self, key: Key) -> _Account:
        account = self._sources.get(key)
        if account is None:
            account = self._sources[key] = _Account(MAX_SILENT_OF_SOURCE, AT_ONCE_OF_SOURCE, datagrams=0.0)
        return account

    def _accounts_of(self, networks: Networks) -> list[_Account]:
        for network, limit in zip(networks, MAX_SILENT_OF_NETWORKS, strict=True):
            if network not in self._networks:
                self._networks[network] = _Account(limit)
        return [self._networks[network] for network in networks]
