"""Tokens from an issuer of another make (PyJWT): what is to open the door does, and what is not gets one answer."""

import json
import time

import pytest
from client import Client
from cryptography.hazmat.primitives.asymmetric import rsa
from gateway_process import Gateway
from issuer import AUDIENCE, SECRET, Issuer
from websockets.exceptions import InvalidStatus

USER = "demo-premium"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("issuer")
    issuer = Issuer(directory, USER)
    issuer.gateway = Gateway(directory, **issuer.settings)
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
    "no kid": lambda issuer: issuer.by_hand({"alg": "HS256"}, SECRET.encode()),
    "another's key": lambda issuer: issuer.token(signed_with=rsa.generate_private_key(65_537, 2_048)),
    "another's secret": lambda issuer: issuer.token("hmac", signed_with=SECRET[::-1]),
    "another algorithm of the key": lambda issuer: issuer.token("rsa", algorithm="RS512"),
    "another key's algorithm": lambda issuer: issuer.token("rsa", signed_with=issuer.private["ec"], algorithm="ES256"),
    "alg none": lambda issuer: issuer.by_hand({"alg": "none", "kid": "rsa"}),
    "alg none, kid of the HMAC key": lambda issuer: issuer.by_hand({"alg": "None", "kid": "hmac"}),
    "public key as a secret": lambda issuer: issuer.by_hand({"alg": "HS256", "kid": "rsa"}, issuer.public["rsa"]),
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
        f"{issuer.gateway.url()}?token={issuer.by_hand({'alg': 'HS256', 'kid': 'hmac'}, SECRET.encode())}"
    ) as client:
        assert client.until(lambda message: message.get("msg") == "authenticated")["user"] == USER
