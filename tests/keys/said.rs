//! What a route must say of itself: without it, whoever is another customer of the provider could send.

use crate::support::Builder;

/// What `check` says of a route, and how it ended.
fn check(route: &str) -> (Option<i32>, String) {
    let builder = Builder::new("http://127.0.0.1:1")
        .config(&format!("routes:\n  - {{ name: r, path: /hook, {route} }}\n"));
    builder.dir().write("key", "an-api-key-of-ours");
    let output = builder.command("check").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn what_binds_a_key_to_its_route_is_demanded() {
    for (route, says) in [
        ("provider: aws-sns", "topic_arns: is missing: write topic_arns: arn:aws:sns:eu-west-1"),
        ("provider: aws-sns, topic_arns: []", "topic_arns: is empty"),
        ("provider: aws-sns, topic_arns: ['arn:aws:sns:eu-west-1:1:x']", "not of the form"),
        ("provider: aws-sns, topic_arns: ['arn:aws:sns:evil.example/:123456789012:x']", "not of the form"),
        ("provider: aws-sns, topic_arns: ['arn:aws:sqs:eu-west-1:123456789012:x']", "not of the form"),
        ("provider: google-pubsub, audience: a", "service_account: is missing"),
        ("provider: google-pubsub, service_account: a@b.c", "audience: is missing"),
        ("provider: google-pubsub, audience: a, service_account: everybody", "not of the form"),
        ("provider: paypal", "webhook_id: is missing"),
        ("provider: apple-app-store, environment: Production", "bundle_id: is missing"),
        ("provider: apple-app-store, bundle_id: a.b", "environment: is missing"),
        ("provider: apple-app-store, bundle_id: a.b, environment: Xcode", "is none of Production, Sandbox"),
        ("provider: saleor, api_url: 'http://a.example/'", "not of the form"),
        ("provider: circle, environment: production", "credentials: is missing"),
        ("provider: circle, environment: production, credentials: { api_key: DIR/none }", "none"),
        (
            "provider: ebay, environment: production, credentials: { client_id: DIR/key }",
            "client_secret is missing",
        ),
        (
            "provider: google-pubsub, audience: a, service_account: a@b.c, topic_arns: ['x']",
            "this provider needs none",
        ),
        (
            "provider: google-pubsub, audience: a, service_account: a@b.c, secrets: [{ file: DIR/key-1 }]",
            "leave secrets out",
        ),
        ("provider: github, secrets: [{ file: DIR/key-1 }], audience: a", "this provider needs none"),
        (
            "scheme: { algorithm: rsa-sha256, signature: { from: 'header:A', format: jwt }, signs_body: false, keys: { jwks: 'http://a.example/' } }",
            "HTTPS only",
        ),
        (
            "scheme: { algorithm: hmac-sha256, signature: { from: 'header:A', format: jwt }, signs_body: false, keys: { jwks: 'https://a.example/' } }",
            "public keys",
        ),
        (
            "scheme: { algorithm: rsa-sha256, signature: { from: 'header:A', format: jwt }, signs_body: false, keys: {} }",
            "say where the keys are published",
        ),
    ] {
        let (code, said) = check(route);
        assert_eq!(code, Some(78), "{route}: {said}");
        assert!(said.contains(says), "{route}: {said}");
    }
}

#[test]
fn check_tells_what_would_be_fetched() {
    let route = "provider: aws-sns, topic_arns: ['arn:aws:sns:eu-west-1:123456789012:a', 'arn:aws:sns:cn-north-1:123456789012:b']";
    let (code, said) = check(route);
    assert_eq!(code, Some(0), "{said}");
    for url in [
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{hex32}.pem",
        "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-{hex32}.pem",
    ] {
        assert!(said.contains(url), "{url}: {said}");
    }
}
