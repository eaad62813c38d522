"""A UPnP Internet gateway on loopback: SSDP on a UDP socket, description and control on a TCP one."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from wh.net.mapping.igd_process import GatewayWorker

SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>
<controlURL>/common</controlURL><eventSubURL>/e</eventSubURL><SCPDURL>/c.xml</SCPDURL>
</service></serviceList><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>CONTROL</controlURL><eventSubURL>/e</eventSubURL><SCPDURL>/i.xml</SCPDURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>
"""
ENVELOPE = (
    '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
    "{}</s:Body></s:Envelope>"
)
FAULT = (
    "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError>"
    "<errorCode>{}</errorCode><errorDescription>no</errorDescription></UPnPError></detail></s:Fault>"
)
CHUNK = b"<a>" * 4096


class FakeIgd:
    """behaviour: "good", "permanent" (no leases), "conflict" (the first port is taken), "refusing", "broken"
    (no XML), "endless", "hanging", "elsewhere" (its control URL is another host's), "homeless" (it has no
    external address)."""

    def __init__(self, behaviour: str = "good", address: str = "127.0.0.1", ssdp_port: int = 0) -> None:
        self.behaviour = behaviour
        self.mappings: dict[tuple[str, int], tuple[str, int, int]] = {}
        self.actions: list[str] = []
        self.boot_id = 1
        self.ended = threading.Event()
        igd = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                igd.describe(self)

            def do_POST(self) -> None:
                if self.path != "/control":
                    self.send_error(404)
                    return
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, answer = igd.control(self.headers["SOAPAction"].strip('"').split("#")[1], body)
                self.send(status, ENVELOPE.format(answer).encode())

            def send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._handler = Handler
        self._http = ThreadingHTTPServer((address, 0), Handler)
        self._http.daemon_threads = True
        self.location = f"http://{address}:{self._http.server_address[1]}/root.xml"
        self._ssdp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ssdp.bind((address, ssdp_port))
        self.ssdp_port: int = self._ssdp.getsockname()[1]
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.01,)),
            threading.Thread(target=self._answer_searches),
        ]
        for thread in self._threads:
            thread.start()

    def describe(self, request: BaseHTTPRequestHandler) -> None:
        control = "/control"
        if self.behaviour == "hanging":
            self.ended.wait(30)
            return
        if self.behaviour == "endless":
            request.send_response(200)
            request.end_headers()
            with contextlib.suppress(OSError):
                while not self.ended.is_set():
                    request.wfile.write(CHUNK)
            return
        if self.behaviour == "elsewhere":
            control = "http://192.0.2.1:80/control"
        body = DESCRIPTION.replace("CONTROL", control).encode()
        request.send(200, b"<root><<<&&" + b"\xff" * 9000 if self.behaviour == "broken" else body)  # type: ignore[attr-defined]

    def control(self, action: str, body: str) -> tuple[int, str]:
        """HTTP status, and what stands in the SOAP body."""
        self.actions.append(action)
        fields = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
        if self.behaviour == "refusing":
            return 500, FAULT.format(606)
        if action == "GetExternalIPAddress":
            address = "" if self.behaviour == "homeless" else "203.0.113.5"
            return 200, _response(action, f"<NewExternalIPAddress>{address}</NewExternalIPAddress>")
        which = fields["NewProtocol"], int(fields["NewExternalPort"])
        if action == "AddPortMapping":
            lease = int(fields["NewLeaseDuration"])
            if self.behaviour == "permanent" and lease:
                return 500, FAULT.format(725)
            if self.behaviour == "conflict" and which[1] == 14000:
                return 500, FAULT.format(718)
            self.mappings[which] = fields["NewInternalClient"], int(fields["NewInternalPort"]), lease
        elif action == "DeletePortMapping":
            del self.mappings[which]
        return 200, _response(action, "")

    def _answer_searches(self) -> None:
        with contextlib.suppress(OSError):
            while not self.ended.is_set():
                data, sender = self._ssdp.recvfrom(2048)
                target = next(
                    (line[4:] for line in data.decode().split("\r\n") if line.startswith("ST: ")), ""
                )
                boot = f"BOOTID.UPNP.ORG: {self.boot_id}"
                reply = ("HTTP/1.1 200 OK", f"ST: {target}", f"LOCATION: {self.location}", boot, "", "")
                self._ssdp.sendto("\r\n".join(reply).encode(), sender)

    def close(self) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._ssdp.sendto(b"", self._ssdp.getsockname())
        for thread in self._threads:
            thread.join(5)
        self._ssdp.close()


def _response(action: str, fields: str) -> str:
    return f'<u:{action}Response xmlns:u="{SERVICE}">{fields}</u:{action}Response>'


@contextlib.contextmanager
def fake_igd(behaviour: str = "good", address: str = "127.0.0.1", ssdp_port: int = 0) -> Iterator[FakeIgd]:
    made = FakeIgd(behaviour, address, ssdp_port)
    try:
        yield made
    finally:
        made.close()


class LocalWorkers:
    """The real process, started by this one."""

    def __init__(self) -> None:
        self._worker = GatewayWorker()

    async def start_gateway_worker(self) -> socket.socket:
        started = self._worker.start()
        started.setblocking(False)
        return started

    async def end_gateway_worker(self) -> None:
        self._worker.end()
