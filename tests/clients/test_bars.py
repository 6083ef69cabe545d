"""Bars of all intervals and their indicators, as clients see them: compared with what a few lines of Python make of the
same trades."""

import json
import math
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
import venue_capture
from client import Client, is_, signed_in

SYMBOL = "BTC/USD"
START = datetime.fromisoformat("2026-09-30T23:40:00+00:00")
INTERVALS = {"5s": 5, "1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400}
LATENESS_S = 10
MIDNIGHT = int(START.timestamp()) // 86_400 * 86_400 + 86_400
# Enough that each 5 s of twenty-five minutes, which run into another day, have a trade.
TRADES = [
    (START + timedelta(seconds=number * 3), Decimal(8_342_596 + (number * 7_919) % 5_003 - number) / 100, number % 7 + 1)
    for number in range(500)
]


def text_of(time):
    return time.isoformat().replace("+00:00", "Z")


@pytest.fixture
def market(tmp_path):
    """A capture of the trades, and a heartbeat that finishes the bars of all but the longest intervals."""
    trade = {"maker_order_id": "m", "taker_order_id": "t", "side": "sell", "product_id": "BTC-USD"}
    frames = [
        {
            "type": "match",
            **trade,
            "trade_id": number + 1,
            "sequence": number + 1,
            "price": f"{price:.2f}",
            "size": str(size),
            "time": text_of(time),
        }
        for number, (time, price, size) in enumerate(TRADES)
    ]
    frames.append(
        {
            "type": "heartbeat",
            "product_id": "BTC-USD",
            "sequence": 1_000,
            "last_trade_id": len(TRADES),
            "time": text_of(TRADES[-1][0] + timedelta(minutes=20)),
        }
    )
    path = tmp_path / "market.jsonl"
    path.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
    return path


def finished(seconds):
    """The bars that are final when the capture is over."""
    last = TRADES[-1][0] + timedelta(minutes=20)
    by_start = {}
    for trade in TRADES:
        by_start.setdefault(int(trade[0].timestamp()) // seconds * seconds, []).append(trade)
    return {
        start: (trades[0][1], max(prices), min(prices), trades[-1][1], sum(sizes), len(trades))
        for start, trades in by_start.items()
        for prices, sizes in [([trade[1] for trade in trades], [trade[2] for trade in trades])]
        if start + seconds + LATENESS_S <= last.timestamp()
    }


def facts(message):
    return tuple(message[key] for key in ("o", "h", "l", "c", "v", "n"))


def second(message):
    return int(datetime.fromisoformat(message["t"]).timestamp())


def test_bars_of_every_interval_are_those_of_the_trades(start, market):
    expected = {interval: finished(seconds) for interval, seconds in INTERVALS.items()}
    assert [len(bars) for bars in expected.values()] == [300, 25, 5, 3, 1, 1, 1]
    gateway = start("--replay", market, "--speed", "max", "--after-clients", "1")
    with signed_in(gateway.url(), gateway.premium) as client:
        channels = {f"bars.{interval}": [SYMBOL] for interval in INTERVALS}
        ack = client.subscribe(**channels)
        assert ack["bars"] == [SYMBOL] and "bars.1m" not in ack
        assert all(ack[name] == [SYMBOL] for name in channels if name != "bars.1m")
        messages = client.collect(sum(map(len, expected.values())), is_("b"))
    for interval, bars in expected.items():
        of_interval = [message for message in messages if message.get("iv", "1m") == interval]
        assert {second(message): facts(message) for message in of_interval} == bars, interval
        assert [message["seq"] for message in of_interval] == list(range(1, len(bars) + 1))
        assert ("iv" in of_interval[0]) == (interval != "1m")


def test_the_day_goes_on_with_each_minute(start, market):
    gateway = start("--replay", market, "--speed", "max", "--after-clients", "1")
    with signed_in(gateway.url(), gateway.premium) as client:
        client.subscribe(dailyBars=[SYMBOL], trades=[SYMBOL])
        days, trades = [], 0
        # Until the last minute of the second day, which began 300 s before the last trade and has a trade every 3 s.
        while not days or days[-1]["n"] != 100 or second(days[-1]) == MIDNIGHT - 86_400:
            message = client.until(is_("d", "t"))
            if message["T"] == "t":
                trades += 1
                continue
            days.append(message)
            # What it holds is no more than what was traded by then.
            assert message["n"] <= trades + 1
    first = [message for message in days if second(message) == MIDNIGHT - 86_400]
    assert facts(first[-1]) == finished(86_400)[MIDNIGHT - 86_400], "the last that is told of a day is the final bar"
    counts = [message["n"] for message in first]
    assert counts == sorted(set(counts))


class Floats(Client):
    """A client that takes numbers as JavaScript does."""

    number = float


def test_indicators_come_with_each_bar(start, market):
    bars = list(finished(5).values())
    gateway = start("--replay", market, "--speed", "max", "--after-clients", "1")
    with signed_in(gateway.url(), gateway.premium, Floats) as client:
        ack = client.subscribe(**{"indicators.5s": [SYMBOL], "bars.5s": [SYMBOL]})
        assert ack["indicators.5s"] == [SYMBOL]
        messages = client.collect(2 * len(bars), is_("b", "indicators"))
    assert [message["T"] for message in messages] == ["b", "indicators"] * len(bars), "each behind its bar"
    closes = [bar[3] for bar in bars]
    indicators = messages[1::2]
    names = {"sma_20": 20, "sma_50": 50, "rsi": 15, "rsi_signal": 15, "atr": 15, "adx": 28}
    names |= dict.fromkeys(("macd", "macd_signal", "macd_hist"), 34)
    names |= dict.fromkeys(("bb_upper", "bb_middle", "bb_lower"), 20)
    for number, (bar, message) in enumerate(zip(messages[::2], indicators), 1):
        assert message["t"] == bar["t"] and message["iv"] == "5s" and message["seq"] == bar["seq"] == number
        present = {name for name, first in names.items() if number >= first}
        assert message.keys() - {"T", "S", "iv", "t", "rx", "seq"} == present, number
        for name, count in (("sma_20", 20), ("sma_50", 50), ("bb_middle", 20)):
            if name in message:
                assert math.isclose(message[name], Fraction(sum(closes[number - count : number])) / count, rel_tol=1e-9)
        if "rsi" in message:
            expected = "overbought" if message["rsi"] > 70 else "oversold" if message["rsi"] < 30 else "neutral"
            assert 0 <= message["rsi"] <= 100 and message["rsi_signal"] == expected
        if "bb_upper" in message:
            window = [Fraction(close) for close in closes[number - 20 : number]]
            mean = sum(window) / 20
            width = 2 * math.sqrt(sum((close - mean) ** 2 for close in window) / 20)
            assert math.isclose(message["bb_upper"], float(mean) + width, rel_tol=1e-9)
            assert math.isclose(message["bb_lower"], float(mean) - width, rel_tol=1e-9)
        if "macd" in message:
            assert math.isclose(message["macd_hist"], message["macd"] - message["macd_signal"], abs_tol=1e-9)


def test_what_the_tier_and_the_configuration_leave_out(start, capture):
    gateway = start("--replay", capture, "--speed", "max", "--after-clients", "2", sequencer__indicators="false")
    names = ("bars.5s", "indicators.1m", "dailyBars")
    with (
        signed_in(gateway.url(), gateway.premium) as premium,
        signed_in(gateway.url(), gateway.free) as free,
    ):
        free.send(action="subscribe", id=1, bars=[SYMBOL], **{name: [SYMBOL] for name in names})
        errors = []
        assert free.until(is_("subscription"), errors)["bars"] == [SYMBOL]
        assert {(error["code"], error["channel"]) for error in errors} == {(409, name) for name in names}
        premium.subscribe(**{name: [venue_capture.SYMBOL] for name in ("bars.5s", "indicators.5s")})
        bars = premium.collect(5, lambda message: message["T"] not in ("heartbeat", "feed"))
        assert {(bar["T"], bar["iv"]) for bar in bars} == {("b", "5s")}, "and no indicators"
