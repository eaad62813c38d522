"""A lane's frames meet the fate that its impairments say, the same one each time."""

import pytest

from lane import ETHERNET_LEN, Impairments, Lane

FRAMES = [n.to_bytes(4, "big") + bytes(96) for n in range(2_000)]


def pass_all(impairments: Impairments, seed: str = "seed", gap_s: float = 0.0) -> list[tuple[float, bytes]]:
    """(arrival, frame) of FRAMES sent from 0 s on, gap_s apart, looked at each 0.1 ms."""
    lane = Lane(impairments, seed)
    for number, frame in enumerate(FRAMES):
        lane.push(frame, number * gap_s)
    arrived = []
    while (due := lane.next_due) is not None:
        arrived += [(due, frame) for frame in lane.due(due)]
    assert lane.counters.carried == len(arrived)
    return arrived


def test_nothing_arrives_before_its_delay_and_all_in_order() -> None:
    arrived = pass_all(Impairments(delay_s=0.02), gap_s=0.001)
    assert [frame for _, frame in arrived] == FRAMES
    assert all(at == pytest.approx(number * 0.001 + 0.02) for number, (at, _) in enumerate(arrived))


def test_jitter_keeps_the_order() -> None:
    arrived = pass_all(Impairments(delay_s=0.02, jitter_s=0.01), gap_s=0.002)
    assert [frame for _, frame in arrived] == FRAMES
    lateness = [at - number * 0.002 - 0.02 for number, (at, _) in enumerate(arrived)]
    assert min(lateness) >= -1e-9
    assert 0.009 < max(lateness) <= 0.01 + 1e-9


def test_loss_is_as_frequent_as_said_and_seeded() -> None:
    first = pass_all(Impairments(loss=0.1))
    assert 0.08 < 1 - len(first) / len(FRAMES) < 0.12
    assert pass_all(Impairments(loss=0.1)) == first
    assert pass_all(Impairments(loss=0.1), "another") != first


def test_duplicates_arrive_twice() -> None:
    frames = [frame for _, frame in pass_all(Impairments(duplicate=0.1))]
    assert set(frames) == set(FRAMES)
    assert 1.08 < len(frames) / len(FRAMES) < 1.12


def test_reordered_frames_are_passed_by_later_ones() -> None:
    frames = [frame for _, frame in pass_all(Impairments(reorder=0.1, reorder_by_s=0.005), gap_s=0.001)]
    assert sorted(frames) == FRAMES
    passed = sum(frame > later for frame, later in zip(frames, frames[1:], strict=False))
    assert 0.08 < passed / len(FRAMES) < 0.12


def test_rate_spaces_frames_and_a_full_queue_drops_the_rest() -> None:
    lane = Lane(Impairments(rate_bit_s=800_000, queue_s=0.1005), "seed")  # 1 ms a frame of 100 bytes
    for frame in FRAMES:
        lane.push(frame, 0.0)
    assert lane.counters.queue_full == len(FRAMES) - 101
    assert len(lane.due(0.0505)) == 50
    assert len(lane.due(1.0)) == 51


@pytest.mark.parametrize(("length", "passes"), [(1280, True), (1281, False)])
def test_black_hole_takes_what_is_longer(length: int, passes: bool) -> None:
    lane = Lane(Impairments(black_hole_over=1280), "seed")
    lane.push(bytes(ETHERNET_LEN + length), 0.0)
    assert len(lane.due(0.0)) == passes
    assert lane.counters.too_long == (not passes)


def test_cut_wire_still_delivers_what_was_under_way() -> None:
    lane = Lane(Impairments(delay_s=1.0), "seed")
    lane.push(b"before", 0.0)
    lane.alter(cut=True)
    lane.push(b"after", 0.1)
    lane.alter(cut=False)
    lane.push(b"mended", 0.2)
    assert lane.due(2.0) == [b"before", b"mended"]


def test_shorter_delay_lets_nobody_overtake() -> None:
    lane = Lane(Impairments(delay_s=1.0), "seed")
    lane.push(b"first", 0.0)
    lane.alter(delay_s=0.1)
    lane.push(b"second", 0.1)
    assert lane.due(0.9) == []
    assert lane.due(1.0) == [b"first", b"second"]


def udp_frame(payload: bytes) -> bytes:
    ethernet = bytes(12) + b"\x08\x00"
    ip = bytes([0x45]) + bytes(8) + bytes([17]) + bytes(10)
    return ethernet + ip + bytes(6) + b"\xab\xcd" + payload


def test_corruption_is_one_bit_of_a_udp_payload() -> None:
    lane = Lane(Impairments(corrupt=1.0), "seed")
    frame = udp_frame(bytes(100))
    lane.push(frame, 0.0)
    (wrong,) = lane.due(0.0)
    assert wrong[:40] == frame[:40]
    assert wrong[40:42] == bytes(2), "no checksum, so nobody can tell"
    assert int.from_bytes(wrong[42:], "big").bit_count() == 1
    assert lane.counters.corrupted == 1


def test_nothing_but_udp_is_corrupted() -> None:
    lane = Lane(Impairments(corrupt=1.0), "seed")
    frames = [b"short", udp_frame(b""), bytes(100), udp_frame(b"TCP")[:23] + b"\x06" + bytes(40)]
    for frame in frames:
        lane.push(frame, 0.0)
    assert lane.due(0.0) == frames


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"delay_s": -1.0}, {"reorder": -0.1}])
def test_impossible_impairments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Impairments(**wrong)
