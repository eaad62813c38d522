"""A client of relays, and a relay, each as it is after its start."""

from __future__ import annotations

import pytest
from client_of_relays import Scene
from relaying_node import Relay


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.wait(1)
    return scene


@pytest.fixture
def relay() -> Relay:
    return Relay()
