"""A client on Python's `websockets`, unmodified: JSON requests out, messages in, every wait with an end."""

import json
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal

from gateway_process import WAIT_S, Credential
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class Client:
    """One connection."""

    # What becomes of a number with a point.
    number: Callable = Decimal

    def __init__(self, url: str, **options):
        # Without a limit to its queue, since with one the library stops reading while a test looks elsewhere, and
        # then does not see that its close is answered.
        self.open = ExitStack()
        self.socket = self.open.enter_context(connect(url, open_timeout=WAIT_S, max_queue=None, **options))
        # Messages of the last frame that nobody has taken yet.
        self.rest: deque[dict] = deque()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.open.close()

    def send(self, **request) -> None:
        self.socket.send(json.dumps(request))

    def receive(self, deadline: float | None = None) -> dict:
        """The next message."""
        if not self.rest:
            left = WAIT_S if deadline is None else max(0.0, deadline - time.monotonic())
            frame = self.socket.recv(timeout=left)
            self.rest.extend(json.loads(frame, parse_float=type(self).number))
        return self.rest.popleft()

    def until(self, wanted: Callable[[dict], bool], others: list[dict] | None = None) -> dict:
        """The first message that is `wanted`; those before it go to `others`."""
        deadline = time.monotonic() + WAIT_S
        while not wanted(message := self.receive(deadline)):
            if others is not None:
                others.append(message)
        return message

    def collect(self, count: int, wanted: Callable[[dict], bool]) -> list[dict]:
        """The next `count` messages that are `wanted`."""
        return [self.until(wanted) for _ in range(count)]

    def drain(self) -> tuple[list[dict], int]:
        """What comes until the server closes, and its close code."""
        messages, deadline = [], time.monotonic() + WAIT_S
        try:
            while True:
                messages.append(self.receive(deadline))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, f"cut off without a close frame, after {messages[-3:]}"
            return messages, closed.rcvd.code

    def sign_in(self, credential: Credential) -> dict:
        """Signs in by message; the answer."""
        assert self.receive() == {"T": "success", "msg": "connected"}
        self.send(action="auth", key=credential.key, secret=credential.secret)
        answer = self.receive()
        assert (answer["T"], answer.get("msg")) == ("success", "authenticated"), answer
        return answer

    def subscribe(self, **request) -> dict:
        """Subscribes, with nothing refused; the acknowledgement."""
        self.send(action="subscribe", **request)
        answer = self.until(is_("subscription", "error"))
        assert answer["T"] == "subscription", answer
        return answer


def is_(*types: str) -> Callable[[dict], bool]:
    """Whether a message is of one of these types."""
    return lambda message: message["T"] in types


def signed_in(url: str, credential: Credential, kind: type[Client] = Client, **options) -> Client:
    client = kind(url, **options)
    try:
        client.sign_in(credential)
    except BaseException:
        client.close()
        raise
    return client


def check_contiguous(messages: list[dict], channel_types: tuple[str, ...]) -> None:
    """That the sequenced messages among `messages` are numbered without a hole, each symbol by itself."""
    last: dict[tuple[str, str], int] = {}
    for message in messages:
        if message["T"] not in channel_types:
            continue
        at = (message["T"], message["S"])
        assert message["seq"] == last.get(at, message["seq"] - 1) + 1, f"{message} after {last[at]}"
        last[at] = message["seq"]
    assert last, f"no message of {channel_types}"
