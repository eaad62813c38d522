from __future__ import annotations

from engine_parts import OTHER_PATH, PATH
from hypothesis import given, settings
from hypothesis import strategies as st

from wh.engine.events import Path
from wh.paths.states import HAVING_PATH, TRANSITIONS, PathInput, PathState, PeerPath

inputs = st.sampled_from(PathInput)
paths = st.sampled_from([PATH, OTHER_PATH])


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(inputs, paths), max_size=50))
def test_data_has_a_path_exactly_when_one_is_proved_and_not_lost(
    happened: list[tuple[PathInput, Path]],
) -> None:
    machine, expected = PeerPath(), None
    for what, path in happened:
        changed = machine.step(what, path)
        before = expected
        if what is PathInput.PROVED:
            expected = path
        elif what in (PathInput.LOST, PathInput.DROPPED):
            expected = None
        assert machine.path == expected
        assert changed == (before != expected)
        assert (machine.state in HAVING_PATH) == (expected is not None)


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(PathState)
    assert {state for state, _ in TRANSITIONS} == set(PathState)


def test_a_late_failure_does_not_touch_a_path_that_works() -> None:
    machine = PeerPath()
    machine.step(PathInput.TRY)
    machine.step(PathInput.PROVED, PATH)
    assert not machine.step(PathInput.EXHAUSTED)
    assert not machine.step(PathInput.TRY)
    assert (machine.state, machine.path) == (PathState.DIRECT, PATH)
