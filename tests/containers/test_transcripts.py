"""What the documents show of containers, typed as it stands there, prints what stands there."""

from __future__ import annotations

import pytest

from container_engine import ROOT, Engine
from transcripts import Player, Step, transcript

README = ROOT / "README.md"
DOCUMENT = ROOT / "docs/containers.md"


def player(engine: Engine) -> Player:
    """Of a transcript about node-a and node-b on the network lab."""
    names = {name: engine.unique(name) for name in ("node-a", "node-b", "lab")}
    for name in ("node-a", "node-b"):
        engine.expect("volume", names[name])
    engine.expect("network", names["lab"])
    for name in ("node-a", "node-b"):
        engine.expect("container", names[name])
    return Player(engine, names)


def play(player: Player, steps: list[Step]) -> None:
    for step in steps:
        player.play(step)


def test_the_readme_begins_with_the_two_images(engine: Engine) -> None:
    first, *others = transcript(README, "Quick start")
    assert first.command.split("#")[0].split() == ["make", "sandbox"]
    shells = [step for step in others if step.typed]
    assert [step.command.split("wirehub/")[1].split()[0] for step in shells] == ["wh", "sandbox"]
    assert others[:2] == shells
    play(player(engine), others)


@pytest.mark.parametrize("heading", ["A node", "Sandbox"])
def test_the_document_of_containers_is_played(engine: Engine, heading: str) -> None:
    actor = player(engine)
    (actor.directory / "config").write_text("name lan\nsubnet 10.0.42.0/24\n")
    play(actor, transcript(DOCUMENT, heading))
