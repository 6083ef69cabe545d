"""Python's `websockets`, unmodified: the client protocol over JSON, as PROTOCOL.md tells it."""

import base64
import json
import time
from operator import itemgetter

import pytest
from client import Client, check_contiguous, is_, signed_in
from conftest import DELAY_MS
from gateway_process import WAIT_S
from venue_capture import BEST_ASK, BEST_BID, SYMBOL
from websockets.exceptions import InvalidStatus

EMPTY = {"trades": [], "quotes": [], "bars": [], "updatedBars": []}

# The ways to sign in with the upgrade request: headers, and what follows the path.
IN_THE_REQUEST = {
    "bearer token": lambda user: ({"Authorization": f"Bearer {user.token}"}, ""),
    "bearer key and secret": lambda user: ({"Authorization": f"Bearer {user.key}.{user.secret}"}, ""),
    "basic": lambda user: ({"Authorization": "Basic " + basic(user.key, user.secret)}, ""),
    "alpaca": lambda user: ({"APCA-API-KEY-ID": user.key, "APCA-API-SECRET-KEY": user.secret}, ""),
    "x-api-key": lambda user: ({"X-API-Key": f"{user.key}.{user.secret}"}, ""),
    "query": lambda user: ({}, f"?token={user.token}"),
}

IN_A_MESSAGE = {
    "key and secret": lambda user: {"key": user.key, "secret": user.secret},
    "token": lambda user: {"token": user.token},
    "alpaca oauth": lambda user: {"key": "oauth", "secret": user.token},
}


def basic(key, secret):
    return base64.b64encode(f"{key}:{secret}".encode()).decode()


def wrong(text):
    """`text` with another letter in its middle."""
    middle = len(text) // 2
    return text[:middle] + ("0" if text[middle] != "0" else "1") + text[middle + 1 :]


# Signing in


@pytest.mark.parametrize("path", ["/stream", "/v2/iex", "/v1beta3/crypto/us", "/v1beta1/news"])
def test_the_request_may_sign_in_on_every_path(gateway, path):
    headers, query = IN_THE_REQUEST["bearer token"](gateway.premium)
    with Client(gateway.url(path + query), additional_headers=headers) as client:
        check_signed_in(client, "demo-premium", "premium", delayed_ms=0)


@pytest.mark.parametrize("way", IN_THE_REQUEST)
def test_the_request_signs_in(gateway, way):
    headers, query = IN_THE_REQUEST[way](gateway.free)
    with Client(gateway.url() + query, additional_headers=headers) as client:
        check_signed_in(client, "demo-free", "free", delayed_ms=DELAY_MS)


def check_signed_in(client, user, tier, delayed_ms):
    assert client.receive() == {"T": "success", "msg": "connected"}
    answer = client.receive()
    epoch = answer.pop("epoch")
    assert isinstance(epoch, int) and epoch > 0
    expected = {"user": user, "tier": tier, "delayed_ms": delayed_ms, "heartbeat_ms": 15_000}
    assert answer == {"T": "success", "msg": "authenticated", **expected}


@pytest.mark.parametrize("way", IN_THE_REQUEST)
def test_a_wrong_request_is_not_upgraded(gateway, way):
    user = gateway.premium
    guess = type(user)(user.user, user.key, wrong(user.secret), wrong(user.token))
    headers, query = IN_THE_REQUEST[way](guess)
    with pytest.raises(InvalidStatus) as refused:
        Client(gateway.url() + query, additional_headers=headers)
    response = refused.value.response
    assert response.status_code == 401
    body = json.loads(response.body)
    # One answer, whichever part was wrong.
    assert body == {"error": "INVALID_TOKEN", "message": "the credentials are not valid"}


@pytest.mark.parametrize("way", IN_A_MESSAGE)
def test_a_message_signs_in(gateway, way):
    with Client(gateway.url()) as client:
        client.send(action="auth", **IN_A_MESSAGE[way](gateway.premium))
        check_signed_in(client, "demo-premium", "premium", delayed_ms=0)


def test_a_second_sign_in_is_for_a_new_token_of_the_same_user(gateway):
    user, other = gateway.premium, gateway.free
    with Client(gateway.url()) as client:
        client.send(action="auth", token=user.token)
        check_signed_in(client, user.user, "premium", delayed_ms=0)
        for way in "token", "alpaca oauth":
            client.send(action="auth", **IN_A_MESSAGE[way](user))
            answer = client.receive()
            assert (answer["msg"], answer["user"]) == ("authenticated", user.user)
        for credentials in IN_A_MESSAGE["key and secret"](user), IN_A_MESSAGE["token"](other):
            client.send(action="auth", id=2, **credentials)
            error = client.receive()
            assert error == {"T": "error", "code": 403, "msg": "already authenticated", "id": 2}


@pytest.mark.parametrize("way", IN_A_MESSAGE)
def test_a_wrong_message_ends_the_connection(gateway, way):
    user = gateway.premium
    guess = type(user)(user.user, user.key, wrong(user.secret), wrong(user.token))
    with Client(gateway.url()) as client:
        client.send(action="auth", **IN_A_MESSAGE[way](guess))
        messages, code = client.drain()
    assert messages[1:] == [{"T": "error", "code": 402, "msg": "auth failed"}]
    assert code == 3500


def test_before_the_sign_in_nothing_else_is_answered(gateway):
    with Client(gateway.url()) as client:
        client.send(action="subscribe", id="early", trades=["BTC/USD"])
        assert client.receive() == {"T": "success", "msg": "connected"}
        assert client.receive() == {"T": "error", "code": 401, "msg": "not authenticated", "id": "early"}
        client.send(action="auth", key=gateway.premium.key, secret=gateway.premium.secret)
        assert client.receive()["msg"] == "authenticated", "the connection stays open"


def test_all_requests_may_come_at_once(gateway):
    with Client(gateway.url()) as client:
        client.send(action="auth", key=gateway.premium.key, secret=gateway.premium.secret)
        for number in range(20):
            client.send(action="subscribe", id=number, bars=["BTC/USD"])
        acks = client.collect(20, is_("subscription"))
        assert [ack["id"] for ack in acks] == list(range(20))


def test_a_silent_client_is_sent_away(start):
    gateway = start(server__auth_timeout="300ms")
    with Client(gateway.url()) as client:
        messages, code = client.drain()
    assert messages[1:] == [{"T": "error", "code": 404, "msg": "auth timeout"}]
    assert code == 3002


def test_a_user_has_so_many_connections(start):
    gateway = start()
    opened = [signed_in(gateway.url(), gateway.free) for _ in range(5)]
    with Client(f"{gateway.url()}?token={gateway.free.token}") as client:
        messages, code = client.drain()
        assert messages[1:] == [{"T": "error", "code": 406, "msg": "connection limit exceeded"}]
        assert code == 3502
    for client in opened:
        client.close()
    # The server lets a connection go when it has seen the client's end of it, which may be after the client's close.
    deadline = time.monotonic() + WAIT_S
    while not has_room(gateway):
        assert time.monotonic() < deadline, "there is no room again"


def has_room(gateway):
    with Client(f"{gateway.url()}?token={gateway.free.token}") as client:
        return client.until(lambda message: message.get("msg") != "connected")["T"] == "success"


# Subscribing


def test_an_acknowledgement_holds_the_whole_set(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        first = client.subscribe(id=7, trades=["eth/usd ", "BTC/USD"], bars=["BTC/USD"])
        epoch = first.pop("epoch")
        assert first == {"T": "subscription", "id": 7, **EMPTY, "trades": ["BTC/USD", "ETH/USD"], "bars": ["BTC/USD"]}
        second = client.subscribe(id="b", trades=["BTC/USD"], quotes=["*"])
        assert second == {
            "T": "subscription",
            "id": "b",
            "trades": ["BTC/USD", "ETH/USD"],
            "quotes": ["*"],
            "bars": ["BTC/USD"],
            "updatedBars": [],
            "epoch": epoch,
            "unchanged": {"trades": ["BTC/USD"]},
        }
        client.send(action="unsubscribe", trades=["BTC/USD", "ETH/USD"], quotes=["*"], updatedBars=["BTC/USD"])
        last = client.until(is_("subscription"))
        assert last == {"T": "subscription", **EMPTY, "bars": ["BTC/USD"], "epoch": epoch}


def test_items_are_refused_one_by_one(gateway):
    with signed_in(gateway.url(), gateway.free) as client:
        request = {
            "trades": ["BTC/USD", "NOPE/USD", "*"],
            "updatedBars": ["BTC/USD"],
            "indicators.5s": ["BTC/USD"],
            "statuses": ["BTC/USD"],
            "lulds": [],
        }
        client.send(action="subscribe", id=1, **request)
        errors = []
        ack = client.until(is_("subscription"), errors)
        assert ack["trades"] == ["BTC/USD"] and ack["updatedBars"] == [] and ack["delayed_ms"] == DELAY_MS
        for error in errors:
            assert (error.pop("T"), error.pop("id")) == ("error", 1)
            error.pop("detail", None)
        expected = [
            {"code": 420, "msg": "unknown symbol", "channel": "trades", "S": "NOPE/USD"},
            {"code": 409, "msg": "insufficient subscription", "channel": "trades", "S": "*"},
            {"code": 409, "msg": "insufficient subscription", "channel": "updatedBars", "S": "BTC/USD"},
            {"code": 409, "msg": "insufficient subscription", "channel": "indicators.5s", "S": "BTC/USD"},
            {"code": 421, "msg": "unknown channel", "channel": "statuses"},
        ]
        order = itemgetter("code", "channel")
        assert sorted(errors, key=order) == sorted(expected, key=order)


def test_what_is_no_request_is_told(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        for text in ["{", "[]", '"x"', '{"action":"fly"}', '{"action":"subscribe","trades":5}', "[" * 50_000]:
            client.socket.send(text)
            error = client.receive()
            assert (error["T"], error["code"], error["msg"]) == ("error", 400, "invalid syntax"), text[:40]
        assert client.subscribe(trades=["BTC/USD"])["trades"] == ["BTC/USD"], "the session goes on"


# Data


def test_trades_quotes_and_bars_flow(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(trades=["*"], quotes=["BTC/USD"], updatedBars=["ETH/USD"])
        messages = client.collect(600, is_("t", "q", "u"))
    trades, quotes, bars = ([m for m in messages if m["T"] == kind] for kind in ("t", "q", "u"))
    check_contiguous(trades, ("t",))
    assert len({trade["S"] for trade in trades}) > 3
    assert {quote["S"] for quote in quotes} == {"BTC/USD"} and {bar["S"] for bar in bars} == {"ETH/USD"}
    for conflated in (quotes, bars):
        numbers = [message["seq"] for message in conflated]
        assert numbers == sorted(set(numbers)), "rising, and nothing twice"
    for trade in trades:
        assert trade.keys() == {"T", "S", "i", "x", "p", "s", "tks", "t", "rx", "seq"}
        assert trade["x"] == "SIMULATOR" and trade["tks"] in "BS" and trade["p"] > 0 and trade["s"] > 0
        assert abs(time.time_ns() - trade["rx"]) < 3_600 * 10**9
    ids = [trade["i"] for trade in trades if trade["S"] == "BTC/USD"]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    for quote in quotes:
        assert quote.keys() == {"T", "S", "bp", "bs", "ap", "as", "t", "rx", "seq"}
        assert 0 < quote["bp"] <= quote["ap"]
    for bar in bars:
        assert bar.keys() == {"T", "S", "o", "h", "l", "c", "v", "n", "vw", "t", "rx", "seq"}
        assert bar["l"] <= min(bar["o"], bar["c"]) <= max(bar["o"], bar["c"]) <= bar["h"] and bar["n"] > 0


def test_after_unsubscribing_nothing_comes(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(trades=["*"], quotes=["*"])
        client.until(is_("t"))
        client.send(action="unsubscribe", trades=["*"])
        assert client.until(is_("subscription"))["trades"] == []
        # The answer passes data that is about to be sent; a second one stands behind all of that.
        client.subscribe(bars=["BTC/USD"])
        after = client.collect(300, lambda message: True)
        # A minute may have ended meanwhile.
        assert {message["T"] for message in after} - {"b"} == {"q"}


def test_delayed_data_is_the_same_later(gateway):
    with signed_in(gateway.url(), gateway.premium) as now, signed_in(gateway.url(), gateway.free) as later:
        later.subscribe(trades=["BTC/USD"])
        now.subscribe(trades=["BTC/USD"])
        live = {trade["seq"]: trade for trade in now.collect(50, is_("t"))}
        delayed = []
        while len(delayed) < 50 or delayed[-1]["seq"] < max(live):
            trade = later.until(is_("t"))
            assert time.time_ns() - trade["rx"] >= DELAY_MS * 10**6, "really delayed"
            delayed.append(trade)
    check_contiguous(delayed, ("t",))
    held_back = {trade["seq"]: trade for trade in delayed}
    assert all(held_back[seq] == trade for seq, trade in live.items()), "really complete"


def test_a_client_resumes_where_it_was(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        epoch = client.subscribe(trades=["BTC/USD"])["epoch"]
        before = client.collect(20, is_("t"))
    with signed_in(gateway.url(), gateway.premium) as other:
        # While the client is away, the market goes on.
        other.subscribe(trades=["BTC/USD"])
        other.until(lambda message: message["T"] == "t" and message["seq"] >= before[-1]["seq"] + 20)
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(trades=["BTC/USD"], since={"epoch": epoch, "trades": {"BTC/USD": before[-1]["seq"]}})
        after = client.collect(60, is_("t", "gap"))
    check_contiguous(before + after, ("t",))
    assert not [message for message in after if message["T"] == "gap"]


def test_the_latest_comes_with_the_subscription_and_heartbeats_after(start, capture):
    gateway = start("--replay", capture, "--speed", "max", "--after-clients", "1", session__heartbeat="300ms")
    with signed_in(gateway.url(), gateway.premium) as first:
        first.subscribe(trades=["*"])
        trades = first.collect(6, is_("t"))
        beat = first.until(is_("heartbeat"))
        assert beat["seq"] == {"trades": {SYMBOL: trades[-1]["seq"]}}
    with signed_in(gateway.url(), gateway.premium) as second:
        # The replay is over: what comes now is what was kept.
        second.subscribe(quotes=[SYMBOL], updatedBars=[SYMBOL], trades=[SYMBOL])
        messages = []
        second.until(is_("heartbeat"), messages)
        latest = {message["T"]: message for message in messages if message["T"] != "feed"}
        assert latest.keys() == {"q", "u"}, "and no trades"
        assert (str(latest["q"]["bp"]), str(latest["q"]["ap"])) == (BEST_BID, BEST_ASK)
        assert latest["u"]["n"] == 1


# The wire


def test_compression_is_declined(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        assert "permessage-deflate" in client.socket.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers
        assert client.socket.protocol.extensions == []
        client.subscribe(trades=["*"])
        client.until(is_("t"))


def test_a_ping_is_answered_with_its_payload(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(trades=["*"], quotes=["*"])
        for payload in [b"", b"x" * 125]:
            assert client.socket.ping(payload).wait(WAIT_S), "no pong"
        client.until(is_("t"))


def test_a_fragmented_message_is_one_message(gateway):
    symbols = [f"NO{number}/USD" for number in range(5_000)]
    text = json.dumps({"action": "subscribe", "id": "big", "trades": ["BTC/USD", *symbols]}, separators=(",", ":"))
    assert 50_000 < len(text) < 65_536
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(quotes=["*"])
        pongs = []

        def fragments():
            for at in range(0, len(text), 61):
                yield text[at : at + 61]
                if at % (61 * 100) == 0:
                    pongs.append(client.socket.ping())

        client.socket.send(fragments())
        others = []
        ack = client.until(is_("subscription"), others)
        assert ack["id"] == "big" and ack["trades"] == ["BTC/USD"]
        [error] = [message for message in others if message["T"] == "error"]
        assert (error["code"], error["id"], error["symbols"]) == (420, "big", symbols)
        assert len(pongs) > 5 and all(pong.wait(WAIT_S) for pong in pongs), "pings between the fragments"


@pytest.mark.parametrize("before_sign_in", [True, False])
@pytest.mark.parametrize(
    "payload, text, error, close",
    [
        (b'{"action":"subscribe"}', False, 400, 1003),
        (b'{"action":"\xff"}', True, 400, 1007),
        (b" " * 65_537, True, 425, 1009),
    ],
    ids=["binary", "no UTF-8", "too large"],
)
def test_a_bad_message_gets_an_error_and_a_close_code(gateway, before_sign_in, payload, text, error, close):
    with Client(gateway.url()) as client:
        if not before_sign_in:
            client.sign_in(gateway.premium)
        client.socket.send(payload, text=text)
        messages, code = client.drain()
    assert [message["code"] for message in messages if message["T"] == "error"] == [error]
    assert code == close


def test_the_clients_own_close_is_answered(gateway):
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(trades=["*"], quotes=["*"])
        client.until(is_("t"))
    assert (client.socket.close_code, client.socket.protocol.close_rcvd.code) == (1000, 1000)


@pytest.mark.parametrize("path", ["/", "/streams", "/v1beta3/crypto"])
def test_other_paths_are_not_found(gateway, path):
    with pytest.raises(InvalidStatus) as refused:
        Client(gateway.url(path))
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["error"] == "NOT_FOUND"


def test_a_stop_is_announced_and_loses_nothing(start):
    gateway = start(feed__simulator__rate=300, drain__spread="500ms")
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(trades=["*"])
        before = client.collect(50, is_("t"))
        gateway.process.terminate()
        after, code = client.drain()
        assert code == 1001
        [draining] = [message for message in after if message["T"] == "draining"]
        assert 0 <= draining["reconnect_ms"] <= 500
        check_contiguous(before + after, ("t",))
    gateway.stop()
    with pytest.raises(ConnectionRefusedError):
        Client(gateway.url())
