"""Lookups over a network of 300 made-up servers, some of them lossy, dead or hostile, on a fake clock."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest

from wh.dht.lookups.credit import CONTACT_LEN, FIRST_CONTACT_LEN, NODES_LEN
from wh.dht.lookups.lookup import MAX_QUERIES_OF_PATH, RECORD_QUORUM, RETRY_S, Lookup
from wh.dht.lookups.shortlist import MAX_CANDIDATES, MAX_REGION, MAX_TRIES, Shortlist
from wh.dht.table.contacts import TrackedContact
from wh.dht.table.metric import ALPHA, ID_SPACE, K, bucket_index, distance
from wh.engine.rtt import INITIAL_TIMEOUT_S
from wh.wire.address import Address, pack, prefix
from wh.wire.messages import MAX_CONTACTS, Capability, Contact
from wh.wire.records import Record

TARGET = random.Random(1).randbytes(32)
RTT_S = 0.05


def address_of(number: int) -> Address:
    """Each number in a /16 of its own."""
    return pack(f"{20 + number // 200}.{number % 200}.1.1", 62096)


def nearest(keys: Iterable[bytes], target: bytes = TARGET, limit: int = K) -> list[bytes]:
    return sorted(keys, key=lambda key: distance(key, target))[:limit]


def near(target: bytes, rng: random.Random, shared_bits: int = 64) -> bytes:
    """A key nearer to target than anybody honest."""
    return target[: shared_bits // 8] + rng.randbytes(32 - shared_bits // 8)


@dataclass
class Server:
    """Knows up to K others in each bucket, and answers with the nearest of them."""

    contact: Contact
    known: list[Contact] = field(default_factory=list)
    answer: Callable[[bytes], Sequence[Contact]] | None = None  # instead of the truth
    record: Record | None = None
    loss: float = 0.0
    delay: float = RTT_S

    def nodes(self, target: bytes) -> Sequence[Contact]:
        if self.answer is not None:
            return self.answer(target)
        return sorted(self.known, key=lambda each: distance(each.key, target))[:MAX_CONTACTS]


class Network:
    def __init__(self, servers: int = 300, seed: int = 7) -> None:
        self.rng = random.Random(seed)
        self.servers: dict[bytes, Server] = {}
        self.asked: Counter[bytes] = Counter()
        for number in range(servers):
            self.add(self.rng.randbytes(32), address_of(number))
        for server in self.servers.values():
            self.introduce(server)

    def add(self, key: bytes, address: Address) -> Server:
        self.servers[key] = Server(Contact(key, address, Capability.SERVER))
        return self.servers[key]

    def introduce(self, server: Server) -> None:
        own = server.contact.key
        buckets: dict[int, list[Contact]] = {}
        for other in self.servers.values():
            if other is not server:
                buckets.setdefault(bucket_index(own, other.contact.key), []).append(other.contact)
        for bucket in buckets.values():
            server.known += self.rng.sample(bucket, min(K, len(bucket)))

    def pick(self, share: float) -> list[Server]:
        return self.rng.sample(list(self.servers.values()), int(share * len(self.servers)))

    def seeds(self, number: int = K) -> list[TrackedContact]:
        """What a newcomer with a sparse table knows."""
        chosen = self.rng.sample(list(self.servers.values()), min(number, len(self.servers)))
        return [TrackedContact(each.contact.key, each.contact.address, SERVER, 0.0) for each in chosen]

    def run(self, lookup: Lookup) -> float:
        """Carry out the lookup; returns the seconds that it took."""
        now, serial = 0.0, count()
        arrivals: list[tuple[float, int, Contact]] = []
        while True:
            for contact in lookup.next_queries(now):
                self.asked[contact.key] += 1
                server = self.servers.get(contact.key)
                reached = server is not None and server.contact.address == contact.address
                if reached and self.rng.random() >= server.loss:
                    heapq.heappush(arrivals, (now + server.delay, next(serial), contact))
            if lookup.done:
                return now
            deadline = lookup.next_deadline()
            assert deadline is not None, "nothing in flight, and yet not done"
            now = min([deadline] + [arrival for arrival, _, _ in arrivals])
            while arrivals and arrivals[0][0] <= now:
                self.deliver(lookup, heapq.heappop(arrivals)[2])

    def deliver(self, lookup: Lookup, contact: Contact) -> None:
        server = self.servers[contact.key]
        lookup.on_response(
            contact.key,
            contact.address,
            server.nodes(lookup.target),
            token=contact.key[:8],
            record=server.record,
        )


SERVER = Capability.SERVER


def lookup_in(network: Network, **options: object) -> Lookup:
    fields: dict[str, object] = {"want_record": False, **options}
    return Lookup(TARGET, network.seeds(), **fields)  # type: ignore[arg-type]


def keys_found(lookup: Lookup, limit: int = K) -> list[bytes]:
    return [responder.contact.key for responder in lookup.result().closest][:limit]


def missed(lookup: Lookup, among: Iterable[bytes]) -> int:
    """How many of the K nearest were not found. NODES names 16, so the last few depend on who knew them."""
    return len(set(nearest(among)) - set(keys_found(lookup)))


@pytest.mark.parametrize("paths", [1, 4, 8])
def test_the_nearest_servers_are_found_in_a_few_round_trips(paths):
    network = Network()
    lookup = lookup_in(network, paths=paths)
    seconds = network.run(lookup)
    assert keys_found(lookup, MAX_CONTACTS) == nearest(network.servers, limit=MAX_CONTACTS)
    assert missed(lookup, network.servers) <= (3 if paths == 1 else 0)
    assert set(network.asked.values()) == {1}
    assert len(network.asked) <= (40 if paths == 1 else 90)
    assert seconds < 20 * RTT_S
    assert all(responder.token == responder.contact.key[:8] for responder in lookup.result().closest)


@pytest.mark.parametrize("seed", range(4))
def test_lost_datagrams_do_not_hide_the_nearest(seed):
    network = Network(seed=seed)
    for server in network.servers.values():
        server.loss = 0.15
    lookup = lookup_in(network)
    network.run(lookup)
    # Both tries of a request are lost once in 44.
    assert missed(lookup, network.servers) <= 4


@pytest.mark.parametrize("seed", range(4))
def test_dead_servers_are_passed_over(seed):
    network = Network(seed=seed)
    dead = network.pick(0.2)
    for server in dead:
        server.loss = 1.0
    lookup = lookup_in(network)
    network.run(lookup)
    alive = set(network.servers) - {server.contact.key for server in dead}
    assert keys_found(lookup, 8) == nearest(alive, limit=8)
    assert missed(lookup, alive) <= 5
    assert max(network.asked.values()) <= 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("paths", [1, 4])
def test_liars_who_invent_nearer_servers_do_not_hide_the_nearest(seed, paths):
    network = Network(seed=seed)
    liars = network.pick(0.1)

    def invent(target: bytes) -> list[Contact]:
        return [
            Contact(near(target, network.rng), address_of(network.rng.randrange(20_000)), SERVER)
            for _ in range(MAX_CONTACTS)
        ]

    for liar in liars:
        liar.answer = invent
    lookup = lookup_in(network, paths=paths)
    network.run(lookup)
    assert keys_found(lookup, 8) == nearest(network.servers, limit=8)
    assert missed(lookup, network.servers) <= 4


def test_a_crowd_that_lives_near_the_target_cannot_make_a_lookup_endless():
    """Each of them names sixteen more, nearer than all before, and answers sooner or later or never."""
    network = Network(servers=3)
    gaps = count(2**200, -1)

    def invent(target: bytes) -> list[Contact]:
        keys = [(int.from_bytes(target, "big") ^ next(gaps)).to_bytes(32, "big") for _ in range(MAX_CONTACTS)]
        made = [network.add(key, address_of(network.rng.randrange(20_000))) for key in keys]
        for server in made:
            server.answer, server.loss = invent, 0.5
        return [server.contact for server in made]

    lookup = lookup_in(network)
    for server in network.servers.values():
        server.answer = invent
    network.run(lookup)
    assert sum(network.asked.values()) == MAX_QUERIES_OF_PATH
    assert len(list(lookup._shortlist)) <= MAX_CANDIDATES


def add_crowd(network: Network, accomplices: Iterable[Server], *, same_network: bool) -> set[bytes]:
    """Sixty living servers nearer to the target than all honest ones, who name each other, and of whom only
    the accomplices tell."""
    crowd = []
    for host in range(60):
        address = pack(f"203.0.113.{host + 1}", 1) if same_network else address_of(10_000 + host)
        crowd.append(network.add(near(TARGET, network.rng), address))
    contacts = [server.contact for server in crowd]
    for server in crowd:
        server.answer = lambda target: network.rng.sample(contacts, MAX_CONTACTS)
    for server in accomplices:
        server.known += network.rng.sample(contacts, MAX_CONTACTS)
    return {contact.key for contact in contacts}


@pytest.mark.parametrize("paths", [1, 4])
def test_a_crowd_of_one_network_gets_two_places_in_the_put_set(paths):
    network = Network()
    honest = set(network.servers)
    crowd = add_crowd(network, network.pick(0.3), same_network=True)
    lookup = lookup_in(network, paths=paths)
    network.run(lookup)
    put_set = [responder.contact.key for responder in lookup.result().put_set]
    assert len(put_set) == K
    assert len(crowd & set(put_set)) == 2
    assert len(set(nearest(honest)) & set(put_set)) >= K - 5


def test_disjoint_paths_reach_honest_servers_past_a_crowd_of_many_networks():
    network = Network()
    honest = set(network.servers)
    seeds = network.seeds()
    accomplice = network.servers[nearest([seed.key for seed in seeds])[0]]
    add_crowd(network, [accomplice], same_network=False)
    honest_found = {}
    for paths in (1, 4):
        lookup = Lookup(TARGET, seeds, want_record=False, paths=paths)
        network.run(lookup)
        honest_found[paths] = len(set(keys_found(lookup, MAX_CANDIDATES)) & set(nearest(honest)))
    assert honest_found[1] < 3
    assert honest_found[4] >= K // 2


def test_the_put_set_keeps_four_of_a_16_and_two_of_a_24():
    network = Network(servers=0)
    for number in range(120):
        address = pack(f"198.{number // 60}.{number // 6 % 10}.{number % 6 + 1}", 1)
        network.add(network.rng.randbytes(32), address)
    for number in range(30):
        network.add(network.rng.randbytes(32), address_of(number))
    for server in network.servers.values():
        network.introduce(server)
    lookup = lookup_in(network)
    network.run(lookup)
    addresses = [responder.contact.address for responder in lookup.result().put_set]
    assert len(addresses) == K
    assert max(Counter(prefix(address, 24, 48) for address in addresses).values()) <= 2
    assert max(Counter(prefix(address, 16, 32) for address in addresses).values()) <= 4


def test_a_small_network_in_one_room_uses_all_its_servers():
    network = Network(servers=0)
    for number in range(6):
        network.add(network.rng.randbytes(32), pack(f"203.0.113.{number + 1}", 1))
    for server in network.servers.values():
        network.introduce(server)
    lookup = Lookup(TARGET, network.seeds(1), want_record=False)
    network.run(lookup)
    assert {responder.contact.key for responder in lookup.result().put_set} == set(network.servers)


def test_the_region_that_should_hold_k_servers_is_covered():
    network = Network()
    ranked = nearest(network.servers, limit=30)
    lookup = lookup_in(network, paths=4, radius=distance(ranked[-1], TARGET))
    network.run(lookup)
    put_set = {responder.contact.key for responder in lookup.result().put_set}
    assert put_set <= set(ranked)
    assert len(put_set) >= 26
    everything = lookup_in(network, paths=4, radius=ID_SPACE)
    network.run(everything)
    assert len(everything.result().put_set) == MAX_REGION


def test_nobody_to_ask_is_an_end_at_once():
    lookup = Lookup(TARGET, [], want_record=True)
    assert lookup.next_queries(0.0) == []
    assert lookup.done
    assert lookup.result().closest == lookup.result().put_set == ()


# Timing


def seed(number: int, rtt: float | None = None) -> TrackedContact:
    contact = TrackedContact(bytes([number + 1]) + bytes(31), address_of(number), SERVER, 0.0)
    if rtt is not None:
        contact.rtt.add_sample(rtt)
    return contact


def answer(lookup: Lookup, contact: Contact, *contacts: Contact, record: Record | None = None) -> None:
    lookup.on_response(contact.key, contact.address, contacts, token=b"", record=record)


def test_a_slow_request_is_replaced_and_its_answer_still_counts():
    lookup = Lookup(TARGET, [seed(number) for number in range(ALPHA + 2)], want_record=False)
    first = lookup.next_queries(0.0)
    assert len(first) == ALPHA
    assert lookup.next_queries(0.1) == []
    assert lookup.next_deadline() == INITIAL_TIMEOUT_S
    replacements = lookup.next_queries(INITIAL_TIMEOUT_S)
    assert len(replacements) == 2
    for contact in [*first, *replacements]:
        answer(lookup, contact)
    assert lookup.done
    assert len(lookup.result().closest) == ALPHA + 2


def test_the_timeout_of_a_seed_is_that_of_its_round_trips():
    lookup = Lookup(TARGET, [seed(0, rtt=0.001)], want_record=False)
    lookup.next_queries(10.0)
    assert lookup.next_deadline() == pytest.approx(10.15)


def test_a_server_is_asked_once_at_each_of_its_addresses():
    """The request itself is repeated before that."""
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    assert len(lookup.next_queries(0.0)) == 1
    assert lookup.next_queries(RETRY_S) == []
    assert lookup.done


def test_a_failure_to_send_needs_no_waiting():
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    (contact,) = lookup.next_queries(0.0)
    lookup.on_failure(contact.key)
    assert lookup.next_queries(0.0) == []
    assert lookup.done


# Whom to believe


def test_only_those_who_were_asked_may_answer():
    lookup = Lookup(TARGET, [seed(number) for number in range(ALPHA + 1)], want_record=True)
    asked = {contact.key for contact in lookup.next_queries(0.0)}
    (unasked,) = [seed(n).to_wire() for n in range(ALPHA + 1) if seed(n).key not in asked]
    stranger = Contact(b"\x77" * 32, address_of(77), SERVER)
    for contact in (unasked, stranger):
        answer(lookup, contact, Contact(b"\x78" * 32, address_of(78), SERVER))
    assert lookup.result().closest == ()
    assert len(list(lookup._shortlist)) == ALPHA + 1


def test_a_second_answer_adds_nothing():
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    (contact,) = lookup.next_queries(0.0)
    for number in (1, 2):
        answer(lookup, contact, seed(number).to_wire())
    assert [query.key for query in lookup.next_queries(0.0)] == [seed(1).key]


def test_a_key_hidden_behind_a_wrong_address_is_reached_at_the_right_one():
    lookup = Lookup(TARGET, [seed(0), seed(1)], want_record=False)
    liar, honest = lookup.next_queries(0.0)
    key = near(TARGET, random.Random(3))
    answer(lookup, liar, Contact(key, address_of(50), SERVER))
    answer(lookup, honest, Contact(key, address_of(51), SERVER))
    tried = [query.address for now in (0.0, RETRY_S) for query in lookup.next_queries(now)]
    assert tried == [address_of(50), address_of(51)]


def test_we_do_not_ask_ourselves():
    own = near(TARGET, random.Random(4))
    lookup = Lookup(TARGET, [seed(0)], want_record=False, excluded=[own])
    (contact,) = lookup.next_queries(0.0)
    answer(lookup, contact, Contact(own, address_of(60), SERVER))
    assert lookup.next_queries(0.0) == []
    assert lookup.done


@pytest.mark.parametrize(("source", "believed"), [("192.0.2.1", False), ("10.1.1.1", True)])
def test_private_addresses_are_taken_only_from_a_private_source(source, believed):
    source_contact = TrackedContact(b"\x05" * 32, pack(source, 1), SERVER, 0.0)
    lookup = Lookup(TARGET, [source_contact], want_record=False)
    (contact,) = lookup.next_queries(0.0)
    answer(lookup, contact, Contact(b"\x06" * 32, pack("192.168.1.1", 1), SERVER))
    assert bool(lookup.next_queries(0.0)) == believed


def invented(number: int, network: int = 0) -> Contact:
    """The higher the number, the farther from TARGET."""
    address = pack(f"203.0.{network}.{number % 256}", 1) if network else address_of(100 + number)
    key = (int.from_bytes(TARGET, "big") ^ number).to_bytes(32, "big")
    return Contact(key, address, SERVER)


def ask_until_done(lookup: Lookup, answers: dict[bytes, Sequence[Contact]]) -> list[Contact]:
    """Only these keys answer. Returns whom the others have been, for each datagram that went out."""
    now, silent = 0.0, []
    while not lookup.done:
        for contact in lookup.next_queries(now):
            if contact.key in answers:
                answer(lookup, contact, *answers[contact.key])
            else:
                silent += [contact] * (1 + lookup.may_repeat(contact.key))
        deadline = lookup.next_deadline()
        now = now if deadline is None else max(now, deadline)
    return silent


def test_of_a_source_of_three_dead_no_more_is_asked():
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    asked = ask_until_done(lookup, {seed(0).key: [invented(number) for number in range(1, 17)]})
    assert {contact.key for contact in asked} == {invented(number).key for number in (1, 2, 3)}
    assert len(asked) == 3 * 2


def test_others_may_vouch_for_what_a_liar_named_too():
    liar, honest = seed(0), seed(1)
    true = invented(9)
    answers = {liar.key: [*map(invented, range(1, 9)), true], honest.key: [true], true.key: []}
    lookup = Lookup(TARGET, [liar, honest], want_record=False)
    ask_until_done(lookup, answers)
    assert true in [responder.contact for responder in lookup.result().closest]


def test_a_source_a_third_of_whose_contacts_have_died_is_no_liar():
    contacts = [invented(number) for number in range(1, 17)]
    answers = {contact.key: [] for number, contact in enumerate(contacts) if number % 3}
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    ask_until_done(lookup, {seed(0).key: contacts, **answers})
    assert {responder.contact.key for responder in lookup.result().closest} == {seed(0).key, *answers}


@pytest.mark.parametrize("liars", [1, 20])
def test_two_of_a_24_are_asked_and_four_of_a_16_while_none_answers(liars):
    seeds = [seed(number) for number in range(liars)]
    answers = {
        each.key: [invented(16 * i + j, 1 + j % 4) for j in range(1, 13)] for i, each in enumerate(seeds)
    }
    lookup = Lookup(TARGET, seeds, want_record=False)
    asked = {contact.address for contact in ask_until_done(lookup, answers)}
    assert max(Counter(prefix(address, 24, 48) for address in asked).values()) <= 2
    assert len(asked) <= 4


@pytest.mark.parametrize("count", range(1, 17))
def test_three_bytes_go_to_the_silent_for_each_of_who_named_them(count):
    named = [invented(number) for number in range(1, count + 1)]
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    asked = ask_until_done(lookup, {seed(0).key: named})
    assert len(asked) * FIRST_CONTACT_LEN <= 3 * (NODES_LEN + count * CONTACT_LEN)


def test_many_addresses_of_one_key_are_not_many_targets():
    liars = [seed(number) for number in range(12)]
    answers = {
        each.key: [Contact(invented(1).key, address_of(200 + number), SERVER)]
        for number, each in enumerate(liars)
    }
    lookup = Lookup(TARGET, liars, want_record=False)
    assert len({contact.address for contact in ask_until_done(lookup, answers)}) <= MAX_TRIES


def test_where_nothing_may_be_sent_nobody_is_to_blame():
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    (contact,) = lookup.next_queries(0.0)
    answer(lookup, contact, *map(invented, range(1, 9)))
    unsent = []
    while queries := lookup.next_queries(0.0):
        for query in queries:
            unsent.append(query)
            lookup.on_unsent(query.key)
    assert len(unsent) == 8
    assert lookup.done


def test_a_source_of_addresses_that_we_have_no_way_to_is_no_liar():
    """Such as IPv6 ones, on a host without."""
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    (contact,) = lookup.next_queries(0.0)
    elsewhere = [
        Contact(invented(number).key, pack(f"2001:db8:{number}::1", 1), SERVER) for number in range(1, 9)
    ]
    both = Contact(elsewhere[0].key, address_of(300), SERVER)
    answer(lookup, contact, *elsewhere, both, *map(invented, range(9, 13)))
    asked = []
    while queries := lookup.next_queries(0.0):
        for query in queries:
            if len(query.address[:12].strip(b"\0")) > 2:
                lookup.on_unsent(query.key)
            else:
                asked.append(query)
                answer(lookup, query)
    assert both in asked
    assert {query.key for query in asked} >= {invented(number).key for number in range(9, 13)}


def test_a_first_contact_that_answers_is_waited_for_again():
    lookup = Lookup(TARGET, [seed(0)], want_record=False)
    (contact,) = lookup.next_queries(0.0)
    answer(lookup, contact, invented(1))
    (query,) = lookup.next_queries(0.0)
    assert not lookup.is_known(query.key)
    lookup.on_alive(query.key, 0.2, 1.4)
    assert lookup.is_known(query.key)
    assert lookup.next_deadline() == pytest.approx(1.6)
    lookup.next_queries(1.6)
    assert lookup.next_deadline() == pytest.approx(1.4 + RETRY_S)


def test_a_full_shortlist_keeps_the_nearest_and_whoever_was_asked():
    rng = random.Random(6)
    shortlist = Shortlist(bytes(32), ())
    asked = shortlist.add(Contact(b"\xff" * 32, address_of(0), SERVER), path=0, source=None)
    assert asked is not None
    asked.place.tries = 1
    keys = [b"\x7f" + rng.randbytes(31) for _ in range(3 * MAX_CANDIDATES)]
    keys += [rng.randbytes(1) + rng.randbytes(31) for _ in range(MAX_CANDIDATES)]
    for key in keys:
        shortlist.add(Contact(key, address_of(1), SERVER), path=0, source=None)
    kept = [candidate.key for candidate in shortlist]
    assert kept == nearest(keys, bytes(32), MAX_CANDIDATES - 1) + [asked.key]


# Records


def record(sequence: int, key: bytes = TARGET) -> Record:
    return Record(key=key, sequence=sequence, expiry=2_000_000_000)


def test_the_highest_sequence_wins_and_a_quorum_ends_the_lookup_early():
    network = Network()
    holders = [network.servers[key] for key in nearest(network.servers)]
    for number, server in enumerate(holders):
        server.record = record(5 if number == 1 else 4)
    lookup = lookup_in(network, want_record=True)
    network.run(lookup)
    assert lookup.record in (record(4), record(5))
    assert len(network.asked) < 30
    careful = lookup_in(network, want_record=True, paths=4)
    network.run(careful)
    assert careful.result().record == record(5)


def test_fewer_holders_than_a_quorum_are_enough():
    network = Network()
    for key in nearest(network.servers)[: RECORD_QUORUM - 1]:
        network.servers[key].record = record(4)
    lookup = lookup_in(network, want_record=True)
    network.run(lookup)
    assert lookup.result().record == record(4)


def test_a_record_of_somebody_else_is_not_taken():
    lookup = Lookup(TARGET, [seed(0)], want_record=True)
    (contact,) = lookup.next_queries(0.0)
    answer(lookup, contact, record=record(9, key=b"\x01" * 32))
    assert lookup.record is None
