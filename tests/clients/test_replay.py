"""Captures of the venue, replayed as fast as the gateway goes: every match exactly once, in order, with its digits.

What has to arrive is read from the capture by a few lines of Python that share nothing with the gateway."""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import venue_capture
from client import Client, is_, signed_in

CAPTURES = os.environ.get("GATEWAY_CAPTURES")
MADE_UP = "made up"


def recorded():
    """The captures of Coinbase Exchange, but those of its other, newer interface."""
    if CAPTURES is None:
        return [pytest.param(None, marks=pytest.mark.skip("GATEWAY_CAPTURES is not set: no recorded captures"))]
    files = sorted(Path(CAPTURES, "coinbase").iterdir())
    named = [file for file in files if file.name.endswith((".ws.txt", ".jsonl")) and "advanced" not in file.name]
    assert named, f"no captures in {CAPTURES}/coinbase"
    return [pytest.param(file, id=file.name) for file in named]


@pytest.fixture(params=[pytest.param(MADE_UP, id=MADE_UP), *recorded()])
def replayed(request, capture):
    return capture if request.param is MADE_UP else request.param


def matches(path):
    """Per symbol, the matches in order: id, and price, size, the taker's side and time, all as the venue wrote them.

    What the venue sent twice counts once."""
    found = defaultdict(dict)
    for line in path.read_text().splitlines():
        # "<recorded at>: <frame>", where the frame is not alone on its line.
        frame = line[line.find("{") :]
        if "<-" in line or not frame.startswith("{"):
            continue
        frame = json.loads(frame)
        if frame["type"] == "match":
            taker = {"buy": "S", "sell": "B"}[frame["side"]]
            facts = (frame["trade_id"], frame["price"], frame["size"], taker, moment(frame["time"]))
            found[frame["product_id"].replace("-", "/")].setdefault(frame["trade_id"], facts)
    return {symbol: list(by_id.values()) for symbol, by_id in found.items()}


def moment(time):
    """A time without the zeros that say nothing: the gateway writes as few digits as it needs."""
    seconds, _, fraction = time.removesuffix("Z").partition(".")
    return seconds, fraction.rstrip("0")


class Digits(Client):
    """A client that keeps prices and sizes as they were written."""

    number = str


def test_every_match_arrives_exactly_once(start, replayed):
    expected = matches(replayed)
    total = sum(map(len, expected.values()))
    assert total > 0, "the capture has no match"
    gateway = start("--replay", replayed, "--speed", "max", "--after-clients", "2", drain__spread="0s")
    with (
        signed_in(gateway.url(), gateway.premium, Digits) as everything,
        signed_in(gateway.url(), gateway.enterprise, Digits) as listed,
    ):
        assert everything.subscribe(trades=["*"])["trades"] == ["*"]
        assert listed.subscribe(trades=sorted(expected))["trades"] == sorted(expected)
        taken = {client: [client.until(is_("t", "gap"))] for client in (everything, listed)}
        for client, messages in taken.items():
            while sum(message["T"] == "t" for message in messages) < total:
                messages.append(client.until(is_("t", "gap")))
        # Whatever else it may have for them comes before their close.
        gateway.process.terminate()
        for client, messages in taken.items():
            rest, code = client.drain()
            assert code == 1001
            check(messages + rest, expected)


def check(messages, expected):
    arrived, numbers, missed = defaultdict(list), Counter(), Counter()
    for message in messages:
        if message["T"] not in ("t", "gap"):
            continue
        symbol = message["S"]
        numbers[symbol] += 1
        assert message["seq"] == numbers[symbol], f"{message}: not the next"
        if message["T"] == "gap":
            assert (message["channel"], message["reason"]) == ("trades", "venue")
            missed[symbol] += message["missed"]
            continue
        assert message["x"] == "COINBASE"
        if arrived[symbol]:
            hole = message["i"] - arrived[symbol][-1][0] - 1
            assert missed[symbol] == hole, f"{message}: the venue left out {hole}, and {missed[symbol]} are announced"
        missed[symbol] = 0
        facts = (message["i"], str(message["p"]), str(message["s"]), message["tks"], moment(message["t"]))
        arrived[symbol].append(facts)
    assert {s: len(trades) for s, trades in arrived.items()} == {s: len(trades) for s, trades in expected.items()}
    for symbol, trades in expected.items():
        assert arrived[symbol] == trades, symbol


def test_the_independent_reader_reads(capture):
    """It, too, can be wrong: here against what was written down by hand."""
    written = [
        (venue_capture.FIRST_ID + number, price, size, "B", moment(venue_capture.time_of(at)))
        for number, (at, price, size) in enumerate(venue_capture.TRADES)
    ]
    assert matches(capture) == {venue_capture.SYMBOL: written}
