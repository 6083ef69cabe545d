"""A gateway of the debug build, run as its users run it: a process, its greeting, its log, its exit status."""

import contextlib
import http.client
import os
import re
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
BINARY = Path(os.environ.get("GATEWAY_BIN", TARGET / "debug/gateway"))

# How long a test waits for anything, in seconds. Generous: the machine may be busy with other tests.
WAIT_S = 60


@dataclass(frozen=True)
class Credential:
    """What the greeting shows of one demo user."""

    user: str
    key: str
    secret: str
    token: str


def environment(directory: Path, **settings) -> dict[str, str]:
    """This process's environment, with free ports, a state directory below `directory`, and `settings`.

    Settings are keys of the configuration, with `__` for a dot."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    settings = {
        "server__listen": "127.0.0.1:0",
        "admin__listen": "127.0.0.1:0",
        # All tests come from one address, and some are refused on purpose.
        "entitlements__sign_ins__attempts_max": 100_000,
        **settings,
    }
    overrides = {f"GATEWAY_{key.upper()}": str(value) for key, value in settings.items()}
    return {**inherited, "XDG_STATE_HOME": str(directory / "state"), **overrides}


def command(directory: Path, *arguments, **settings) -> subprocess.CompletedProcess:
    """Runs a command of the gateway that ends by itself."""
    return subprocess.run(
        [BINARY, *map(str, arguments)],
        env=environment(directory, **settings),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


class Gateway:
    """A running gateway. Whoever starts one ends it by `stop`, which checks that it ended well."""

    # Those that run, so that a failed test can show their logs.
    running: list["Gateway"] = []

    def __init__(self, directory: Path, *arguments, **settings):
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "gateway.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BINARY, *map(str, arguments)],
                env=environment(directory, **settings),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        Gateway.running.append(self)
        try:
            # The greeting ends with the last command to try, or with the feed where there are no demo users.
            has_users = {"entitlements__users", "entitlements__redis__urls"} & settings.keys()
            end = r"\n  feed +.*\n$" if has_users else r"\nEND\n\n$"
            self.greeting = self._read_greeting(re.compile(end))
        except BaseException:
            self.process.kill()
            self.process.wait()
            Gateway.running.remove(self)
            raise
        # Where the commands of the greeting connect: the first address, those without TLS standing before the others.
        self.scheme, self.address = re.search(r"^  clients +(wss?)://(\S+)/stream$", self.greeting, re.M).groups()
        self.admin = re.search(r"^  admin +(http://[^/]+)/", self.greeting, re.M)[1]
        self.users = {
            user: Credential(user, key, secret, token)
            for user, key, secret, token in re.findall(
                r"^  (\S+)\n    key +(\S+)\n    secret +(\S+)\n    token +(\S+)$", self.greeting, re.M
            )
        }

    def url(self, path: str = "/stream") -> str:
        return f"{self.scheme}://{self.address}{path}"

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port for clients."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    @property
    def free(self) -> Credential:
        return self.users["demo-free"]

    @property
    def premium(self) -> Credential:
        return self.users["demo-premium"]

    @property
    def enterprise(self) -> Credential:
        return self.users["demo-enterprise"]

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the admin port."""
        connection = http.client.HTTPConnection(self.admin.removeprefix("http://"), timeout=WAIT_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metric(self, name: str) -> float:
        """The value of a counter, by its name and labels."""
        [value] = re.findall(rf"^{re.escape(name)} (\S+)$", self.page("/metrics")[1], re.M)
        return float(value)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """Ends it by SIGTERM; fails where it does not end by itself, without an error on the way."""
        if self not in Gateway.running:
            return
        Gateway.running.remove(self)
        self.process.terminate()
        try:
            status = self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"not drained within {WAIT_S} s of SIGTERM\n{self.log_text()}") from None
        finally:
            self.process.stdout.close()
        log = self.log_text()
        assert status == 0, f"exit status {status}\n{log}"
        wrong = [line for line in log.splitlines() if re.search(r"^\S+ ERROR |panicked", line)]
        assert not wrong, "\n".join(wrong)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def _read_greeting(self, complete: re.Pattern) -> str:
        text, deadline = "", time.monotonic() + WAIT_S
        output = self.process.stdout.fileno()
        while not complete.search(text):
            ready, _, _ = select.select([output], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no greeting within {WAIT_S} s, but {text!r}\n{self.log_text()}"
            read = os.read(output, 65_536)
            assert read, f"no greeting, exit status {self.process.wait(WAIT_S)}\n{self.log_text()}"
            text += read.decode()
        return text
