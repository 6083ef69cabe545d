"""alpaca-py, unmodified but for its address: Alpaca's own client library, over MessagePack."""

import logging
import queue
import threading
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal

import pytest
from alpaca.data.live import CryptoDataStream, StockDataStream
from alpaca.data.models import Bar, Quote, Trade
from gateway_process import WAIT_S
from venue_capture import FIRST_ID, SYMBOL, TRADES, time_of

CRYPTO, STOCKS = "/v1beta3/crypto/us", "/v2/iex"


class Arrivals:
    """A handler for the library, and what it was called with."""

    def __init__(self):
        self.queue = queue.Queue()

    async def handle(self, item):
        self.queue.put(item)

    def next(self):
        return self.queue.get(timeout=WAIT_S)

    def take(self, count):
        return [self.next() for _ in range(count)]


@contextmanager
def run(stream):
    """Runs the stream as its users do, in a thread of its own."""
    thread = threading.Thread(target=stream.run)
    thread.start()
    try:
        yield stream
    finally:
        stream.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive(), "the stream does not stop"


@contextmanager
def logged(level):
    """What the library logs."""
    records = queue.Queue()
    handler = logging.Handler(level)
    handler.emit = records.put
    logger = logging.getLogger("alpaca.data.live.websocket")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize(
    "library, path", [(CryptoDataStream, CRYPTO), (StockDataStream, STOCKS)], ids=["crypto", "stocks"]
)
def test_a_stream_is_parsed_and_changed_while_it_runs(gateway, library, path):
    user = gateway.premium
    stream = library(user.key, user.secret, url_override=gateway.url(path))
    trades, quotes, bars, others = Arrivals(), Arrivals(), Arrivals(), Arrivals()
    stream.subscribe_trades(trades.handle, "BTC/USD")
    with run(stream):
        check_trades(trades.take(30))
        stream.subscribe_quotes(quotes.handle, "BTC/USD", "ETH/USD")
        check_quotes(quotes.take(30))
        stream.subscribe_updated_bars(bars.handle, "*")
        check_bars(bars.take(30))
        stream.subscribe_trades(others.handle, "ETH/USD")
        assert {trade.symbol for trade in others.take(5)} == {"ETH/USD"}
        with logged(logging.INFO) as acknowledged:
            stream.unsubscribe_trades("BTC/USD")
            now = acknowledged.get(timeout=WAIT_S).getMessage()
        # In the library's order, whatever ours is.
        assert now.startswith("subscribed to trades: ['ETH/USD'], quotes: ["), now
        others.take(20)


def check_trades(trades):
    assert all(isinstance(trade, Trade) for trade in trades)
    ids = [int(trade.id) for trade in trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    for trade in trades:
        assert (trade.symbol, trade.exchange) == ("BTC/USD", "SIMULATOR")
        assert trade.price > 0 and trade.size > 0 and trade.timestamp.tzinfo is not None


def check_quotes(quotes):
    assert all(isinstance(quote, Quote) for quote in quotes)
    assert {quote.symbol for quote in quotes} <= {"BTC/USD", "ETH/USD"}
    assert all(0 < quote.bid_price <= quote.ask_price and quote.bid_size > 0 < quote.ask_size for quote in quotes)


def check_bars(bars):
    assert all(isinstance(bar, Bar) for bar in bars)
    for bar in bars:
        assert bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high
        assert bar.low <= bar.vwap <= bar.high and bar.trade_count > 0 < bar.volume
        assert (bar.timestamp.second, bar.timestamp.microsecond) == (0, 0)


def test_finished_bars_are_those_of_the_trades(start, capture):
    gateway = start("--replay", capture, "--speed", "max", "--after-clients", "1")
    user = gateway.enterprise
    stream = CryptoDataStream(user.key, user.secret, url_override=gateway.url(CRYPTO))
    trades, bars = Arrivals(), Arrivals()
    stream.subscribe_trades(trades.handle, SYMBOL)
    stream.subscribe_bars(bars.handle, SYMBOL)
    with run(stream):
        got = [(trade.id, trade.timestamp, trade.price, trade.size) for trade in trades.take(len(TRADES))]
        # The third minute is empty, and the last one is not over.
        finished = bars.take(2)
    moments = [datetime.fromisoformat(time_of(at)) for at, _, _ in TRADES]
    assert got == [
        (FIRST_ID + number, moment, float(price), float(size))
        for number, (moment, (_, price, size)) in enumerate(zip(moments, TRADES, strict=True))
    ]
    for bar, minute in zip(finished, (0, 1), strict=True):
        inside = [(Decimal(price), Decimal(size)) for at, price, size in TRADES if int(at[:2]) == minute]
        prices = [price for price, _ in inside]
        volume = sum(size for _, size in inside)
        assert bar.timestamp == datetime.fromisoformat(time_of(f"{minute:02}:00"))
        assert (bar.open, bar.close) == (float(prices[0]), float(prices[-1]))
        assert (bar.high, bar.low) == (float(max(prices)), float(min(prices)))
        assert (bar.volume, bar.trade_count) == (float(volume), len(inside))
        mean = sum(price * size for price, size in inside) / volume
        assert bar.vwap == pytest.approx(float(mean), rel=1e-9)
    assert bars.queue.empty()


def test_a_request_of_several_fragments_arrives(gateway):
    # The library cuts its requests at 32 KiB.
    user = gateway.premium
    stream = CryptoDataStream(user.key, user.secret, url_override=gateway.url(CRYPTO))
    trades = Arrivals()
    stream.subscribe_trades(trades.handle, *(f"NO{number}/USD" for number in range(4_000)), "BTC/USD")
    with run(stream):
        assert {trade.symbol for trade in trades.take(5)} == {"BTC/USD"}


def test_a_wrong_secret_is_the_librarys_value_error(gateway):
    user = gateway.premium
    stream = CryptoDataStream(user.key, user.secret[::-1], url_override=gateway.url(CRYPTO))
    stream.subscribe_trades(Arrivals().handle, "BTC/USD")
    with logged(logging.ERROR) as errors, run(stream):
        kind, error, _ = errors.get(timeout=WAIT_S).exc_info
        assert (kind, str(error)) == (ValueError, "auth failed")


def test_what_a_tier_lacks_is_told_and_the_rest_stands(gateway):
    user = gateway.free
    stream = CryptoDataStream(user.key, user.secret, url_override=gateway.url(CRYPTO))
    trades, everything = Arrivals(), Arrivals()
    stream.subscribe_quotes(everything.handle, "*")
    stream.subscribe_trades(trades.handle, "BTC/USD")
    with logged(logging.ERROR) as errors, run(stream):
        assert errors.get(timeout=WAIT_S).getMessage() == "error: insufficient subscription (409)"
        assert all(isinstance(trade, Trade) for trade in trades.take(5))
        assert everything.queue.empty()
