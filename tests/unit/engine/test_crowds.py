from __future__ import annotations

import random

import pytest

from wh.engine.crowds import LEVELS, Crowd
from wh.wire.address import Address, pack, prefix


def at(host: str) -> Address:
    return pack(host, 1)


def crowd_of(*hosts: str) -> Crowd[int]:
    crowd: Crowd[int] = Crowd()
    for name, host in enumerate(hosts):
        crowd.add(name, at(host))
    return crowd


def test_the_most_crowded_network_loses() -> None:
    crowd = crowd_of("20.1.0.1", "20.2.0.1", "20.2.1.1", "20.2.2.1")
    (loser,) = crowd.rivals(at("20.3.0.1"))
    assert loser in (1, 2, 3)


def test_within_it_the_most_crowded_part_and_host_do() -> None:
    crowd = crowd_of("20.2.0.1", "20.2.7.1", "20.2.7.2", "20.2.7.2", "20.3.0.1")
    assert list(crowd.rivals(at("20.4.0.1"))) == [2, 3]


def test_networks_that_are_alike_take_nothing_from_each_other() -> None:
    crowd = crowd_of("20.1.0.1", "20.2.0.1")
    assert not crowd.rivals(at("20.3.0.1"))
    assert not crowd.rivals(at("20.1.0.1"))


def test_who_shares_a_network_with_a_crowd_competes_within_it() -> None:
    crowd = crowd_of("20.1.7.1", "20.1.7.1", "20.1.7.1", "20.2.0.1")
    assert list(crowd.rivals(at("20.1.8.1"))) == [0, 1, 2]
    assert list(crowd.rivals(at("20.1.7.2"))) == [0, 1, 2]
    assert not crowd.rivals(at("20.1.7.1"))


@pytest.mark.parametrize("hosts", ["2001:db8:{}::1", "2001:db8:7:{}::1", "2001:db8:7:7::{}"])
def test_ipv6_is_cheap_within_a_network(hosts: str) -> None:
    crowd = crowd_of(*(hosts.format(f"{number:x}") for number in range(1, 9)), "2400:1::1")
    assert crowd.rivals(at("2400:2::1"))


def test_an_empty_table_has_no_loser() -> None:
    assert not Crowd[int]().rivals(at("20.1.0.1"))


@pytest.mark.parametrize("seed", range(3))
def test_places_never_go_back_and_forth(seed: int) -> None:
    """A full table, and newcomers for ever, those that lost among them: in the end all networks that come
    have their share, and nothing changes any more."""
    rng = random.Random(seed)
    crowd: Crowd[int] = Crowd()
    hosts = [at(f"20.{rng.randrange(4)}.{rng.randrange(9)}.{rng.randrange(9)}") for _ in range(300)]
    hosts += [at(f"30.{number}.0.1") for number in range(20)]
    capacity, changes = 100, 0
    for turn in range(40):
        changes = 0
        for name in rng.sample(range(len(hosts)), len(hosts)):
            if name in crowd:
                continue
            if len(crowd) >= capacity:
                rivals = crowd.rivals(hosts[name])
                if not rivals:
                    continue
                crowd.remove(next(iter(rivals)))
            crowd.add(name, hosts[name])
            changes += 1
        assert len(crowd) <= capacity, turn
    assert changes == 0
    assert all(number in crowd for number in range(300, 320))
    assert {crowd.count(at(f"20.{number}.0.1"), 0) for number in range(4)} == {20}


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_the_slow_way(seed: int) -> None:
    rng = random.Random(seed)
    crowd: Crowd[int] = Crowd()
    known: dict[int, Address] = {}
    for _ in range(2000):
        name = rng.randrange(50)
        address = at(f"20.{rng.randrange(3)}.{rng.randrange(3)}.{rng.randrange(3)}")
        if rng.random() < 0.4:
            crowd.remove(name)
            known.pop(name, None)
        else:
            crowd.add(name, address)
            known[name] = address
        for level, bits in enumerate(LEVELS):
            same = sum(prefix(each, *bits) == prefix(address, *bits) for each in known.values())
            assert crowd.count(address, level) == same
    assert len(crowd) == len(known)
