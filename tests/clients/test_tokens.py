"""Tokens from an issuer of another make (PyJWT): what is to open the door does, and what is not gets one answer."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from client import Client
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from gateway_process import Gateway
from websockets.exceptions import InvalidStatus

ISSUER, AUDIENCE, USER = "https://login.example.com", "gateway", "demo-premium"
SECRET = "0123456789abcdef0123456789abcdef"


class Issuer:
    """A gateway that knows three keys of another issuer, and what to sign with."""

    def __init__(self, directory):
        self.private = {
            "hmac": SECRET,
            "rsa": rsa.generate_private_key(65_537, 2_048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        self.algorithms = {"hmac": "HS256", "rsa": "RS256", "ec": "ES256"}
        (directory / "hmac").write_text(SECRET + "\n")
        self.public = {}
        for kid in ("rsa", "ec"):
            form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            self.public[kid] = self.private[kid].public_key().public_bytes(*form)
            (directory / kid).write_bytes(self.public[kid])
        keys = "".join(
            f'[[entitlements.token_keys]]\nkid = "{kid}"\nalgorithm = "{algorithm}"\n'
            f'{"secret_file" if kid == "hmac" else "public_key_file"} = "{directory / kid}"\n'
            for kid, algorithm in self.algorithms.items()
        )
        config = directory / "gateway.toml"
        config.write_text(f'[entitlements]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\n{keys}')
        self.gateway = Gateway(directory, "--config", config)

    def token(self, kid="rsa", signed_with=None, algorithm=None, headers=None, **claims):
        key, algorithm = signed_with or self.private[kid], algorithm or self.algorithms[kid]
        return jwt.encode(self.claims(**claims), key, algorithm, {"kid": kid, **(headers or {})})

    def claims(self, **claims):
        now = int(time.time())
        usual = {"sub": USER, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 600}
        return {name: value for name, value in {**usual, **claims}.items() if value is not None}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    yield issuer
    issuer.gateway.stop()


ACCEPTED = {
    "HS256": lambda issuer: issuer.token("hmac"),
    "RS256": lambda issuer: issuer.token("rsa"),
    "ES256": lambda issuer: issuer.token("ec"),
    "several audiences": lambda issuer: issuer.token(aud=["other", AUDIENCE]),
    "without nbf": lambda issuer: issuer.token(nbf=None),
    "with claims of its own": lambda issuer: issuer.token(name="Ann", roles=["a", {"b": 1}]),
    "within the leeway": lambda issuer: issuer.token(iat=int(time.time()) + 3, nbf=int(time.time()) + 3),
}


@pytest.mark.parametrize("token", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_good_token_opens(issuer, token):
    with Client(f"{issuer.gateway.url()}?token={token(issuer)}") as client:
        assert client.until(lambda message: message.get("msg") == "authenticated")["user"] == USER


def by_hand(issuer, header, key=b""):
    """A token that PyJWT refuses to make: with an HMAC of `key`, or without a signature."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(issuer.claims()).encode())}"
    signature = hmac.digest(key, signed.encode(), hashlib.sha256) if key else b""
    return f"{signed}.{part(signature)}"


REFUSED = {
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 60),
    "without exp": lambda issuer: issuer.token(exp=None),
    "not yet": lambda issuer: issuer.token(nbf=int(time.time()) + 60),
    "issued later": lambda issuer: issuer.token(iat=int(time.time()) + 60),
    "another issuer": lambda issuer: issuer.token(iss="https://elsewhere.example.com"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "another audience": lambda issuer: issuer.token(aud="other"),
    "no audience": lambda issuer: issuer.token(aud=None),
    "nobody": lambda issuer: issuer.token(sub="nobody"),
    "no subject": lambda issuer: issuer.token(sub=None),
    "unknown kid": lambda issuer: issuer.token(headers={"kid": "other"}),
    "no kid": lambda issuer: by_hand(issuer, {"alg": "HS256"}, SECRET.encode()),
    "another's key": lambda issuer: issuer.token(signed_with=rsa.generate_private_key(65_537, 2_048)),
    "another's secret": lambda issuer: issuer.token("hmac", signed_with=SECRET[::-1]),
    "another algorithm of the key": lambda issuer: issuer.token("rsa", algorithm="RS512"),
    "another key's algorithm": lambda issuer: issuer.token("rsa", signed_with=issuer.private["ec"], algorithm="ES256"),
    "alg none": lambda issuer: by_hand(issuer, {"alg": "none", "kid": "rsa"}),
    "alg none, kid of the HMAC key": lambda issuer: by_hand(issuer, {"alg": "None", "kid": "hmac"}),
    "public key as a secret": lambda issuer: by_hand(issuer, {"alg": "HS256", "kid": "rsa"}, issuer.public["rsa"]),
    "cut": lambda issuer: issuer.token()[:-4],
    "no signature": lambda issuer: issuer.token().rsplit(".", 1)[0] + ".",
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_token_gets_the_one_answer(issuer, token):
    token = token(issuer)
    with pytest.raises(InvalidStatus) as refused:
        Client(f"{issuer.gateway.url()}?token={token}")
    response = refused.value.response
    assert response.status_code == 401
    assert json.loads(response.body) == {"error": "INVALID_TOKEN", "message": "the credentials are not valid"}
    with Client(issuer.gateway.url()) as client:
        client.send(action="auth", token=token)
        messages, code = client.drain()
    assert (messages[-1], code) == ({"T": "error", "code": 402, "msg": "auth failed"}, 3500)


def test_by_hand_is_done_right(issuer):
    """The tokens made by hand are refused for what they say, and not for how they are made."""
    with Client(
        f"{issuer.gateway.url()}?token={by_hand(issuer, {'alg': 'HS256', 'kid': 'hmac'}, SECRET.encode())}"
    ) as client:
        assert client.until(lambda message: message.get("msg") == "authenticated")["user"] == USER
