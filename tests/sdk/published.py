"""Signs as TrueLayer does, with its own SDK, and asks Google's own library and PyJWT which tokens they take:

    python published.py sign SECONDS          prints deliveries, and what is published for them
    python published.py judge < tokens.json   prints for each judge true or false for each token

To be run by a Python in which the SDKs are installed.
"""

import base64
import json
import sys
from types import SimpleNamespace

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.oauth2 import id_token
from truelayer_signing import HttpMethod, sign_with_pem

KID = "45fc75cf-5649-4134-84b3-192c2c78e990"
ADDRESS = "https://webhooks.truelayer.com/.well-known/jwks"


def pair():
    key = ec.generate_private_key(ec.SECP521R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return key.public_key().public_numbers(), pem.decode()


def jwk(numbers):
    text = lambda number: base64.urlsafe_b64encode(number.to_bytes(66, "big")).rstrip(b"=").decode()
    return {"kty": "EC", "crv": "P-521", "alg": "ES512", "kid": KID, "x": text(numbers.x), "y": text(numbers.y)}


def sign(seconds):
    body = json.dumps({"type": "payment_executed", "event_id": f"event-{seconds}", "note": "ünïcode"})
    published, pem = pair()
    _, strange = pair()
    time = "2026-11-26T12:00:00Z"

    def signature(pem, path, body):
        signer = sign_with_pem(KID, pem).set_method(HttpMethod.POST).set_path(path)
        return signer.add_header("X-Tl-Webhook-Timestamp", time).set_body(body).set_jku(ADDRESS).sign()

    def headers(pem, path="/truelayer", body=body):
        return {"Tl-Signature": signature(pem, path, body), "X-Tl-Webhook-Timestamp": time}

    return [
        {
            "provider": "truelayer",
            "url": ADDRESS,
            "document": json.dumps({"keys": [jwk(published)]}),
            "body": body,
            "good": headers(pem),
            "strange": headers(strange),
            "other": headers(pem, path="/elsewhere"),
        }
    ]


def takes(judge, *asked):
    try:
        judge(*asked)
        return True
    except Exception:  # whatever it objects to
        return False


def judge(asked):
    certificates, keys, audience = asked["certificates"], asked["keys"], asked["audience"]
    answer = SimpleNamespace(status=200, data=json.dumps(certificates).encode(), headers={})

    def google(token):
        id_token.verify_oauth2_token(token, lambda *_, **__: answer, audience)

    def pyjwt(token):
        key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
        issuers = ["https://accounts.google.com", "accounts.google.com"]
        demanded = {"require": ["exp", "iat", "iss", "aud"]}
        jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=issuers, options=demanded)

    return {
        judge.__name__: [takes(judge, token) for token in asked["tokens"]] for judge in (google, pyjwt)
    }


what, *rest = sys.argv[1:]
print(json.dumps(sign(int(rest[0])) if what == "sign" else judge(json.load(sys.stdin))))
