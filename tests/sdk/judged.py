"""Asks the providers' own SDKs which deliveries they take, with keys and roots of the tests' own:

    python judged.py JUDGE < asked.json   prints true or false for each delivery

To be run by a Python in which the SDKs are installed.
"""

import json
import re
import sys
import warnings
from base64 import b64decode
from contextlib import redirect_stdout
from functools import partial
from io import BytesIO, StringIO
from types import SimpleNamespace


def paypal(given):
    import requests
    from paypalrestsdk.notifications import WebhookEvent

    # It fetches each certificate; its roots are two files that it brings along.
    requests.get = lambda url: SimpleNamespace(text=given["certificates"][url])
    WebhookEvent._WebhookEvent__cert_chain_path = given["roots"]

    def takes(headers, body):
        names = ("transmission-id", "transmission-time", "cert-url", "transmission-sig", "auth-algo")
        id, time, url, signature, algorithm = [headers["paypal-" + name] for name in names]
        return WebhookEvent.verify(id, time, given["webhook_id"], body, url, signature, algorithm)

    return takes


def apple(given):
    from appstoreserverlibrary.models.Environment import Environment
    from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier

    environment = Environment(given["environment"])
    verifier = SignedDataVerifier([b64decode(given["root"])], False, environment, given["bundle_id"], given["app_id"])

    def takes(headers, body):
        verifier.verify_and_decode_notification(json.loads(body)["signedPayload"])
        return True

    return takes


def with_oscrypto():
    """It looks for a version of three digits, which OpenSSL 3.0.22 has not."""
    search, theirs = re.search, r"\b(\d\.\d\.\d[a-z]*)\b"
    ours = r"\b(\d\.\d\.\d+[a-z]*)\b"
    re.search = lambda pattern, *given: search(ours if pattern == theirs else pattern, *given)
    import oscrypto.asymmetric

    re.search = search


def alexa(given):
    with_oscrypto()
    from ask_sdk_core.dispatch_components import AbstractRequestHandler
    from ask_sdk_core.skill_builder import SkillBuilder
    from ask_sdk_webservice_support import verifier
    from ask_sdk_webservice_support.webservice_handler import WebserviceSkillHandler
    from certvalidator import CertificateValidator, ValidationContext

    class Anything(AbstractRequestHandler):
        can_handle = lambda self, handler_input: True
        handle = lambda self, handler_input: handler_input.response_builder.response

    roots = ValidationContext(trust_roots=[given["root"].encode()])
    # It fetches each chain, and believes the roots of the machine.
    verifier.urlopen = lambda url: BytesIO(given["certificates"][url].encode())
    verifier.CertificateValidator = partial(CertificateValidator, validation_context=roots)
    skill = SkillBuilder()
    skill.skill_id = given["skill_id"]
    skill.add_request_handler(Anything())
    handler = WebserviceSkillHandler(skill.create())

    def takes(headers, body):
        handler.verify_request_and_dispatch(headers, body)
        return True

    return takes


def sns(given):
    with_oscrypto()
    from validatesns import validate

    def takes(headers, body):
        validate(json.loads(body), get_certificate=lambda url: given["certificate"])
        return True

    return takes


def told(takes, delivery):
    try:
        return takes(delivery["headers"], delivery["body"])
    except Exception:  # whatever it objects to
        return False


asked = json.load(sys.stdin)
warnings.simplefilter("ignore")  # some call what will be gone one day
with redirect_stdout(StringIO()):
    takes = globals()[sys.argv[1]](asked)
    answer = [told(takes, delivery) for delivery in asked["deliveries"]]
print(json.dumps(answer))
