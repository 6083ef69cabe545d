"""wss:// with clients that others wrote: Python's ssl and `websockets`, and alpaca-py, all unmodified."""

import re
import signal
import socket
import ssl
import time

import pytest
from alpaca.data.live import CryptoDataStream
from certificate import Certificate
from client import Client, check_contiguous, is_, signed_in
from gateway_process import WAIT_S
from test_alpaca_py import CRYPTO, Arrivals, check_trades, run
from test_commands import pasted


@pytest.fixture
def certificate(tmp_path):
    return Certificate(tmp_path / "server.pem")


@pytest.fixture
def gateway(start, certificate):
    return start(feed__simulator__rate=500, **certificate.settings)


def test_a_client_gets_its_data_over_tls(gateway, certificate):
    with signed_in(gateway.url(), gateway.premium, ssl=certificate.trust()) as client:
        tls = client.socket.socket
        assert (tls.version(), tls.getpeercert(binary_form=True)) == ("TLSv1.3", certificate.der())
        client.subscribe(trades=["*"], quotes=["BTC/USD"])
        messages = client.collect(2_000, is_("t", "q"))
        check_contiguous(messages, ("t",))
        assert client.socket.ping(b"x" * 125).wait(WAIT_S), "no pong"
    assert (client.socket.close_code, client.socket.protocol.close_rcvd.code) == (1000, 1000)


def test_the_request_may_sign_in_over_tls(gateway, certificate):
    with Client(f"{gateway.url()}?token={gateway.free.token}", ssl=certificate.trust()) as client:
        assert client.receive()["msg"] == "connected"
        assert client.receive()["user"] == "demo-free"


def test_a_client_that_does_not_trust_it_stays_away(gateway, certificate, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(gateway.url(), ssl=Certificate(tmp_path / "other.pem").trust())
    # Trusted, but for other names.
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        Client(gateway.url(), ssl=certificate.trust(), server_hostname="example.com")


def test_an_older_tls_is_told_why_not(gateway, certificate):
    context = certificate.trust()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as refused:
        Client(gateway.url(), ssl=context)
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_http_without_tls_is_told_why_not(gateway):
    with socket.create_connection(gateway.endpoint, WAIT_S) as stream:
        stream.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while more := stream.recv(65_536):
            answer += more
    head, body = answer.decode().split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ") and '"error":"TLS_REQUIRED"' in body


def test_a_new_certificate_is_for_new_connections(gateway, certificate, tmp_path):
    old_trust, old = certificate.trust(), certificate.der()
    with signed_in(gateway.url(), gateway.premium, ssl=old_trust) as client:
        client.subscribe(trades=["*"])
        before = client.collect(50, is_("t"))
        replacement = Certificate(tmp_path / "replacement.pem")
        trust, new = replacement.trust(), replacement.der()
        replacement.move_to(certificate)
        gateway.signal(signal.SIGHUP)
        deadline = time.monotonic() + WAIT_S
        while (now := shown(gateway)) != new:
            assert now == old and time.monotonic() < deadline, "another certificate than the new one is shown"
        with signed_in(gateway.url(), gateway.premium, ssl=trust) as newcomer:
            newcomer.subscribe(trades=["*"])
            check_contiguous(newcomer.collect(50, is_("t")), ("t",))
        with pytest.raises(ssl.SSLCertVerificationError):
            Client(gateway.url(), ssl=old_trust)
        # Who was there has noticed nothing.
        after = client.collect(200, is_("t", "gap"))
        check_contiguous(before + after, ("t",))
        assert not [message for message in after if message["T"] == "gap"]
        assert client.socket.socket.getpeercert(binary_form=True) == old


def shown(gateway):
    """The certificate that the next connection is shown, whatever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(gateway.endpoint, WAIT_S) as stream, context.wrap_socket(stream) as tls:
        return tls.getpeercert(binary_form=True)


def test_alpaca_py_over_tls(gateway, certificate):
    user, trades = gateway.premium, Arrivals()
    # Its own parameters, which one's own replace, and the trust.
    parameters = {"ping_interval": 10, "ping_timeout": 180, "max_queue": 1024, "ssl": certificate.trust()}
    stream = CryptoDataStream(user.key, user.secret, url_override=gateway.url(CRYPTO), websocket_params=parameters)
    stream.subscribe_trades(trades.handle, "BTC/USD")
    with run(stream):
        check_trades(trades.take(30))


@pytest.mark.parametrize("like", ["from websockets.sync.client import connect", "from alpaca.data.live import"])
def test_the_greetings_clients_trust_the_certificate(gateway, certificate, like):
    [export] = re.findall(r"^ *(export SSL_CERT_FILE=.*)$", gateway.greeting, re.M)
    assert str(certificate.file) in export
    assert "BTC/USD" in "".join(pasted(gateway, like, 4, before=export))
