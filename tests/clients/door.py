"""Requests to the gateway's door as bytes on a socket, from any address of loopback, and the whole answers."""

import http.client
import io
import json
import socket
from email.message import Message

from gateway_process import WAIT_S, Gateway

UPGRADE = (
    "Host: gateway",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)

# Of every answer, beside those that say what it is.
SECURE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Answer:
    """What came back. Where the request was upgraded, its connection stays open until `close`."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.raw = b""
        while b"\r\n\r\n" not in self.raw:
            self._receive()
        head, _, self.rest = self.raw.partition(b"\r\n\r\n")
        status, _, lines = head.partition(b"\r\n")
        self.status = int(status.split(b" ")[1])
        self.headers: Message = http.client.parse_headers(io.BytesIO(lines + b"\r\n\r\n"))
        self.body = None
        if self.status != 101:
            while self._receive(at_end=True):
                pass
            self.rest = self.raw.partition(b"\r\n\r\n")[2]
            self.body = json.loads(self.rest)
            self.close()

    def _receive(self, at_end: bool = False) -> bytes:
        try:
            received = self.connection.recv(65_536)
        except ConnectionResetError:
            # One that is refused without being read from ends so, behind its whole answer.
            received = b""
        assert received or at_end, f"the connection ended after {self.raw!r}"
        self.raw += received
        return received

    def close(self) -> None:
        self.connection.close()

    def is_refused(self, status: int, error: str, message: str | None = None, **headers: str) -> None:
        """That it is this refusal, with all that the protocol promises of one."""
        assert (self.status, self.body["error"]) == (status, error), self.raw
        assert set(self.body) == {"error", "message"}, self.raw
        assert self.body["message"] and self.body["message"] == (message or self.body["message"]), self.raw
        expected = {"Content-Type": "application/json", "Content-Length": str(len(self.rest)), **SECURE}
        expected |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in expected.items():
            assert self.headers.get_all(name) == [value], f"{name} in {self.raw!r}"


def connect(gateway: Gateway, source: str) -> socket.socket:
    return socket.create_connection(gateway.endpoint, timeout=WAIT_S, source_address=(source, 0))


def request(*headers: str | bytes, target: str = "/stream") -> bytes:
    lines = [f"GET {target} HTTP/1.1", *UPGRADE, *headers]
    return b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\r\n\r\n"


def ask(
    gateway: Gateway, *headers: str | bytes, source: str = "127.0.0.1", target: str = "/stream", before=b""
) -> Answer:
    """The answer to an upgrade with these headers."""
    connection = connect(gateway, source)
    try:
        connection.sendall(before + request(*headers, target=target))
    except ConnectionError:
        # One that is refused at once may be closed before it has asked.
        pass
    return Answer(connection)


def bearer(credential) -> str:
    """The header that signs in with a key."""
    return f"Authorization: Bearer {credential.key}.{credential.secret}"
