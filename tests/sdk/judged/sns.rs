//! Amazon SNS, judged by a library of others.

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{judge, row, signed_by_openssl};
use crate::host::{KeyHost, Reply, Signer};
use crate::published::python;
use crate::support::{App, sender};
use hookgate::clock::to_rfc3339;

/// Of version 1, with SHA-1: it knows no other.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn of_messages_of_sns_the_gate_takes_what_validatesns_takes() {
    const CERTIFICATE: &str =
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
    let (Some(python), Some(host)) = (python(), KeyHost::new()) else { return };
    let (_, pem) = Signer::certified(&host.authority, "sns", "sns.amazonaws.com");
    Signer::certified(&host.authority, "strange", "sns.amazonaws.com");
    host.publish(CERTIFICATE, Reply::Document(pem.clone()));
    let app = App::ok();
    let route = "routes:\n  - { name: sns, path: /sns, provider: aws-sns, topic_arns: ['arn:aws:sns:us-east-1:123456789012:bounces'] }\n";
    let start = || host.before(&app.url(), route).start();

    let now = sender::now_ms();
    let message = |time: i64| {
        json!({
            "Type": "Notification", "MessageId": sender::unique("id"), "Message": "{\"a\":\"line\\nbreak \u{1f600}\"}",
            "TopicArn": "arn:aws:sns:us-east-1:123456789012:bounces", "Subject": "ünïcode", "Timestamp": to_rfc3339(time),
            "SignatureVersion": "1", "SigningCertURL": CERTIFICATE,
        })
    };
    let signed_by = |key: &str, digest: &str, mut message: Value| {
        let mut content = String::new();
        for name in
            ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        {
            if let Some(value) = message[name].as_str() {
                content.extend([name, "\n", value, "\n"]);
            }
        }
        message["Signature"] =
            BASE64.encode(&signed_by_openssl(&host.authority, key, digest, &content)).into();
        message
    };
    let sent = |message: Value| (Vec::new(), message.to_string());
    let good = || signed_by("sns", "sha1", message(now));
    let before = |change: &dyn Fn(&mut Value)| {
        let mut message = message(now);
        change(&mut message);
        sent(signed_by("sns", "sha1", message))
    };
    let with = |name: &str, value: &str| {
        let mut message = good();
        message[name] = value.into();
        sent(message)
    };
    let without = |name: &str| {
        let mut message = good();
        message.as_object_mut().unwrap().remove(name);
        sent(message)
    };
    let at = |time: i64| sent(signed_by("sns", "sha1", message(time)));
    let rows = [
        row("a notification", sent(good()), "accepted"),
        row("without a subject", before(&|m| _ = m.as_object_mut().unwrap().remove("Subject")), "accepted"),
        row("fifty minutes old", at(now - 3_000_000), "accepted"),
        row("another address to unsubscribe", with("UnsubscribeURL", "https://other.example/"), "accepted"),
        row(
            "a link that a notification has not",
            with("SubscribeURL", "https://other.example/"),
            "signature_mismatch",
        )
        .stricter("what is there of the fields that are signed is compared"),
        row(
            "the end of a subscription",
            before(&|m| {
                m["Type"] = "UnsubscribeConfirmation".into();
                m["Token"] = "t".into();
                m["SubscribeURL"] = "https://sns.us-east-1.amazonaws.com/".into();
                m.as_object_mut().unwrap().remove("Subject");
            }),
            "accepted",
        ),
        row("two hours old", at(now - 7_200_000), "timestamp_stale"),
        row("of tomorrow", at(now + 86_400_000), "timestamp_future")
            .stricter("a time of tomorrow would be good for a day"),
        row("another time", with("Timestamp", &to_rfc3339(now - 1000)), "signature_mismatch"),
        row("a time that is none", before(&|m| m["Timestamp"] = "now".into()), "timestamp_missing"),
        row("no time", without("Timestamp"), "signature_mismatch"),
        row("another message", with("Message", "x"), "signature_mismatch"),
        row("another id", with("MessageId", "x"), "signature_mismatch"),
        row("another subject", with("Subject", "x"), "signature_mismatch"),
        row("the subject taken away", without("Subject"), "signature_mismatch"),
        row(
            "another topic",
            with("TopicArn", "arn:aws:sns:us-east-1:123456789012:others"),
            "signature_mismatch",
        ),
        row(
            "another topic, signed",
            before(&|m| m["TopicArn"] = "arn:aws:sns:us-east-1:666666666666:bounces".into()),
            "signature_mismatch",
        )
        .stricter("anybody has messages signed for a topic of his own"),
        row("another type", with("Type", "SubscriptionConfirmation"), "signature_mismatch"),
        row("another type, signed", before(&|m| m["Type"] = "Else".into()), "signature_mismatch"),
        row("the newer version, of the older digest", with("SignatureVersion", "2"), "signature_mismatch"),
        row("an unknown version", with("SignatureVersion", "3"), "signature_mismatch"),
        row("no version", without("SignatureVersion"), "signature_mismatch"),
        row("the newer digest", sent(signed_by("sns", "sha256", message(now))), "signature_mismatch"),
        row("another key", sent(signed_by("strange", "sha1", message(now))), "signature_mismatch"),
        row("no signature", without("Signature"), "signature_missing"),
        row("no certificate", without("SigningCertURL"), "signature_mismatch"),
        row(
            "a certificate without TLS",
            with("SigningCertURL", &CERTIFICATE.replace("https", "http")),
            "signature_mismatch",
        ),
        row(
            "a certificate at another host",
            with("SigningCertURL", &CERTIFICATE.replace(".com", ".com.evil.example")),
            "signature_mismatch",
        ),
        row(
            "a certificate of another region",
            with("SigningCertURL", &CERTIFICATE.replace("us-east-1", "eu-west-1")),
            "signature_mismatch",
        )
        .stricter("a topic's messages are signed in its own region"),
        row(
            "an answer in place of a file",
            with("SigningCertURL", "https://sns.us-east-1.amazonaws.com/?x=.pem"),
            "signature_mismatch",
        )
        .stricter("a certificate has a name of one form"),
    ];
    judge(python, "validatesns", "sns", json!({ "certificate": pem }), &start, &rows);
}
