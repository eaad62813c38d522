from __future__ import annotations

import ipaddress

import pytest
from engine_parts import OWN_ADDRESS, PEER_ADDRESS, make_engine

from wh.config.model import Network
from wh.engine.addressing import Addressing
from wh.engine.events import LocalAddresses, Path
from wh.wire.address import pack

PRIVATE = pack("192.168.1.5", 62096)
LOOPBACK = pack("127.0.0.1", 62096)


@pytest.fixture
def addressing() -> Addressing:
    addressing = make_engine().addressing
    addressing.set_network(Network(subnet=ipaddress.ip_network("198.18.0.0/16")))
    return addressing


def test_a_path_uses_the_socket_of_the_address_family(addressing: Addressing) -> None:
    assert addressing.path_to(PEER_ADDRESS) == Path(0, PEER_ADDRESS)
    sixth = pack("2001:db8::1", 62096)
    addressing.set_local(LocalAddresses(((0, 4), (1, 6)), ()))  # not known yet
    assert addressing.path_to(sixth) == Path(1, sixth)
    addressing.set_local(LocalAddresses(((0, 4),), ()))
    assert addressing.path_to(sixth) is None


def test_there_is_no_path_to_a_family_that_this_host_has_no_address_of(addressing: Addressing) -> None:
    sixth, own_sixth = pack("2001:db8::1", 62096), pack("2001:db8::2", 62096)
    sockets = ((0, 4), (1, 6))
    addressing.set_local(LocalAddresses(sockets, (OWN_ADDRESS,)))
    assert addressing.path_to(sixth) is None
    addressing.set_local(LocalAddresses(sockets, (own_sixth,)))
    assert addressing.path_to(sixth) == Path(1, sixth)
    assert addressing.path_to(PEER_ADDRESS) is None
    link_local = pack("169.254.7.7", 62096)
    assert addressing.has_family_of(link_local)


@pytest.mark.parametrize(
    "address",
    [
        OWN_ADDRESS,
        LOOPBACK,
        pack("198.18.3.4", 1),  # in the overlay's subnet
        pack("2001:2f::1", 1),  # an ORCHID
        pack("224.0.0.1", 1),
        pack("198.51.100.2", 0),
        pack("0.0.0.0", 1),  # noqa: S104
    ],
)
def test_nothing_is_sent_to_ourselves_into_the_overlay_or_to_unusable_addresses(
    addressing: Addressing, address: bytes
) -> None:
    assert addressing.path_to(address) is None
    assert not addressing.is_acceptable(address)


def test_private_addresses_mean_something_only_in_a_private_network(addressing: Addressing) -> None:
    addressing.set_local(LocalAddresses(((0, 4),), (PRIVATE, OWN_ADDRESS)))
    other = pack("192.168.9.9", 1)
    addressing.set_configured([PEER_ADDRESS, other])
    assert addressing.publishable() == [OWN_ADDRESS]
    assert not addressing.is_acceptable(pack("10.0.0.1", 1))
    assert addressing.is_acceptable(other)  # the file says so
    addressing.set_configured([other])
    assert addressing.publishable() == sorted([OWN_ADDRESS, PRIVATE])
    assert addressing.is_acceptable(pack("10.0.0.1", 1))


def test_loopback_works_where_the_file_uses_it(addressing: Addressing) -> None:
    addressing.set_configured([LOOPBACK])
    assert addressing.path_to(pack("127.0.0.1", 5)) is not None
