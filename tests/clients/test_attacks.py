"""Attacks on the door and on the entitlements in Redis: each gets the documented answer, and leaves nothing behind.

One gateway is attacked in most tests, with limits as they are by default. Each attacker has an address of its own."""

import base64
import hashlib
import itertools
import json
import socket
import time
from contextlib import ExitStack

import pytest
from client import Client, is_, signed_in
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from door import Answer, ask, bearer, connect, request
from gateway_process import WAIT_S, Gateway
from issuer import SECRET, Issuer
from redis_server import Platform, RedisServer, check_documented
from timing import at_once, wait_until
from websockets.exceptions import InvalidStatus

INVALID = {"status": 401, "error": "INVALID_TOKEN", "message": "the credentials are not valid", "WWW_Authenticate": "Bearer"}
PROXY, BLOCKED = "127.0.0.4", "127.0.0.3"
CONNECTIONS_PER_ADDRESS = 20

strangers = (f"127.1.{number >> 8}.{number & 255}" for number in itertools.count(1))


class Attacked:
    """A gateway, its store, and whoever signs its tokens."""

    def __init__(self, directory):
        self.server = RedisServer(directory / "redis")
        try:
            self.platform = Platform(self.server)
            self.issuer = Issuer(directory, "alice")
            self.settings = {
                **self.server.settings,
                **self.issuer.settings,
                "server__shards": 2,
                "server__trusted_proxies": f'["{PROXY}", "10.0.0.0/8"]',
                "server__connections_per_address": CONNECTIONS_PER_ADDRESS,
                "entitlements__sign_ins__attempts_max": 10,
                "feed__simulator__rate": 200,
            }
            self.directory, self.gateways = directory, []
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
        answer.is_refused(**INVALID)
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
    yield "more than 8 KiB", lambda issuer: issuer.by_hand(
        {"alg": "HS256", "kid": "hmac"}, HMAC, issuer.claims(name="a" * 6_200)
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
    """Another text that has the same signature verified, and another hash."""
    issuer, platform = attacked.issuer, attacked.platform
    for kid in issuer.algorithms:
        token = issuer.token(kid, jti="clothes")
        platform.deny(token)
        attacked.refuses_token(token)
        attacked.refuses_token(token + "=" * (-len(token.rsplit(".", 1)[1]) % 4))
        if kid != "ec":
            continue
        # (r, s) and (r, n - s) are both signatures of the same.
        signed, _, signature = token.rpartition(".")
        both = base64.urlsafe_b64decode(signature + "==")
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        twin = both[:32] + (order - int.from_bytes(both[32:])).to_bytes(32)
        attacked.refuses_token(f"{signed}.{base64.urlsafe_b64encode(twin).rstrip(b'=').decode()}")
