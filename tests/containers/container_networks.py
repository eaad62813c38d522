"""The README's network in containers: a public node, and members behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from container_engine import FULL, MINIMAL, NOTHING, Container, Engine

PORT = 62096
CONFIG = "/etc/wirehub/config"
USER = ("--user", "1000")


def mounted(config: object, volume: str) -> list[str]:
    return ["--volume", f"{config}:{CONFIG}:ro", "--volume", f"{volume}:/var/lib/wirehub"]


class Tutorial:
    """Keys, volumes and files; start() runs a node. The public node is user 1000 without any capability.

    users: options that name the user of a member that is not root.
    """

    def __init__(
        self, engine: Engine, *members: str, users: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.engine = engine
        self.network = engine.network()
        self.volumes = {name: engine.volume() for name in ("public", *members)}
        who = {"public": USER, **(users or {})}
        self.keys = {name: engine.key(volume, *who.get(name, ())) for name, volume in self.volumes.items()}
        self.public = self._start_public()
        self.config = engine.file("config", self.network_file(*members))

    def network_file(self, *members: str) -> str:
        lines = [
            "name tutorial",
            "subnet 10.0.42.0/24",
            f"boot {self.keys['public']} {self.engine.address(self.public)}",
            *(f"trust {name} {self.keys[name]}" for name in members),
        ]
        return "\n".join(lines) + "\n"

    def _start_public(self) -> Container:
        """Its address is known only when it runs: what its boot line would say, `mode direct` says too."""
        file = self.engine.file("public", "name public\n")
        options = [*NOTHING, *USER, "--read-only", "--network", self.network]
        words = ("wh-node", "mode", "direct", "listen-port", str(PORT))
        return self.engine.start(MINIMAL, [*options, *mounted(file, self.volumes["public"])], *words)

    def start(
        self, member: str, options: Sequence[str] = FULL, words: Sequence[str] = (), image: str = MINIMAL
    ) -> Container:
        return self.engine.start(
            image,
            ["--network", self.network, *options, *mounted(self.config, self.volumes[member])],
            *("wh-node", *words),
        )
