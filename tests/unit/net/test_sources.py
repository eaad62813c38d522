"""Which of our addresses control datagrams leave from."""

from __future__ import annotations

from wh.engine.events import Path
from wh.net.links.source_routes import Use
from wh.net.sources import PATHS_MAX, UNANSWERED_EACH_S, UNANSWERED_MAX, Sources

PATH, OTHER = (Path(0, bytes([number]) * 18) for number in (1, 2))
HERE, THERE = b"here" * 5, b"there" * 4


def test_a_path_that_does_not_answer_loses_its_source() -> None:
    sources, now = Sources(), 100.0
    sources.heard(PATH, HERE)
    for _ in range(UNANSWERED_MAX):
        sources.asks(PATH, now)
        assert sources.of(PATH) == HERE
        now += UNANSWERED_EACH_S
    sources.asks(PATH, now)
    assert sources.of(PATH) == b""
    sources.heard(PATH, HERE)
    assert sources.of(PATH) == HERE


def test_answers_and_many_questions_at_once_are_no_silence() -> None:
    sources = Sources()
    for now in range(100):
        sources.heard(PATH, HERE)
        for _ in range(10):
            sources.asks(PATH, float(now))
    assert sources.of(PATH) == HERE


def test_what_is_refused_stays_so_whoever_writes_there() -> None:
    sources = Sources()
    sources.heard(PATH, HERE)
    sources.heard(OTHER, HERE)
    sources.refuse({Use(PATH.remote, HERE)})
    sources.heard(PATH, HERE)
    assert (sources.of(PATH), sources.of(OTHER)) == (b"", HERE)
    assert Use(PATH.remote, HERE) in sources.uses(), "to be judged again"
    sources.heard(PATH, THERE)
    assert sources.of(PATH) == THERE
    sources.refuse(set())
    sources.heard(PATH, HERE)
    assert sources.of(PATH) == HERE


def test_the_table_is_bounded() -> None:
    sources = Sources()
    for number in range(PATHS_MAX + 10):
        sources.heard(Path(0, number.to_bytes(18, "big")), HERE)
    assert len(sources.uses()) == PATHS_MAX
    sources.refuse(sources.uses())
    assert len(sources.uses()) == PATHS_MAX
