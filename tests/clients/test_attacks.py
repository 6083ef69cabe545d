"""Attacks on the door and on the entitlements in Redis: each gets the documented answer, and leaves nothing behind.

One gateway is attacked in most tests, with limits as they are by default. Each attacker has an address of its own."""

import base64
import hashlib
import itertools
import json
import socket
import time
from contextlib import ExitStack, suppress

import pytest
from client import Client, is_, signed_in
from cryptography.hazmat.primitives.asymmetric import rsa
from door import Answer, ask, bearer, connect, request
from gateway_process import Gateway
from issuer import SECRET, Issuer
from redis_server import Platform, RedisServer, check_documented, needs_redis
from timing import at_once, wait_until
from websockets.exceptions import ConnectionClosed

pytestmark = needs_redis

WRONG = "Authorization: Bearer nonsense"
PROXY, BLOCKED = "127.0.0.4", "127.0.0.3"
CONNECTIONS_PER_ADDRESS = 20

# No generator, since threads ask for the next one too.
strangers = map(lambda number: f"127.1.{number >> 8}.{number & 255}", itertools.count(1))


class Attacked:
    """A gateway, its store, and whoever signs its tokens."""

    def __init__(self, directory):
        self.directory, self.gateways = directory, []
        self.server = RedisServer(directory / "redis")
        try:
            self.platform = Platform(self.server)
            self.issuer = Issuer(directory, "alice")
            self.settings = {
                **self.server.settings,
                **self.issuer.settings,
                "server__shards": 2,
                # Fifty clients sign in together on a machine that may be busy.
                "server__auth_timeout": "60s",
                "server__trusted_proxies": f'["{PROXY}", "10.0.0.0/8"]',
                "server__connections_per_address": CONNECTIONS_PER_ADDRESS,
                "entitlements__sign_ins__attempts_max": 10,
                "feed__simulator__rate": 200,
            }
            self.gateway = self.start()
            self.platform.put("alice")
            self.platform.block(BLOCKED, "scraper")
            self.platform.block("203.0.113.0/24", "abuse")
            wait_until("the blocks", lambda: self.ask(source=BLOCKED).status == 403)
        except BaseException:
            self.stop()
            raise

    def start(self, **settings) -> Gateway:
        """One more gateway of this store."""
        gateway = Gateway(self.directory / f"gateway-{len(self.gateways)}", **{**self.settings, **settings})
        self.gateways.append(gateway)
        wait_until("the store", lambda: gateway.page("/readyz")[0] == 200)
        return gateway

    def stop(self) -> None:
        for gateway in self.gateways:
            gateway.stop()
        self.server.stop()

    def ask(self, *headers, **options) -> Answer:
        """An answer of the door; a connection that it opened is closed."""
        answer = ask(self.gateway, *headers, **{"source": next(strangers), **options})
        answer.close()
        return answer

    def client(self, path="/stream", **options) -> Client:
        return Client(self.gateway.url(path), source_address=(next(strangers), 0), **options)

    def signed_in(self, credential, **options) -> Client:
        return signed_in(self.gateway.url(), credential, source_address=(next(strangers), 0), **options)

    def refuses_at_the_door(self, *headers, **options) -> bytes:
        """That credentials get the one answer, which is returned."""
        answer = self.ask(*headers, **options)
        answer.is_refused(401, "INVALID_TOKEN", "the credentials are not valid", WWW_Authenticate="Bearer")
        return answer.raw

    def refuses_a_message(self, message: str) -> None:
        """That a sign-in by message fails as all do."""
        with self.client() as client:
            client.socket.send(message)
            connected, *answers = (messages := client.drain())[0]
        assert connected == {"T": "success", "msg": "connected"}
        assert (answers, messages[1]) == ([{"T": "error", "code": 402, "msg": "auth failed"}], 3500)

    def refuses_token(self, token: str) -> None:
        self.refuses_at_the_door(f"Authorization: Bearer {token}")
        self.refuses_at_the_door(target=f"/stream?token={token}")
        self.refuses_a_message(json.dumps({"action": "auth", "token": token}))

    def accepts_token(self, token: str, user: str = "alice") -> None:
        with self.client(f"/stream?token={token}") as client:
            assert client.until(lambda message: message.get("msg") == "authenticated")["user"] == user


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    attacked = Attacked(tmp_path_factory.mktemp("attacked"))
    yield attacked
    attacked.stop()


# Forged tokens

HMAC = SECRET.encode()
KIDS = {
    "path": "../../etc/passwd",
    "path of nothing": "../../../../dev/null",
    "absolute path": "/dev/null",
    "NUL": "hmac\0",
    "NUL and more": "hmac\0.pem",
    "line end": "hmac\r\n",
    "space": " hmac",
    "capitals": "HMAC",
    "homoglyph": "hmаc",
    "empty": "",
    "SQL": "' UNION SELECT 'AAAA' -- ",
    "command": "|/usr/bin/id",
    "template": "${jndi:ldap://127.0.0.1/a}",
    "URL": "https://evil.example.com/keys.json",
    "file URL": "file:///dev/null",
    "number": 0,
    "true": True,
    "null": None,
    "list": ["hmac"],
    "map": {"kid": "hmac"},
    "long": "hmac" * 1_000,
}


def forged():
    """Names, and how each token is made."""
    for alg in ("none", "None", "NONE", "nOnE", "none ", "", None, False, ["none"], ["HS256"], "HS256\0", "hs256"):
        for kid in ("hmac", "rsa"):
            yield f"alg {alg!r} of {kid}", lambda issuer, alg=alg, kid=kid: issuer.by_hand({"alg": alg, "kid": kid})
        yield f"alg {alg!r}, signed", lambda issuer, alg=alg: issuer.by_hand({"alg": alg, "kid": "hmac"}, HMAC)
    yield "no alg", lambda issuer: issuer.by_hand({"kid": "hmac"}, HMAC)
    for kid in ("rsa", "ec"):
        for form, key in {
            "PEM": lambda issuer, kid: issuer.public[kid],
            "PEM without its line end": lambda issuer, kid: issuer.public[kid].rstrip(),
            "DER": lambda issuer, kid: issuer.der[kid],
        }.items():
            yield (
                f"HS256 with the {form} of {kid}",
                lambda issuer, kid=kid, key=key: issuer.by_hand({"alg": "HS256", "kid": kid}, key(issuer, kid)),
            )
            yield (
                f"the {form} of {kid} as the secret of another",
                lambda issuer, kid=kid, key=key: issuer.by_hand({"alg": "HS256", "kid": "hmac"}, key(issuer, kid)),
            )
    for alg, digest in (("HS384", hashlib.sha384), ("HS512", hashlib.sha512), ("RS256", hashlib.sha256)):
        yield (
            f"{alg} with the secret of HS256",
            lambda issuer, alg=alg, digest=digest: issuer.by_hand({"alg": alg, "kid": "hmac"}, HMAC, digest=digest),
        )
    for name, kid in KIDS.items():
        yield f"kid: {name}", lambda issuer, kid=kid: issuer.by_hand({"alg": "HS256", "kid": kid}, HMAC)
        yield f"kid: {name}, no key", lambda issuer, kid=kid: issuer.by_hand({"alg": "HS256", "kid": kid}, b"\0")
    yield "crit", lambda issuer: issuer.by_hand({"alg": "HS256", "kid": "hmac", "crit": ["exp"], "exp": 1}, HMAC)
    for name, claims in {
        "expired": {"exp": lambda now: now - 60},
        "expired, in text": {"exp": lambda now: str(now + 60)},
        "expired before time": {"exp": lambda now: -1},
        "no end": {"exp": lambda now: None},
        "not yet valid": {"nbf": lambda now: now + 60},
        "issued later": {"iat": lambda now: now + 60},
        "wrong audience": {"aud": lambda now: "another"},
        "audience in a map": {"aud": lambda now: {"gateway": True}},
        "no audience in a list": {"aud": lambda now: []},
        "wrong issuer": {"iss": lambda now: "https://login.example.com.evil.example.com"},
    }.items():
        yield (
            name,
            lambda issuer, claims=claims: issuer.by_hand(
                {"alg": "HS256", "kid": "hmac"},
                HMAC,
                issuer.claims(**{name: make(int(time.time())) for name, make in claims.items()}),
            ),
        )
    yield "two ends", lambda issuer: with_claims(issuer, b'"exp":1,"exp":99999999999')
    yield "an end beyond numbers", lambda issuer: with_claims(issuer, b'"exp":1e999')
    yield "an end that is none", lambda issuer: with_claims(issuer, b'"exp":NaN')
    yield "deep JSON in a claim", lambda issuer: with_claims(issuer, b'"exp":99999999999,"aud":' + b"[" * 3_000)
    yield "deep header", lambda issuer: issuer.by_hand(b'{"alg":"HS256","kid":' + b"[" * 3_000, HMAC)
    yield (
        "more than 8 KiB",
        lambda issuer: issuer.by_hand({"alg": "HS256", "kid": "hmac"}, HMAC, issuer.claims(name="a" * 6_200)),
    )
    yield "claims in a list", lambda issuer: issuer.by_hand({"alg": "HS256", "kid": "hmac"}, HMAC, b"[]")
    yield "four parts", lambda issuer: issuer.token("hmac") + ".e30"
    yield "two parts", lambda issuer: issuer.token("hmac").rsplit(".", 1)[0]
    yield "dots", lambda issuer: ".."
    yield "a signature with padding", lambda issuer: issuer.token("hmac") + "="
    yield "bits behind the signature", lambda issuer: issuer.token("hmac")[:-1] + after(issuer.token("hmac")[-1])


def with_claims(issuer, claims: bytes) -> str:
    """A token with the right key, and claims that are usual but for these."""
    usual = json.dumps({name: value for name, value in issuer.claims().items() if name not in ("exp", "aud")})
    rest = b"" if b'"aud"' in claims else b',"aud":"gateway"'
    return issuer.by_hand({"alg": "HS256", "kid": "hmac"}, HMAC, usual[:-1].encode() + b"," + claims + rest + b"}")


def after(letter: str) -> str:
    """The letter of base64url that follows, which differs in the last bit."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(letter) ^ 1]


FORGED = dict(forged())


@pytest.mark.parametrize("make", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_gets_the_one_answer(attacked, make):
    attacked.refuses_token(make(attacked.issuer))


def test_what_is_forged_here_is_right_but_for_one_thing(attacked):
    issuer = attacked.issuer
    for kid in issuer.algorithms:
        attacked.accepts_token(issuer.token(kid))
    attacked.accepts_token(issuer.by_hand({"alg": "HS256", "kid": "hmac"}, HMAC))
    attacked.accepts_token(with_claims(issuer, b'"exp":99999999999'))
    attacked.accepts_token(issuer.by_hand({"alg": "HS256", "kid": "hmac"}, HMAC, issuer.claims(name="a" * 5_000)))


def test_keys_that_a_token_brings_along_are_ignored(attacked):
    issuer, own = attacked.issuer, rsa.generate_private_key(65_537, 2_048)
    numbers = own.public_key().public_numbers()
    n = base64.urlsafe_b64encode(numbers.n.to_bytes(256, "big")).rstrip(b"=").decode()
    with socket.create_server(("127.0.0.1", 0)) as lure:
        lure.setblocking(False)
        url = f"http://127.0.0.1:{lure.getsockname()[1]}/keys.json"
        for header in (
            {"jwk": {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "rsa"}},
            {"jku": url},
            {"x5u": url},
            {"jku": url, "x5u": url, "kid": "unknown"},
        ):
            attacked.refuses_token(issuer.token(signed_with=own, headers=header))
            # With the right signature they do no harm.
            if "kid" not in header:
                attacked.accepts_token(issuer.token(headers=header))
        with pytest.raises(BlockingIOError):
            lure.accept()


# Tokens that are denied


def test_a_denied_token_does_not_come_back(attacked):
    issuer, platform = attacked.issuer, attacked.platform
    denied, other = (issuer.token("hmac", jti=jti) for jti in ("denied", "other"))
    with attacked.client(f"/stream?token={denied}") as by_it, attacked.client(f"/stream?token={other}") as by_other:
        for client in (by_it, by_other):
            client.until(lambda message: message.get("msg") == "authenticated")
        platform.deny(denied)
        assert by_it.drain() == ([], 3504)
        attacked.refuses_token(denied)
        # Nor does it carry another session on, which takes no harm.
        by_other.send(action="auth", token=denied)
        assert by_other.receive() == {"T": "error", "code": 402, "msg": "auth failed"}
        by_other.send(action="auth", token=other)
        assert by_other.receive()["msg"] == "authenticated"
    attacked.accepts_token(other)


def test_a_denied_token_does_not_come_back_in_other_clothes(attacked):
    """Another text with another hash, in which the same token is verified."""
    issuer, platform = attacked.issuer, attacked.platform
    for kid in issuer.algorithms:
        token = issuer.token(kid, jti="clothes")
        platform.deny(token)
        attacked.refuses_token(token)
        attacked.refuses_token(token + "=" * (-len(token.rsplit(".", 1)[1]) % 4))
    token = issuer.token("ec", jti="twin")
    with attacked.client(f"/stream?token={twin(token)}") as client:
        client.until(lambda message: message.get("msg") == "authenticated")
        platform.deny(token)
        assert client.drain() == ([], 3504)
    attacked.refuses_token(token)
    attacked.refuses_token(twin(token))


def twin(token: str) -> str:
    """The ES256 token with the signature (r, n - s) in place of (r, s), which is as good, and needs no key to make."""
    signed, _, signature = token.rpartition(".")
    both = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = both[:32] + (order - int.from_bytes(both[32:])).to_bytes(32)
    return f"{signed}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"


# Guessing


def test_a_guess_learns_nothing_from_the_answer(attacked):
    """Byte for byte the same, whichever part was wrong."""
    platform = attacked.platform
    good, over = attacked.platform.key("alice"), platform.key("alice", expires_at=1)
    blocked = platform.user("eve", status="blocked")
    nobodys = platform.key("nobody")
    attacked.ask(bearer(good)).close()
    prefix, wrong = good.key, "0" * 64
    guesses = (
        f"{prefix}.{wrong}",
        f"{prefix}.{good.secret[:-1]}",
        f"{prefix}.{good.secret.upper()}",
        f"{prefix}.",
        f"AK{'0' * 20}.{good.secret}",
        f"{prefix.lower()}.{good.secret}",
        f"{over.key}.{over.secret}",
        f"{blocked.key}.{blocked.secret}",
        f"{nobodys.key}.{nobodys.secret}",
        "nonsense",
        ".",
    )
    answers = {attacked.refuses_at_the_door(f"Authorization: Bearer {guess}") for guess in guesses}
    answers |= {attacked.refuses_at_the_door(f"X-API-Key: {guess}") for guess in guesses}
    kinds = ("", "Basic !", "Digest x", "Bearer")
    answers |= {attacked.refuses_at_the_door(f"Authorization: {kind}") for kind in kinds}
    assert len(answers) == 1


def test_attempts_that_failed_are_ten_in_five_minutes(attacked):
    guesser, good, token = next(strangers), attacked.platform.key("alice"), attacked.issuer.token()
    with Client(attacked.gateway.url(f"/stream?token={token}"), source_address=(guesser, 0)) as before:
        before.collect(2, is_("success"))
        # Those that are right do not count.
        for _ in range(15):
            attacked.ask(bearer(good), source=guesser)
        for _ in range(10):
            attacked.refuses_at_the_door(WRONG, source=guesser)
        begun = int(time.time())
        for header in (WRONG, bearer(good)):
            answer = attacked.ask(header, source=guesser)
            wait, reset = (int(answer.headers[name]) for name in ("Retry-After", "X-RateLimit-Reset"))
            # A place comes back a bucket's width late at most.
            assert 1 <= wait <= 305 and begun + wait - 2 <= reset <= int(time.time()) + 310
            told = {"X_RateLimit_Limit": "10", "X_RateLimit_Remaining": "0"}
            answer.is_refused(429, "RATE_LIMIT_EXCEEDED", "too many sign-in attempts", **told)
        # After an upgrade it is the same; who says nothing may come, and who is there goes on.
        with Client(attacked.gateway.url(), source_address=(guesser, 0)) as client:
            client.send(action="auth", key=good.key, secret=good.secret)
            (_, error), code = client.drain()
        assert error.pop("retry_after") > 0
        assert (error, code) == ({"T": "error", "code": 429, "msg": "too many requests"}, 3004)
        before.send(action="auth", token=token)
        assert before.receive()["code"] == 429
        before.subscribe(trades=["BTC/USD"])
        before.until(is_("t"))
    attacked.signed_in(good).close()


def test_of_guesses_at_once_ten_are_answered(attacked):
    guesser = next(strangers)
    answers = at_once(CONNECTIONS_PER_ADDRESS, lambda _: attacked.ask(WRONG, source=guesser).status)
    assert sorted(answers) == [401] * 10 + [429] * (CONNECTIONS_PER_ADDRESS - 10)


# Who says who the client is

SPOOFS = (
    "X-Forwarded-For: {}",
    "Forwarded: for={}",
    "X-Real-IP: {}",
    "X-Client-IP: {}",
    "True-Client-IP: {}",
    "CF-Connecting-IP: {}",
    "X-Cluster-Client-IP: {}",
)


def spoofed(address: str) -> list[str]:
    return [spoof.format(address) for spoof in SPOOFS]


def test_what_a_stranger_says_of_its_address_is_ignored(attacked):
    for spoof in SPOOFS:
        attacked.ask(spoof.format("198.51.100.1"), source=BLOCKED).is_refused(
            403, "IP_BLOCKED", "connections from this address are not accepted"
        )
        assert attacked.ask(spoof.format(BLOCKED)).status == 101
    guesser = next(strangers)
    for number in range(10):
        attacked.refuses_at_the_door(WRONG, *spoofed(f"198.51.100.{number}"), source=guesser)
    attacked.ask(WRONG, *spoofed("198.51.100.10"), source=guesser).is_refused(429, "RATE_LIMIT_EXCEEDED")


def test_of_what_a_proxy_says_the_last_stranger_counts(attacked):
    def through_proxy(*headers):
        return attacked.ask(*headers, source=PROXY).status

    assert through_proxy("X-Forwarded-For: 203.0.113.9") == 403
    assert through_proxy("X-Forwarded-For: 198.51.100.1, 203.0.113.9, 10.1.2.3") == 403
    assert through_proxy("X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.9") == 403
    assert through_proxy("X-Forwarded-For: [::ffff:203.0.113.9]:443") == 403
    assert through_proxy("X-Forwarded-For: 203.0.113.9, 198.51.100.1") == 101
    assert through_proxy("X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.1, 10.1.2.3") == 101
    # No other header names a client, and what is no address names nobody.
    assert through_proxy(*spoofed("203.0.113.9")[1:]) == 101
    assert through_proxy("X-Forwarded-For: 203.0.113.9\t") == 403
    for nonsense in ("unknown", "203.0.113.9 198.51.100.1", "203.0.113.256", "203.0.113.9%lo", "٢٠٣.0.113.9"):
        assert through_proxy(f"X-Forwarded-For: {nonsense}") == 101, nonsense
    # Attempts and connections are the client's, whatever it has written before.
    for number in range(10):
        chain = f"X-Forwarded-For: 192.0.2.{number}, 198.51.100.77"
        attacked.refuses_at_the_door(WRONG, chain, source=PROXY)
    attacked.ask(WRONG, "X-Forwarded-For: 198.51.100.77", source=PROXY).is_refused(429, "RATE_LIMIT_EXCEEDED")
    attacked.refuses_at_the_door(WRONG, "X-Forwarded-For: 198.51.100.78", source=PROXY)
    with ExitStack() as held:
        answers = []
        for number in range(CONNECTIONS_PER_ADDRESS + 1):
            chain = f"X-Forwarded-For: 192.0.2.{number}, 198.51.100.79, 10.0.0.{number}"
            answers.append(ask(attacked.gateway, chain, source=PROXY))
            held.callback(answers[-1].close)
        assert [answer.status for answer in answers] == [101] * CONNECTIONS_PER_ADDRESS + [429]


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = b"\x21\x11\0\x0c" + bytes([198, 51, 100, 1, 127, 0, 0, 1, 0x30, 0x39, 0, 80])
MALFORMED = {
    "none": b"",
    "version 1": b"PROXY TCP4 198.51.100.1 127.0.0.1 12345 80\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "another signature": SIGNATURE[:-1] + b"\r" + TCP4,
    "another version": SIGNATURE + b"\x11" + TCP4[1:],
    "another command": SIGNATURE + b"\x22" + TCP4[1:],
    "UDP": SIGNATURE + b"\x21\x12" + TCP4[2:],
    "a path": SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
    "short addresses": SIGNATURE + b"\x21\x11\0\x0b" + TCP4[4:-1],
    "IPv4 for IPv6": SIGNATURE + b"\x21\x21\0\x0c" + TCP4[4:],
    "too long": SIGNATURE + b"\x21\x11\xff\xff" + TCP4[4:] + bytes(65_523),
}


def test_without_a_good_header_of_the_proxy_protocol_there_is_no_answer(attacked):
    gateway = attacked.start(server__proxy_protocol="v2")

    def silent(source, sent):
        with connect(gateway, source) as connection:
            try:
                connection.sendall(sent)
                # It may be over by now.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                return connection.recv(1) == b""
            except ConnectionError:
                return True

    def refused(reason):
        return gateway.metric(f'gateway_handshakes_refused_total{{reason="{reason}"}}')

    for name, header in MALFORMED.items():
        assert silent(PROXY, header + request()), name
    wait_until("all to be counted", lambda: refused("proxy_header") == len(MALFORMED))
    # One that ends within its header, one that comes twice, and one from somebody who may not write any.
    assert silent(PROXY, SIGNATURE + TCP4[:-1])
    ask(gateway, source=PROXY, before=2 * (SIGNATURE + TCP4)).is_refused(400, "BAD_REQUEST")
    assert silent(next(strangers), SIGNATURE + TCP4 + request())
    wait_until("it to be counted", lambda: refused("no_proxy") == 1)
    ask(gateway, source=PROXY, before=SIGNATURE + b"\x21\x11\0\x0c" + bytes([203, 0, 113, 9]) + TCP4[8:]).is_refused(
        403, "IP_BLOCKED"
    )
    good = ask(gateway, source=PROXY, before=SIGNATURE + TCP4)
    good.close()
    assert good.status == 101


# Floods


def test_of_connections_at_once_from_an_address_so_many_stay(attacked):
    flooder = next(strangers)
    answers = at_once(50, lambda n: ask(attacked.gateway, *spoofed(f"198.51.100.{n}"), source=flooder))
    with ExitStack() as held:
        for answer in answers:
            held.callback(answer.close)
        upgraded = [answer for answer in answers if answer.status == 101]
        assert len(upgraded) == CONNECTIONS_PER_ADDRESS
        for answer in answers:
            if answer.status != 101:
                told = "too many connections from this address"
                answer.is_refused(429, "TOO_MANY_CONNECTIONS", told, Retry_After="1")
        assert attacked.ask(source=flooder).status == 429 and attacked.ask().status == 101
        upgraded[0].close()
        wait_until("the place", lambda: attacked.ask(source=flooder).status == 101)
    wait_until(
        "all places",
        lambda: all(at_once(CONNECTIONS_PER_ADDRESS, lambda _: attacked.ask(source=flooder).status == 101)),
    )


def test_of_connections_at_once_of_a_user_so_many_stay(attacked):
    credential = attacked.platform.user("bob", max_connections=7)
    clients = at_once(50, lambda _: attacked.client())
    with ExitStack() as held:
        for client in clients:
            held.callback(client.close)

        def sign_in(number):
            clients[number].send(action="auth", key=credential.key, secret=credential.secret)
            return clients[number].until(lambda message: message.get("msg") != "connected")

        answers = at_once(50, sign_in)
        stay = [number for number, answer in enumerate(answers) if answer["T"] == "success"]
        assert len(stay) == 7
        for number in set(range(50)) - set(stay):
            assert answers[number] == {"T": "error", "code": 406, "msg": "connection limit exceeded"}
            assert clients[number].drain() == ([], 3502)
        assert len(attacked.platform.connections("bob")) == 7
        clients[stay[0]].close()
        wait_until("the place to be given back", lambda: len(attacked.platform.connections("bob")) == 6)
        held.enter_context(attacked.signed_in(credential))


def test_of_requests_at_once_of_a_session_so_many_are_done(attacked):
    with attacked.signed_in(attacked.platform.user("carol", tier="enterprise")) as client:
        # Few enough for their answers to wait.
        count = 400
        requests = (json.dumps({"action": "unsubscribe", "id": number}) for number in range(count))
        client.socket.socket.sendall(b"".join(map(masked, requests)))
        answers = client.collect(count, is_("subscription", "error"))
        assert [answer["id"] for answer in answers] == list(range(count))
        assert all(answer["T"] == "subscription" for answer in answers[:100])
        refused = [answer for answer in answers if answer["T"] == "error"]
        assert refused
        for answer in refused:
            assert 0 < answer.pop("retry_after") <= 0.1
            assert answer == {"T": "error", "code": 429, "msg": "too many requests", "id": answer["id"]}
        # It is a matter of waiting.
        wait_until("a request to be done", lambda: try_request(client) == "subscription")


def try_request(client: Client) -> str:
    client.send(action="unsubscribe")
    return client.until(is_("subscription", "error"))["T"]


def masked(text: str) -> bytes:
    """A text message of less than 126 bytes as a client sends it, with a key of zeros."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


def test_too_many_channels_are_left_out(attacked):
    names = ["BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "DOGE/USD"]
    with attacked.signed_in(attacked.platform.user("dave", max_channels=3)) as client:
        client.send(action="subscribe", id="flood", trades=names)
        answers = client.collect(2, is_("subscription", "error"))
        [error] = [answer for answer in answers if answer["T"] == "error"]
        [subscription] = [answer for answer in answers if answer["T"] == "subscription"]
        assert subscription["trades"] == names[:3]
        error.pop("detail", None)
        told = {"T": "error", "code": 405, "msg": "symbol limit exceeded", "id": "flood", "channel": "trades"}
        assert error == {**told, "symbols": names[3:]}
        client.send(action="subscribe", trades=["A"] * 10_001)
        error = client.until(is_("error"))
        assert (error["code"], error["msg"]) == (424, "too many symbols in one request")


@pytest.mark.parametrize("signs_in", [False, True], ids=["before", "after the sign-in"])
@pytest.mark.parametrize("fragments", [1, 9])
def test_a_message_above_the_limit_ends_the_connection(attacked, signs_in, fragments):
    with attacked.client() as client:
        if signs_in:
            client.sign_in(attacked.platform.key("alice"))
        size = 64 * 1024 // fragments + 1
        parts = [" " * size] * fragments
        # It may be over before all is sent.
        with suppress(ConnectionClosed):
            client.socket.send(parts[0] if fragments == 1 else parts)
        messages, code = client.drain()
    assert (messages[-1], code) == ({"T": "error", "code": 425, "msg": "message too large"}, 1009)


def test_a_deep_request_is_no_request(attacked):
    with attacked.client() as client:
        for deep in ('{"action":"auth","token":' + "[" * 30_000, '{"a":' * 10_000, "[" * 60_000):
            client.socket.send(deep)
            answer = client.until(is_("error"))
            assert (answer["code"], answer["msg"]) == (400, "invalid syntax")
        client.close()


def test_a_head_that_is_too_large_is_not_read(attacked):
    large = (
        ["X-Large: " + "a" * 16_384],
        ["X-Cookie: " + "a" * 1_000] * 17,
        ["X: y"] * 60,
        ["Authorization: Bearer " + "a" * 70_000],
    )
    for headers in large:
        attacked.ask(*headers).is_refused(431, "HEAD_TOO_LARGE")
    attacked.ask(target="/stream?token=" + "a" * 17_000).is_refused(431, "HEAD_TOO_LARGE")


# Names and texts that are to become more than that

IDS = {
    "homoglyph": "аlice",
    "right to left": "\u202eecila",
    "no width": "ali\u200bce",
    "composed": "alicé",
    "emoji": "👩‍🚀",
    "NUL": "alice\0",
    "line end": "alice\n",
    "space": "alice admin",
    "delete": "alice\x7f",
    "braces": "{alice}",
    "end of the tag": "x}:{alice",
    "one brace": "alice}",
    "RESP": "alice\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "long": "a" * 129,
    "empty": "",
}


@pytest.mark.parametrize("user", IDS.values(), ids=IDS.keys())
def test_an_id_that_can_be_nobodys_is_refused(attacked, user):
    # Not for want of a record.
    attacked.platform.put(user)
    attacked.platform.put("a" * 128)
    before = leftovers(attacked)
    attacked.refuses_token(attacked.issuer.token("hmac", sub=user))
    key = attacked.platform.key(user)
    with attacked.client() as client:
        client.send(action="auth", key=key.key, secret=key.secret)
        (_, error), code = client.drain()
    # A key of nobody's is a fault of the platform, and not of the client.
    assert (error["code"], code) == (503, 3003)
    assert leftovers(attacked) == before
    attacked.accepts_token(attacked.issuer.token("hmac", sub="a" * 128), user="a" * 128)


def leftovers(attacked) -> set[str]:
    """The names of keys that gateways make of users."""
    made = ("session:", "websocket:", "rate_limit:api:", "active_users")
    wait_until("sessions to end", lambda: not attacked.server.has_sessions())
    return {name for name in attacked.server.names() if name.startswith(made)}


PREFIXES = (
    "{alice}",
    "x}:{alice",
    "*",
    "AK?",
    "../entitlement:{alice}",
    'x"; redis.call("FLUSHALL") --',
    "' .. redis.call('FLUSHALL') .. '",
    "]] return redis.call('FLUSHALL') --[[",
    "x\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "x\0",
    "ключ",
    "a" * 65,
    "",
)


def test_a_key_prefix_names_no_other_key_and_says_nothing_to_redis(attacked):
    attacked.platform.redis.set("canary", "alive")
    # Where a prefix that is taken as it came would look.
    for prefix in PREFIXES:
        key = attacked.platform.key("alice")
        attacked.platform.redis.rename(f"api_key:{key.key}", f"api_key:{prefix}")
        attacked.refuses_a_message(json.dumps({"action": "auth", "key": prefix, "secret": key.secret}))
        pair = base64.b64encode(f"{prefix}:{key.secret}".encode()).decode()
        attacked.refuses_at_the_door(f"Authorization: Basic {pair}")
        attacked.platform.redis.delete(f"api_key:{prefix}")
    assert attacked.platform.redis.getdel("canary") == "alive"
    assert not [name for name in attacked.platform.redis.info("commandstats") if "flush" in name]


AGENTS = {
    "quotes": (b"x\"'; redis.call('FLUSHALL') --", "x\"'; redis.call('FLUSHALL') --"),
    "braces": (b"{alice} }:{ %s %n ${jndi:x}", "{alice} }:{ %s %n ${jndi:x}"),
    "RESP": (b"*1 $8 FLUSHALL", "*1 $8 FLUSHALL"),
    "no UTF-8": (b"a\xff\xfeb", "a\ufffd\ufffdb"),
    "unicode": ("ali\u202eec ☃".encode(), "ali\u202eec ☃"),
    "long": ("☃".encode() * 1_000, "☃" * 85),
}


@pytest.mark.parametrize("sent, kept", AGENTS.values(), ids=AGENTS.keys())
def test_an_agent_is_kept_as_a_text_and_no_more(attacked, sent, kept):
    user = "frank"
    credential = attacked.platform.user(user)
    answer = ask(attacked.gateway, b"User-Agent: " + sent, bearer(credential), source=next(strangers))
    wait_until("the session", lambda: attacked.platform.connections(user))
    [session] = attacked.platform.connections(user)
    wait_until("its description", lambda: attacked.platform.redis.hget(f"session:{session}", "user_agent"))
    assert attacked.platform.redis.hget(f"session:{session}", "user_agent") == kept
    assert attacked.platform.redis.hget(f"session:{session}", "user_id") == user
    answer.close()
    wait_until("its end", lambda: not attacked.platform.connections(user))


@pytest.mark.parametrize("control", ["\0", "\1", "\n", "\r", "\x1b[2J", "\x7f", "\r\nX-Forwarded-For 1"], ids=repr)
def test_an_agent_with_control_characters_is_no_request(attacked, control):
    attacked.ask(f"User-Agent: a{control}b").is_refused(400, "BAD_REQUEST")


def test_nothing_of_a_request_gets_into_the_head_of_an_answer(attacked):
    split = "%0d%0aX-Injected:%201%0d%0a"
    for target in (f"/{split}", f"/stream?encoding={split}", f"/stream?token={split}", "/stream?encoding=x%22%7d"):
        answer = attacked.ask(target=target)
        assert answer.status in (400, 401, 404)
        answer.is_refused(answer.status, answer.body["error"])
        assert "X-Injected" not in answer.headers


@pytest.mark.parametrize("agent", ["sqlmap/1.7#stable", "Mozilla/5.0 (NIKTO/2.5)", "x Nmap Scripting Engine"])
def test_a_scanner_is_sent_away(attacked, agent):
    attacked.ask(f"User-Agent: {agent}").is_refused(403, "SUSPICIOUS_CLIENT", "clients of this kind are not accepted")


def test_nothing_is_left_behind_but_what_is_documented(attacked):
    # What stands for the platform has written of users who can be nobody.
    for user in IDS.values():
        attacked.platform.redis.delete(f"entitlement:{{{user}}}")
    wait_until("sessions to end", lambda: not attacked.server.has_sessions())
    check_documented(attacked.server)
    assert not [name for name in attacked.server.names() if name.startswith(("session:", "websocket:"))]
