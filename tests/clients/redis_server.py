"""A server of Redis of the machine's own, and the platform that keeps its users in it.

The server is as strict as the platform's: a password, and no CONFIG and DEBUG."""

import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis
from gateway_process import REPOSITORY, WAIT_S, Credential
from timing import wait_until

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server")

PASSWORD = "a-password-of-the-tests"
CHANGES = "entitlement:changes"


def free_port() -> int:
    """Below those that the system gives to whoever connects: who tries while the server is away may meet itself."""
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class RedisServer:
    """A running server on a free port of loopback. Whoever starts one ends it by `stop`."""

    def __init__(self, directory: Path, keeps: bool = False):
        """With `keeps` it has after a power cut all that it has answered for; else nothing."""
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.password_file = directory / "redis.password"
        self.password_file.write_text(PASSWORD + "\n")
        self.configuration = directory / "redis.conf"
        self.configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {PASSWORD}\ndir {directory}\nsave ''\n"
            f"appendonly {'yes' if keeps else 'no'}\nappendfsync always\n"
            "rename-command CONFIG ''\nrename-command DEBUG ''\n"
        )
        self.log = directory / "redis.log"
        self.client = redis.Redis(port=self.port, password=PASSWORD, decode_responses=True, socket_timeout=WAIT_S)
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["redis-server", self.configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until("the server of Redis", self._answers)

    def kill(self) -> None:
        """Ends it as a power cut does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def stop(self) -> None:
        self.client.close()
        self.kill()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        with contextlib.suppress(redis.ConnectionError):
            return self.client.ping()
        return False

    @property
    def settings(self) -> dict[str, str]:
        """Those of a gateway whose store this is. The machine may be busy, so that an answer may take its time."""
        return {
            "entitlements__redis__urls": json.dumps([f"redis://127.0.0.1:{self.port}"]),
            "entitlements__redis__password_file": str(self.password_file),
            "entitlements__redis__timeout": "5s",
        }

    def names(self) -> set[str]:
        """Those of all keys."""
        return set(self.client.scan_iter(count=1_000))

    def has_sessions(self) -> bool:
        """Whether there is anything to be taken back of any session: the gateways' own lists are the last that goes."""
        return any(name.startswith("gateway:sessions:") for name in self.names())


class Platform:
    """What the platform does with its own client: records, API keys, denied tokens, blocks."""

    def __init__(self, server: RedisServer):
        self.server = server
        self.redis = server.client

    def record(self, user: str, version: int, tier: str = "premium", status: str = "active", **fields) -> str:
        """A record as JSON; of all categories unless `fields` say otherwise."""
        categories = ["crypto", "equity", "forex", "commodity"]
        given = {"user_id": user, "tier": tier, "status": status, "signal_categories": categories}
        return json.dumps({**given, **fields, "version": version})

    def put(self, user: str, version: int = 1, **fields) -> None:
        """Writes a record as JSON, and announces it as a whole."""
        record = self.record(user, version, **fields)
        self.redis.set(f"entitlement:{{{user}}}", record)
        self.redis.publish(CHANGES, record)

    def put_hash(self, user: str, **fields: str | int) -> None:
        """Changes fields of a record that is kept as a hash, and announces whose it is."""
        self.redis.hset(f"entitlement:{{{user}}}", mapping=fields)
        self.redis.publish(CHANGES, user)

    def key(self, user: str, **fields) -> Credential:
        """A new API key."""
        prefix, secret, salt = "AK" + secrets.token_hex(10).upper(), secrets.token_hex(32), os.urandom(16)
        hashed = hashlib.sha256(salt + secret.encode()).hexdigest()
        key = {"user_id": user, "secret_hash": f"sha256:{salt.hex()}:{hashed}", **fields}
        self.redis.set(f"api_key:{prefix}", json.dumps(key))
        return Credential(user, prefix, secret, "")

    def user(self, name: str, **fields) -> Credential:
        """A new user, and an API key of its."""
        self.put(name, **fields)
        return self.key(name)

    def take_out(self, key: Credential) -> None:
        """Takes an API key out."""
        self.redis.delete(f"api_key:{key.key}")
        self.redis.publish(CHANGES, json.dumps({"api_key": key.key}))

    def deny(self, token: str) -> None:
        hashed = hashlib.sha256(token.encode()).hexdigest()
        self.redis.set(f"jwt_blacklist:{hashed}", "logged out", ex=3_600)
        self.redis.publish(CHANGES, json.dumps({"token_hash": hashed}))

    def block(self, network: str, reason: str) -> None:
        self.redis.hset("ip_blocklist", network, reason)
        self.redis.publish(CHANGES, '{"ip_blocklist":true}')

    def unblock(self, network: str) -> None:
        self.redis.hdel("ip_blocklist", network)
        self.redis.publish(CHANGES, '{"ip_blocklist":true}')

    def connections(self, user: str) -> set[str]:
        return self.redis.smembers(f"websocket:connections:{{{user}}}")


def documented() -> list[tuple[re.Pattern, str, bool]]:
    """The keys in the table of the page of entitlements: what a name is like, the type, whether it is for a time."""
    page = (REPOSITORY / "entitlements/README.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (text or hash|text|hash|set|sorted set)(, [^|]+)? \| .* \| .* \|$", page, re.M)
    assert len(rows) > 10, rows

    def pattern(name: str) -> re.Pattern:
        # What stands in capitals is anything; the rest, braces included, is itself.
        parts = re.findall(r"[A-Z0-9]+|[^A-Z0-9]+", name)
        return re.compile("".join(".+" if part.isupper() else re.escape(part) for part in parts))

    named = {"text": "string", "text or hash": "string or hash", "sorted set": "zset"}
    return [(pattern(name), named.get(types, types), bool(time)) for name, types, time in rows]


def check_documented(server: RedisServer) -> None:
    """That each key has a name and a type of the page of entitlements, and that what is for a time ends with it."""
    known = documented()
    for name in server.names():
        places = [(types, for_a_time) for pattern, types, for_a_time in known if pattern.fullmatch(name)]
        assert len(places) == 1, f"{name} is in {len(places)} rows of entitlements/README.md"
        [(types, for_a_time)] = places
        kind = server.client.type(name)
        # Some may have ended meanwhile.
        assert kind in types.split(" or ") or kind == "none", f"{name} is a {kind}, not a {types}"
        assert not for_a_time or server.client.pttl(name) != -1, f"{name} stays for good"
