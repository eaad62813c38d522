"""A running node: its parts made in order, and unmade in the opposite order however far that came."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wh import overlay
from wh.commands import Notify
from wh.config import parser
from wh.config.model import Network, Peer
from wh.errors import Code, ConfigError, SystemSetupError
from wh.events import Event, Key, LocalAddresses, NetworkLoaded, Stopping
from wh.host import Host
from wh.inspection import Facts, Snapshot, describe
from wh.ipc.listener import is_alive
from wh.ipc.paths import socket_path
from wh.ipc.schema import Ready, Reloaded, Status
from wh.ipc.server import IpcServer
from wh.naming.table import NameTable
from wh.net.control import ControlChannel
from wh.net.link_monitor import LinkMonitor, open_change_socket
from wh.net.netlink import LinkManager
from wh.net.runner import Runner
from wh.net.sockets import open_udp_sockets
from wh.net.tun import close_all, open_tun
from wh.node import Node
from wh.state import StateFile, state_path
from wh.verbs import Verbs
from wh.wire.address import pack
from wh.wire.messages import NONCE_LEN, Ping
from whcore.datapath import Datapath
from whcore.envelope import ControlSessions
from whcore.keys import SecretKey, encode_key, verify

log = logging.getLogger(__name__)

STATE_CHECK_S = 30.0
NS = 10**9
