"""Signs one event of each provider with the provider's own SDK, as of one moment:

    python sign.py SECONDS [ORIGIN [ATTEMPT]]

Prints a JSON list of deliveries; `tampered` is the same body after somebody has changed what is signed.
A later attempt is the same event, signed at that moment, with what its provider changes in it.
"""

import base64
import importlib.metadata
import json
import sys
import time
import urllib.parse

NOW = int(sys.argv[1])
ORIGIN = sys.argv[2] if len(sys.argv) > 2 else "https://hooks.example.com"
ATTEMPT = int(sys.argv[3]) if len(sys.argv) > 3 else 1
time.time = lambda: float(NOW)  # some SDKs read the clock themselves

SECRET = "a secret that is only good for this test"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
deliveries = []


def signed(package, provider, call, body, headers, **more):
    sdk = f"{package} {importlib.metadata.version(package)} (PyPI): {call}"
    # A body holds the word `genuine`, which somebody on the way makes `altered`.
    tampered = body.replace("genuine", "altered")
    delivery = {"provider": provider, "sdk": sdk, "secret": SECRET, "method": "POST", "headers": headers}
    deliveries.append({**delivery, "body": body, "tampered": tampered, **more})


def event(**more):
    return json.dumps({**more, "note": "genuine, größer"}, ensure_ascii=False)


def slack():
    from slack_sdk.signature import SignatureVerifier

    body = event(type="event_callback", event_id="Ev1")
    signature = SignatureVerifier(SECRET).generate_signature(timestamp=str(NOW), body=body)
    headers = {"X-Slack-Request-Timestamp": str(NOW), "X-Slack-Signature": signature}
    if ATTEMPT > 1:
        headers |= {"X-Slack-Retry-Num": str(ATTEMPT - 1), "X-Slack-Retry-Reason": "http_error"}
    signed("slack_sdk", "slack", "SignatureVerifier.generate_signature", body, headers)


def twilio():
    from twilio.request_validator import RequestValidator

    url = f"{ORIGIN}/hooks/twilio-sharedkey"
    fields = {"CallSid": "CA1", "Note": "genuine & größer"}
    signature = RequestValidator(SECRET).compute_signature(url, fields, algorithm="HMAC_SHA256")
    headers = {**FORM, "X-Twilio-Signature": signature}
    headers["X-Twilio-Webhooks-Signature-Settings"] = "key=test,algorithm=HMAC_SHA256"
    call = "RequestValidator.compute_signature, HMAC_SHA256"
    signed("twilio", "twilio-sharedkey", call, urllib.parse.urlencode(fields), headers, url=url)


def braintree():
    import braintree

    gateway = braintree.BraintreeGateway(
        braintree.Configuration(braintree.Environment.Sandbox, "merchant", "public_key", SECRET)
    )
    sample = gateway.webhook_testing.sample_notification("subscription_went_past_due", "genuine")
    payload = sample["bt_payload"]
    payload = payload.decode() if isinstance(payload, bytes) else payload
    other = base64.encodebytes(base64.b64decode(payload).replace(b"genuine", b"altered")).decode()
    body = urllib.parse.urlencode({"bt_signature": sample["bt_signature"], "bt_payload": payload})
    tampered = urllib.parse.urlencode({"bt_signature": sample["bt_signature"], "bt_payload": other})
    call = "webhook_testing.sample_notification"
    signed("braintree", "braintree", call, body, FORM, tampered=tampered)


def modern_treasury():
    import modern_treasury

    client = modern_treasury.ModernTreasury(api_key="none", organization_id="none")
    body = event(event="created", data={"id": "d1"})
    headers = {"X-Signature": client.webhooks.get_signature(body, key=SECRET), "X-Topic": "payment_order"}
    signed("modern-treasury", "modern-treasury", "webhooks.get_signature", body, headers)


def mollie():
    from mollie.utils.webhooks.signature_validator import SignatureValidator

    body = event(resource="event", id="event_1", type="payment-link.paid")
    signature = SignatureValidator.create_signature(body, SECRET)
    headers = {"X-Mollie-Signature": f"sha256={signature.removeprefix('sha256=')}"}
    signed("mollie-api-py", "mollie", "SignatureValidator.create_signature", body, headers)


def box():
    from box_sdk_gen.internal.utils import compute_webhook_signature

    body = json.dumps({"type": "webhook_event", "id": "w1", "trigger": "FILE.UPLOADED", "note": "genuine"})
    headers = {
        "BOX-DELIVERY-ID": "d1",
        "BOX-DELIVERY-TIMESTAMP": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(NOW)),
        "BOX-SIGNATURE-ALGORITHM": "HmacSHA256",
        "BOX-SIGNATURE-VERSION": "1",
    }
    lower = {name.lower(): value for name, value in headers.items()}
    headers["BOX-SIGNATURE-PRIMARY"] = compute_webhook_signature(body, lower, SECRET)
    signed("box-sdk-gen", "box", "compute_webhook_signature", body, headers)


for sign in (slack, twilio, braintree, modern_treasury, mollie, box):
    sign()
print(json.dumps(deliveries))
