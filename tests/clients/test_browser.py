"""A real browser: Chromium, without a window, whose own WebSocket signs in by the address and collects trades.

Chromium is steered by its DevTools protocol: JSON over a WebSocket, which Python's `websockets` speaks too."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from client import check_contiguous
from gateway_process import WAIT_S
from websockets.sync.client import connect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

SWITCHES = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]

# In the page: a connection that says what it sees until it is closed, by the page after so many trades.
WATCH = """
(url, requests, trades) => new Promise(resolve => {
  const socket = new WebSocket(url), messages = [], seen = {messages, opened: false, failed: false};
  socket.onopen = () => {
    seen.opened = true;
    seen.extensions = socket.extensions;
    requests.forEach(request => socket.send(JSON.stringify(request)));
  };
  socket.onmessage = event => {
    messages.push(...JSON.parse(event.data));
    if (messages.filter(message => message.T === "t").length >= trades) socket.close(1000);
  };
  socket.onerror = () => seen.failed = true;
  socket.onclose = event => resolve({...seen, code: event.code, clean: event.wasClean});
})
"""


class Page:
    """A page of its own in a running Chromium."""

    def __init__(self, devtools, address):
        self.socket, self.last, self.session = devtools, 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Page.navigate", url=address)
        self.event("Page.loadEventFired")

    def call(self, method, **parameters):
        self.last += 1
        session = {"sessionId": self.session} if self.session else {}
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": parameters, **session}))
        answer = self.until(lambda message: message.get("id") == self.last)
        assert "result" in answer, answer
        return answer["result"]

    def event(self, method):
        return self.until(lambda message: message.get("method") == method)

    def until(self, wanted):
        deadline = time.monotonic() + WAIT_S
        while not wanted(message := json.loads(self.socket.recv(timeout=max(0, deadline - time.monotonic())))):
            pass
        return message

    def evaluate(self, function, *arguments):
        """What a function of JavaScript returns, or its promise comes to."""
        expression = f"({function})({', '.join(map(json.dumps, arguments))})"
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"]["value"]


@pytest.fixture(scope="module")
def address():
    """A web server with an empty page: scripts that open connections have an origin, as they do elsewhere."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    directory = tmp_path_factory.mktemp("chromium")
    profile = directory / "profile"
    command = [CHROMIUM, *SWITCHES, f"--user-data-dir={profile}", "about:blank"]
    with (directory / "log").open("wb") as log:
        # A session of its own: Chromium is several processes, which are to end together.
        chromium = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        with connect(devtools(chromium, profile, directory / "log"), max_size=None, open_timeout=WAIT_S) as socket:
            page = Page(socket, address)
            yield page
            page.session = None
            page.call("Browser.close")
        chromium.wait(WAIT_S)
    finally:
        if chromium.poll() is None:
            os.killpg(chromium.pid, signal.SIGKILL)
            chromium.wait()


def devtools(chromium, profile, log):
    """The address of Chromium's DevTools, which it writes to a file: port and path."""
    port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + WAIT_S
    while True:
        lines = port_file.read_text().split() if port_file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        assert chromium.poll() is None, f"Chromium ended\n{log.read_text(errors='replace')}"
        assert time.monotonic() < deadline, f"no DevTools within {WAIT_S} s\n{log.read_text(errors='replace')}"
        time.sleep(0.02)


def test_a_page_signs_in_by_its_address(gateway, page):
    url = f"{gateway.url()}?token={gateway.premium.token}"
    seen = page.evaluate(WATCH, url, [{"action": "subscribe", "id": 1, "trades": ["*"]}], 100)
    connected, authenticated, ack, *rest = seen["messages"]
    assert connected == {"T": "success", "msg": "connected"}
    assert (authenticated["msg"], authenticated["user"]) == ("authenticated", "demo-premium")
    assert (ack["T"], ack["id"], ack["trades"]) == ("subscription", 1, ["*"])
    check_contiguous(rest, ("t",))
    assert seen["extensions"] == "", "Chromium offers compression"
    assert (seen["code"], seen["clean"], seen["failed"]) == (1000, True, False)


def test_a_page_signs_in_by_message(gateway, page):
    user = gateway.free
    requests = [
        {"action": "auth", "key": user.key, "secret": user.secret},
        {"action": "subscribe", "trades": ["BTC/USD"]},
    ]
    seen = page.evaluate(WATCH, gateway.url(), requests, 20)
    assert seen["messages"][1]["user"] == "demo-free"
    check_contiguous(seen["messages"], ("t",))
    assert (seen["code"], seen["clean"]) == (1000, True)


def test_a_page_with_a_wrong_token_does_not_get_in(gateway, page):
    seen = page.evaluate(WATCH, f"{gateway.url()}?token=a.b.c", [], 1)
    assert (seen["opened"], seen["failed"], seen["code"], seen["messages"]) == (False, True, 1006, [])


def test_a_page_is_told_why_it_is_closed(gateway, page):
    requests = [{"action": "auth", "key": "demo-premium", "secret": "wrong"}]
    seen = page.evaluate(WATCH, gateway.url(), requests, 1)
    assert [message.get("code") for message in seen["messages"]] == [None, 402]
    assert (seen["code"], seen["clean"]) == (3500, True)
