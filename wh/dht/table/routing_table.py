"""The servers a node knows, in k-buckets by distance (docs/protocol.md section 5; Kademlia 2.2, 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from wh.dht.table.contacts import MAX_FAILURES, TrackedContact
from wh.dht.table.diversity import PrefixLimit
from wh.dht.table.metric import K, RandomBytes, bucket_index, distance, random_key_in_bucket
from wh.wire.address import Address
from wh.wire.messages import Capability, Contact
from wh.wire.public_key import Key

REPLACEMENT_CACHE_LEN = 10
MAX_OF_NETWORK_IN_BUCKET = 2  # of one /24, or /48
MAX_OF_NETWORK_IN_TABLE = 10
MAX_OF_LARGE_NETWORK_IN_BUCKET = 4  # of one /16, or /32
MAX_OF_LARGE_NETWORK_IN_TABLE = 20
OF_BUCKET = ((24, 48, MAX_OF_NETWORK_IN_BUCKET), (16, 32, MAX_OF_LARGE_NETWORK_IN_BUCKET))
OF_TABLE = ((24, 48, MAX_OF_NETWORK_IN_TABLE), (16, 32, MAX_OF_LARGE_NETWORK_IN_TABLE))

SOURCES_FROM = 20
MAX_OF_SOURCE_IN_BUCKET = K // 5
"""Once so many contacts are known, of those that only one node has named a bucket takes so many."""

THIN = K // 2
THIN_REFRESH_S, BUCKET_REFRESH_S = 30 * 60, 4 * 3600
"""After which a bucket is looked up again: with fewer live contacts than that, and with more."""


class Added(Enum):
    """What became of a contact that was offered to the table."""

    INSERTED = "inserted"
    REFRESHED = "refreshed"  # it was there
    CACHED = "cached"  # its bucket is full of live contacts
    REFUSED = "refused"  # ourselves, no server, or one too many of its network


class _Bucket:
    """contacts: at most K, the least recently seen first. cache: waiting for a place, the newest last."""

    __slots__ = ("cache", "contacts", "limits", "looked_up_at")

    def __init__(self, looked_up_at: float) -> None:
        self.contacts: list[TrackedContact] = []
        self.cache: list[TrackedContact] = []
        self.limits = [PrefixLimit(*limit) for limit in OF_BUCKET]
        self.looked_up_at = looked_up_at


def _count_live(bucket: _Bucket) -> int:
    return sum(not contact.dead for contact in bucket.contacts)


class RoutingTable:
    """Servers by distance from our own key; at most K and 10 in a cache for each of 256 buckets.

    Offer it only contacts that this node has itself exchanged messages with, at that address. Times are
    monotonic seconds. The contacts it returns are its own: read them, and add round trips to their `rtt`.
    """

    def __init__(self, own_key: Key, now: float) -> None:
        self._own_key = own_key
        self._made_at = now
        self._buckets: dict[int, _Bucket] = {}  # by index from 1; most of the 256 never hold anything
        self._contacts: dict[Key, TrackedContact] = {}
        self._limits = [PrefixLimit(*limit) for limit in OF_TABLE]
        self._protected: frozenset[Key] = frozenset()

    def __len__(self) -> int:
        return len(self._contacts)

    def __iter__(self) -> Iterator[TrackedContact]:
        return iter(self._contacts.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._contacts

    def get(self, key: Key) -> TrackedContact | None:
        return self._contacts.get(key)

    def is_alive_at(self, key: Key, address: Address) -> bool:
        contact = self._contacts.get(key)
        return contact is not None and not contact.dead and contact.address == address

    # Coming and going

    def set_protected(self, keys: Iterable[Key]) -> None:
        """The bootstraps of the network file: no limit by network applies to them, they need no SERVER flag
        and are not evicted. They too enter only by add(); who was one stays where any server may."""
        former, self._protected = self._protected, frozenset(keys)
        for key in former - self._protected:
            contact = self._contacts.get(key)
            if contact is None:
                continue
            self._take_out(contact)
            if contact.flags & Capability.SERVER:
                self._insert(contact)

    def add(self, contact: Contact, now: float, source: Key | None = None) -> Added:
        """Take in, or mark as seen, a node that just talked to us. source: the only one who named it."""
        if contact.key == self._own_key:
            return Added.REFUSED
        if contact.key not in self._protected and not contact.flags & Capability.SERVER:
            self.remove(contact.key)
            return Added.REFUSED
        known = self._contacts.get(contact.key)
        if known is not None:
            known.source = known.source if source == known.source else None
            return self._refresh(known, contact, now)
        self._drop_from_cache(contact.key)
        tracked = TrackedContact(contact.key, contact.address, contact.flags, now, source=source)
        outcome = self._insert(tracked)
        return self._to_cache(tracked) if outcome is Added.CACHED else outcome

    def on_answer(self, key: Key, now: float) -> None:
        """A contact answered a request."""
        contact = self._contacts.get(key)
        if contact is not None:
            self._mark_seen(contact, now)

    def on_failure(self, key: Key) -> bool:
        """A contact left a request unanswered. Returns whether it is dead now: no longer given to anybody,
        and replaced as soon as there is another for its place."""
        contact = self._contacts.get(key)
        if contact is None:
            return False
        contact.failures += 1
        if contact.dead and key not in self._protected:
            self._replace_from_cache(contact)
        return contact.dead

    def remove(self, key: Key) -> None:
        """Forget a contact that said goodbye, or is no server any more. A protected one stays."""
        if key in self._protected or key == self._own_key:
            return
        self._drop_from_cache(key)
        contact = self._contacts.get(key)
        if contact is not None:
            self._take_out(contact)
            self._promote(self._bucket_of(key))

    # Questions

    def closest(self, target: Key, count: int, *, include_dead: bool = False) -> list[TrackedContact]:
        """At most `count` contacts, nearest to target first."""
        found: list[TrackedContact] = []
        number = int.from_bytes(target, "big")
        for contacts in self._by_rising_distance(target):
            usable = [contact for contact in contacts if include_dead or contact.failures < MAX_FAILURES]
            usable.sort(key=lambda contact: contact.position ^ number)
            found += usable
            if len(found) >= count:
                break
        return found[:count]

    def count_nearer(self, target: Key) -> int:
        """Live servers that are nearer to target than we are."""
        ours, number = distance(self._own_key, target), int.from_bytes(target, "big")
        return sum(not contact.dead and contact.position ^ number < ours for contact in self)

    # Refresh of quiet buckets

    def on_lookup(self, target: Key, now: float) -> None:
        """A lookup for target began: its bucket needs no refresh for 30 minutes."""
        if target != self._own_key:
            self._bucket_of(target).looked_up_at = now

    def buckets_to_refresh(self, now: float) -> list[int]:
        """Indices of quiet buckets, from the farthest (1) to the nearest that is not thin: a lookup of
        ourselves shows all that is nearer."""
        live = {index: _count_live(bucket) for index, bucket in self._buckets.items()}
        nearest = max((index for index, count in live.items() if count >= THIN), default=1)
        return [
            index for index in range(1, nearest + 1) if self._refresh_at(index, live.get(index, 0)) <= now
        ]

    def forget_lookups(self) -> None:
        """All buckets are to be looked up."""
        self._made_at = float("-inf")
        for bucket in self._buckets.values():
            bucket.looked_up_at = self._made_at

    def refresh_target(self, index: int, random_bytes: RandomBytes) -> Key:
        """A random key in the range of a bucket, to look up."""
        return random_key_in_bucket(self._own_key, index, random_bytes)

    def _refresh_at(self, index: int, live: int) -> float:
        bucket = self._buckets.get(index)
        looked_up_at = bucket.looked_up_at if bucket is not None else self._made_at
        return looked_up_at + (THIN_REFRESH_S if live < THIN else BUCKET_REFRESH_S)

    # Places: in a bucket, in its cache

    def _bucket_of(self, key: Key) -> _Bucket:
        index = bucket_index(self._own_key, key)
        bucket = self._buckets.get(index)
        if bucket is None:
            bucket = self._buckets[index] = _Bucket(self._made_at)
        return bucket

    def _by_rising_distance(self, target: Key) -> Iterator[list[TrackedContact]]:
        """All contacts in groups, each wholly nearer to target than the next: those that share more bits with
        target than we do; those that share as many; then bucket by bucket those that share fewer."""
        shared = bucket_index(self._own_key, target)
        if shared in self._buckets:
            yield self._buckets[shared].contacts
        nearer = [bucket for index, bucket in self._buckets.items() if index > shared]
        yield [contact for bucket in nearer for contact in bucket.contacts]
        for index in sorted((index for index in self._buckets if index < shared), reverse=True):
            yield self._buckets[index].contacts

    def _insert(self, contact: TrackedContact) -> Added:
        """Give a new contact a place, a dead one's if need be. CACHED: there is none outside the cache."""
        bucket = self._bucket_of(contact.key)
        if not self._allow_network(bucket, contact):
            return Added.REFUSED
        if self._has_too_many_of_source(bucket, contact):
            return Added.CACHED
        if len(bucket.contacts) >= K and not self._evict_dead(bucket.contacts):
            return Added.CACHED
        bucket.contacts.append(contact)
        self._contacts[contact.key] = contact
        self._count(contact)
        return Added.INSERTED

    def _has_too_many_of_source(self, bucket: _Bucket, contact: TrackedContact) -> bool:
        """Nobody's word alone fills a bucket."""
        if contact.source is None or len(self) < SOURCES_FROM or contact.key in self._protected:
            return False
        return sum(each.source == contact.source for each in bucket.contacts) >= MAX_OF_SOURCE_IN_BUCKET

    def _take_out(self, contact: TrackedContact) -> None:
        self._bucket_of(contact.key).contacts.remove(contact)
        del self._contacts[contact.key]
        self._uncount(contact)

    def _mark_seen(self, contact: TrackedContact, now: float) -> None:
        contact.failures = 0
        contact.last_seen = now
        contacts = self._bucket_of(contact.key).contacts
        contacts.remove(contact)
        contacts.append(contact)

    def _refresh(self, known: TrackedContact, contact: Contact, now: float) -> Added:
        if contact.address != known.address and not self._move(known, contact.address):
            return Added.REFUSED
        known.flags = contact.flags
        self._mark_seen(known, now)
        return Added.REFRESHED

    def _move(self, contact: TrackedContact, address: Address) -> bool:
        """Change a contact's address, unless there are too many of the new network."""
        former = contact.address
        self._uncount(contact)
        contact.address = address
        allowed = self._allow_network(self._bucket_of(contact.key), contact)
        if not allowed:
            contact.address = former
        self._count(contact)
        return allowed

    def _evict_dead(self, contacts: Iterable[TrackedContact]) -> bool:
        """Take out the first of contacts that is dead and not protected."""
        for contact in contacts:
            if contact.dead and contact.key not in self._protected:
                self._take_out(contact)
                return True
        return False

    def _replace_from_cache(self, dead: TrackedContact) -> None:
        """A dead contact without a successor stays: when our own link was down, all of them look dead."""
        if self._promote(self._bucket_of(dead.key)) and dead.key in self._contacts:
            self._take_out(dead)

    def _promote(self, bucket: _Bucket) -> bool:
        for contact in reversed(bucket.cache):
            if self._insert(contact) is Added.INSERTED:
                bucket.cache.remove(contact)
                return True
        return False

    def _to_cache(self, contact: TrackedContact) -> Added:
        bucket = self._bucket_of(contact.key)
        for limit in map(PrefixLimit, *zip(*OF_BUCKET, strict=True)):
            for cached in bucket.cache:
                limit.add(cached.address)
            if not limit.has_room(contact.address):
                return Added.REFUSED
        bucket.cache.append(contact)
        del bucket.cache[:-REPLACEMENT_CACHE_LEN]
        return Added.CACHED

    def _drop_from_cache(self, key: Key) -> None:
        bucket = self._bucket_of(key)
        bucket.cache = [contact for contact in bucket.cache if contact.key != key]

    # Limits by network

    def _allow_network(self, bucket: _Bucket, contact: TrackedContact) -> bool:
        """Whether contact's network has room, also by evicting dead contacts of the same one."""
        if contact.key in self._protected:
            return True
        places = [(limit, bucket.contacts) for limit in bucket.limits]
        everywhere = list(self._contacts.values())
        places += [(limit, everywhere) for limit in self._limits]
        return all(self._make_room(limit, among, contact.address) for limit, among in places)

    def _make_room(self, limit: PrefixLimit, among: Iterable[TrackedContact], address: Address) -> bool:
        if limit.has_room(address):
            return True
        network = limit.network_of(address)
        of_network = [contact for contact in among if limit.network_of(contact.address) == network]
        return self._evict_dead(of_network) and limit.has_room(address)

    def _count(self, contact: TrackedContact) -> None:
        for limit in (*self._bucket_of(contact.key).limits, *self._limits):
            limit.add(contact.address)

    def _uncount(self, contact: TrackedContact) -> None:
        for limit in (*self._bucket_of(contact.key).limits, *self._limits):
            limit.remove(contact.address)
