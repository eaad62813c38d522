"""Which relays a client reserves at, and how long it stays away from those that failed."""

from __future__ import annotations

from client_of_relays import (
    Scene,
    relay_address,
    relay_key,
)

from wh.engine.events import Path
from wh.relay.backoff import ENTRIES_MAX, Backoff
from wh.relay.choosing import SAMPLE, Offer, choose_relays
from wh.wire.address import pack


def offers(*rtts: float | None, member: bool = False, start: int = 0) -> list[Offer]:
    return [
        Offer(relay_key(number), Path(0, relay_address(number)), rtt, member)
        for number, rtt in enumerate(rtts, start)
    ]


def keys(chosen: list[Offer]) -> list[int]:
    return [offer.key[1] for offer in chosen]


def test_the_nearest_are_chosen(scene: Scene) -> None:
    assert keys(choose_relays(offers(0.3, 0.1, None, 0.05), [], 3, scene.engine.rng)) == [3, 1, 2]


def test_members_come_first_however_far(scene: Scene) -> None:
    every = [*offers(0.01, 0.02, 0.03), *offers(0.5, member=True, start=3)]
    assert keys(choose_relays(every, [], 3, scene.engine.rng)) == [3, 0, 1]


def test_each_network_gives_one_relay_where_there_are_others(scene: Scene) -> None:
    same = [Offer(relay_key(number), Path(0, pack(f"20.9.0.{number}", 1)), 0.01, False) for number in (7, 8)]
    every = [*same, *offers(0.5, 0.6)]
    assert keys(choose_relays(every, [], 3, scene.engine.rng)) == [7, 0, 1]
    assert keys(choose_relays(every, [pack("20.9.0.1", 1)], 2, scene.engine.rng)) == [0, 1]
    assert sorted(keys(choose_relays(same, [], 3, scene.engine.rng))) == [7, 8]


def test_only_eight_random_ones_are_compared(scene: Scene) -> None:
    chosen = {
        tuple(keys(choose_relays(offers(*([0.1] * 4 * SAMPLE)), [], 3, scene.engine.rng))) for _ in range(50)
    }
    assert len(chosen) > 10
    assert choose_relays([], [], 3, scene.engine.rng) == []


def test_failures_make_pauses_longer() -> None:
    backoff = Backoff((1.0, 5.0, 30.0))
    for pause in (1.0, 5.0, 30.0, 30.0):
        backoff.failed("a", 0.0)
        assert not backoff.may_try("a", pause - 0.1)
        assert backoff.may_try("a", pause)
    backoff.succeeded("a")
    assert backoff.may_try("a", 0.0)
    assert "a" not in backoff
    for number in range(2 * ENTRIES_MAX):
        backoff.failed(number, 0.0)
    assert len(backoff) == ENTRIES_MAX
