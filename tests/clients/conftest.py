"""Gateways for the tests: one that all may share, and others with settings of their own."""

import itertools

import pytest
import venue_capture
from gateway_process import BINARY, Gateway

# How far the shared gateway holds back the free user's data, in milliseconds.
DELAY_MS = 1_000


def pytest_sessionstart(session):
    if not BINARY.exists():
        pytest.exit(f"there is no {BINARY}: run ./test clients, which builds it", returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for gateway in Gateway.running:
            tail = gateway.log_text().splitlines()[-40:]
            report.sections.append((f"log of the gateway at {gateway.process.pid}", "\n".join(tail)))
    return report


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """A simulated market, busy enough that nobody waits for a tick, on two shards. Tests leave it as it is."""
    running = Gateway(
        tmp_path_factory.mktemp("gateway"),
        server__shards=2,
        feed__simulator__rate=500,
        sequencer__delay=f"{DELAY_MS}ms",
    )
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path):
    """Starts gateways with settings of their own, and ends those that still run at the end of the test."""
    started, number = [], itertools.count()

    def start(*arguments, directory=None, **settings):
        gateway = Gateway(directory or tmp_path / f"gateway-{next(number)}", *arguments, **settings)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture
def capture(tmp_path):
    """The made-up capture."""
    return venue_capture.write(tmp_path / "made-up.jsonl")
