from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wh.engine.events import Instant
from wh.engine.timers import Alarm, Alarms, Timers


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=300), st.floats(0, 100))
def test_what_is_due_runs_in_order_and_cancelled_calls_do_not(
    wanted: list[tuple[float, bool]], until: float
) -> None:
    timers, called = Timers(), []
    for number, (when, cancelled) in enumerate(wanted):
        timer = timers.call_at(when, lambda now, number=number: called.append(number))
        if cancelled:
            timer.cancel()
    timers.run_due(Instant(until, 0.0))
    expected = [
        (when, number) for number, (when, cancelled) in enumerate(wanted) if when <= until and not cancelled
    ]
    assert called == [number for _, number in sorted(expected)]
    later = [when for when, cancelled in wanted if when > until and not cancelled]
    assert timers.next_deadline() == min(later, default=None)
    assert len(timers) == len(later)


def test_a_callback_that_schedules_itself_does_not_hold_up_the_caller() -> None:
    timers = Timers()

    def again(now: Instant) -> None:
        timers.call_at(now.monotonic, again)

    timers.call_at(0.0, again)
    timers.run_due(Instant(1.0, 0.0))
    assert timers.next_deadline() == 1.0


def test_a_callback_can_cancel_another_that_is_due_too() -> None:
    timers, called = Timers(), []
    timers.call_at(1.0, lambda now: second.cancel())
    second = timers.call_at(2.0, lambda now: called.append(2))
    timers.run_due(Instant(3.0, 0.0))
    assert called == []


def test_cancelled_timers_take_no_room_for_long() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.call_at(1000.0 + number, lambda now: None).cancel()
    assert len(timers._heap) < 200


def test_an_alarm_holds_the_call_that_was_set_last() -> None:
    timers, called = Timers(), []
    alarm = Alarm(timers)
    alarm.set(1.0, lambda now: called.append(1))
    alarm.set(2.0, lambda now: called.append(2))
    alarm.set_by(3.0, lambda now: called.append(3))
    assert alarm.pending
    timers.run_due(Instant(5.0, 0.0))
    assert called == [2]
    assert not alarm.pending
    alarm.set_by(7.0, lambda now: called.append(7))
    alarm.set_by(6.0, lambda now: called.append(6))
    timers.run_due(Instant(9.0, 0.0))
    assert called == [2, 6]


def test_alarms_are_cancelled_together_and_may_be_added_after_that() -> None:
    timers, called = Timers(), []
    alarms = Alarms(timers)
    for number in range(3):
        alarms.add(float(number), lambda now: called.append("too late"))
    alarms.cancel()
    alarms.add(1.0, lambda now: called.append("in time"))
    timers.run_due(Instant(9.0, 0.0))
    assert called == ["in time"]
