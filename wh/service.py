"""A running node: every part made in order, and unmade in the opposite one however far it came."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from wh.config import parser
from wh.config.model import IPAddress, Network
from wh.errors import Code, ConfigError, SystemSetupError, UserError
from wh.events import Key, LocalAddresses, NetworkLoaded, Stopping
from wh.host import Host
from wh.ipc import listener
from wh.ipc.paths import socket_path
from wh.ipc.schema import Ready, Reloaded
from wh.ipc.server import IpcServer
from wh.naming import hosts
from wh.naming.table import NameTable
from wh.net.control import ControlChannel
from wh.net.link_monitor import LinkMonitor, open_change_socket
from wh.net.netlink import LinkManager
from wh.net.runner import Runner
from wh.net.sockets import open_udp_sockets
from wh.net.tun import close_all, open_tun
from wh.node import Node
from wh.overlay import MTU, default_interface, needs_interface, own_address, plan_overlay
from wh.state import StateFile, state_path
from wh.verbs import Verbs
from wh.wire.address import pack
from wh.wire.messages import NONCE_LEN, Ping
from whcore.datapath import Datapath
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey, encode_key, verify

log = logging.getLogger(__name__)

STATE_CHECK_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `wh up` was asked for. interface, listen_port: None for the defaults."""

    interface: str | None = None
    listen_port: int | None = None
    mode: str = "unknown"
    hosts_path: Path | None = hosts.HOSTS_PATH
    ephemeral: bool = False
    allow_loopback: bool = False
