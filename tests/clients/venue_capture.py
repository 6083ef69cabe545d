"""A capture of Coinbase Exchange that the tests make up, for what has to be known to the digit beforehand."""

import json
from pathlib import Path

PRODUCT = "BTC-USD"
SYMBOL = "BTC/USD"

# Minute of the hour and second, price, size: the digits as the venue would write them. The third minute is empty.
TRADES = [
    ("00:01.000000", "83420.10", "0.00000009"),
    ("00:30.500000", "83431.00", "0.25000000"),
    ("00:59.999999", "83418.55", "1.10000000"),
    ("01:00.000000", "83425.9", "3"),
    ("01:59.250000", "83426.00", "0.5"),
    ("03:07.000001", "83400", "0.125"),
]
BEST_BID, BEST_ASK = "83399.99", "83400.01"
FIRST_ID = 1_000


def time_of(at: str) -> str:
    return f"2026-09-30T02:{at}Z"


def write(path: Path) -> Path:
    """Writes the capture: an old trade, the trades, and a quote."""
    trade = {"maker_order_id": "m", "taker_order_id": "t", "side": "sell", "product_id": PRODUCT}
    before = {"trade_id": FIRST_ID - 1, "size": "9", "price": "1.00", "sequence": 1, "time": time_of("00:00.000000")}
    frames = [{"type": "last_match", **trade, **before}]
    for number, (at, price, size) in enumerate(TRADES):
        facts = {"trade_id": FIRST_ID + number, "size": size, "price": price, "sequence": 10 + number}
        frames.append({"type": "match", **trade, **facts, "time": time_of(at)})
    # The first ticker after a subscribe is old state and the second is new, whatever the gateway makes of it.
    for number in range(2):
        facts = {
            "product_id": PRODUCT,
            "sequence": 100 + number,
            "price": "83400",
            "time": time_of(f"03:08.00000{number}"),
        }
        best = {"best_bid": BEST_BID, "best_bid_size": "0.10", "best_ask": BEST_ASK, "best_ask_size": "0.20"}
        frames.append(
            {"type": "ticker", **facts, **best, "side": "buy", "trade_id": FIRST_ID + 5, "last_size": "0.125"}
        )
    path.write_text("".join(json.dumps(frame, separators=(",", ":")) + "\n" for frame in frames))
    return path
