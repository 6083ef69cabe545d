"""An issuer of tokens of another make (PyJWT), and tokens made by hand, which it refuses to make."""

import base64
import hashlib
import hmac
import json
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER, AUDIENCE = "https://login.example.com", "gateway"
SECRET = "0123456789abcdef0123456789abcdef"


class Issuer:
    """Three keys of an issuer whose tokens a gateway with its `settings` takes."""

    def __init__(self, directory, user: str):
        self.user = user
        self.private = {
            "hmac": SECRET,
            "rsa": rsa.generate_private_key(65_537, 2_048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        self.algorithms = {"hmac": "HS256", "rsa": "RS256", "ec": "ES256"}
        (directory / "hmac").write_text(SECRET + "\n")
        # As PEM, for the gateway, and as DER.
        self.public, self.der = {}, {}
        for kid in ("rsa", "ec"):
            key, form = self.private[kid].public_key(), serialization.PublicFormat.SubjectPublicKeyInfo
            self.public[kid] = key.public_bytes(serialization.Encoding.PEM, form)
            self.der[kid] = key.public_bytes(serialization.Encoding.DER, form)
            (directory / kid).write_bytes(self.public[kid])
        keys = (
            f'{{ kid = "{kid}", algorithm = "{algorithm}", '
            f'{"secret_file" if kid == "hmac" else "public_key_file"} = "{directory / kid}" }}'
            for kid, algorithm in self.algorithms.items()
        )
        self.settings = {
            "entitlements__issuer": ISSUER,
            "entitlements__audience": AUDIENCE,
            "entitlements__token_keys": f"[{', '.join(keys)}]",
        }

    def token(self, kid="rsa", signed_with=None, algorithm=None, headers=None, **claims):
        key, algorithm = signed_with or self.private[kid], algorithm or self.algorithms[kid]
        return jwt.encode(self.claims(**claims), key, algorithm, {"kid": kid, **(headers or {})})

    def claims(self, **claims):
        now = int(time.time())
        usual = {"sub": self.user, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 600}
        return {name: value for name, value in {**usual, **claims}.items() if value is not None}

    def by_hand(self, header, key: bytes = b"", claims=None, digest=hashlib.sha256) -> str:
        """A token with an HMAC of `key`, or without a signature. Header and claims that are bytes stay as they are."""

        def part(data):
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        signed = f"{part(header)}.{part(self.claims() if claims is None else claims)}"
        return f"{signed}.{part(hmac.digest(key, signed.encode(), digest) if key else b'')}"
