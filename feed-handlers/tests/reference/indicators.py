"""Writes indicators.csv: series of bars, and what TA-Lib makes of them.

    pip install TA-Lib numpy
    python indicators.py > indicators.csv

A line is series,high,low,close and the values by the names in COLUMNS, empty where TA-Lib has none. Numbers have the 17
digits that name a double.
"""

import random

import numpy
import talib

BARS = 200
COLUMNS = [
    "sma_20", "sma_50", "rsi", "macd", "macd_signal", "macd_hist", "bb_upper", "bb_middle", "bb_lower", "atr", "adx",
]


def walk(seed, start, step, digits, flat=0.0):
    """Bars of a random walk: (high, low, close) as texts. A share of `flat` does not move at all."""
    rng = random.Random(seed)
    close, bars = start, []
    for _ in range(BARS):
        opened = close
        if rng.random() >= flat:
            close = max(step, close + rng.gauss(0, step))
        high, low = max(opened, close), min(opened, close)
        if rng.random() >= flat:
            high += abs(rng.gauss(0, step / 2))
            low = max(step / 2, low - abs(rng.gauss(0, step / 2)))
        texts = [f"{value:.{digits}f}" for value in (high, low, close)]
        # Rounding keeps the order, but goes on from what was written.
        close = float(texts[2])
        bars.append(texts)
    return bars


def rising(step):
    """Bars that only ever rise (or fall): one side of RSI and ADX stays zero."""
    return [[f"{100 + step * i + 0.5:.2f}", f"{100 + step * i - 0.5:.2f}", f"{100 + step * i:.2f}"] for i in range(BARS)]


SERIES = {
    "equity": walk(7, 187.32, 0.35, 2),
    "bitcoin": walk(11, 83425.96, 41.0, 2),
    "forex": walk(13, 1.08345, 0.0004, 5, flat=0.3),
    "quiet": walk(17, 24.5, 0.02, 3, flat=0.85),
    # More digits than fit four bytes.
    "precise": walk(19, 83425.12345678, 41.0, 8),
    "jumpy": walk(23, 40.0, 15.0, 4),
    "rising": rising(0.25),
    "falling": rising(-0.25),
    "flat": [["50.00", "50.00", "50.00"]] * BARS,
}


def main():
    print(",".join(["series", "high", "low", "close", *COLUMNS]))
    for name, bars in SERIES.items():
        high, low, close = (numpy.array([float(bar[i]) for bar in bars]) for i in range(3))
        macd, signal, hist = talib.MACD(close, 12, 26, 9)
        upper, middle, lower = talib.BBANDS(close, 20, 2, 2, talib.MA_Type.SMA)
        values = [
            talib.SMA(close, 20), talib.SMA(close, 50), talib.RSI(close, 14), macd, signal, hist, upper, middle, lower,
            talib.ATR(high, low, close, 14), talib.ADX(high, low, close, 14),
        ]
        for i, bar in enumerate(bars):
            row = ["" if numpy.isnan(column[i]) else f"{column[i]:.17g}" for column in values]
            print(",".join([name, *bar, *row]))


if __name__ == "__main__":
    main()
