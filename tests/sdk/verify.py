"""Asks each provider's own SDK whether it takes a delivery, as of one moment:

    python verify.py SECONDS < deliveries.json

Prints a JSON list of true and false.
"""

import json
import sys
import time
import urllib.parse

NOW = float(sys.argv[1])
time.time = lambda: NOW


def plivo_v2(d):
    from plivo.utils import validate_signature

    headers = d["headers"]
    signature = headers["x-plivo-signature-v2"]
    return validate_signature(d["url"], headers["x-plivo-signature-v2-nonce"], signature, d["secret"])


def plivo_v3(d):
    from plivo.utils.signature_v3 import validate_v3_signature

    headers = d["headers"]
    signature, nonce = headers["x-plivo-signature-v3"], headers["x-plivo-signature-v3-nonce"]
    fields = dict(urllib.parse.parse_qsl(d["body"]))
    url = d["url"] + (f"?{d['query']}" if d["query"] else "")
    return validate_v3_signature("POST", url, nonce, d["secret"], signature, fields)


def qstash(d):
    from qstash import Receiver

    receiver = Receiver(d["secret"], "another key")
    receiver.verify(signature=d["headers"]["upstash-signature"], body=d["body"], url=d["url"])
    return True


def razorpay(d):
    import razorpay

    client = razorpay.Client(auth=("key", "none"))
    signature = d["headers"]["x-razorpay-signature"]
    return client.utility.verify_webhook_signature(d["body"], signature, d["secret"])


def slack(d):
    from slack_sdk.signature import SignatureVerifier

    return SignatureVerifier(d["secret"]).is_valid_request(d["body"], d["headers"])


def plivo(d):
    return plivo_v2(d) if d["provider"] == "plivo-v2" else plivo_v3(d)


JUDGES = {"plivo": plivo, "qstash": qstash, "razorpay": razorpay, "slack_sdk": slack}


def takes(delivery):
    try:
        return bool(JUDGES[delivery["sdk"]](delivery))
    except Exception as error:  # whatever an SDK raises, it does not take the delivery
        print(f"{delivery['sdk']}: {error!r}", file=sys.stderr)
        return False


print(json.dumps([takes(delivery) for delivery in json.load(sys.stdin)]))
