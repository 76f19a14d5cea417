//! What a route must say of itself: without it, whoever is another customer of the provider could send.

use crate::support::Builder;
use crate::support::gate::hookgate;

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
    let (code, confirms) = check(&format!("{route}, handshake: confirm"));
    assert_eq!(code, Some(0), "{confirms}");
    for (region, host) in [("eu-west-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")] {
        let topic = route.split('\'').find(|part| part.contains(region)).unwrap();
        let url = format!(
            "https://sns.{region}.{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token={{word}}"
        );
        assert!(confirms.contains(&url) && !said.contains(&url), "{url}: {confirms}");
    }
    for url in [
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{hex32}.pem",
        "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-{hex32}.pem",
    ] {
        assert!(said.contains(url), "{url}: {said}");
    }
}

/// What a fetch would have brought can be given as a file, so that a captured request is judged without a network.
#[test]
fn verify_takes_keys_as_files() {
    let all: serde_json::Value = serde_json::from_str(include_str!("../gate/fetched.json")).unwrap();
    let of = |id: &str| all.as_array().unwrap().iter().find(|vector| vector["id"] == id).unwrap().clone();
    for (id, route, code) in [
        (
            "sns-java2-subscription-confirmation-v1",
            "provider: aws-sns, topic_arns: CONFIG, handshake: confirm",
            0,
        ),
        ("sns-java2-notification-v2", "provider: aws-sns, topic_arns: CONFIG", 0),
        ("sns-tampered-message", "provider: aws-sns, topic_arns: CONFIG", 1),
        ("paypal-simulator-sale", "provider: paypal, webhook_id: WEBHOOK_ID", 0),
        ("truelayer-jwks", "provider: truelayer", 0),
        ("truelayer-jku-evil", "provider: truelayer", 1),
        ("turnkey-valid", "provider: turnkey", 0),
        ("github-secret-scanning-docs", "provider: github-secret-scanning", 0),
    ] {
        let vector = of(id);
        let route = route.replace("CONFIG", &vector["config"]["topic_arns"].to_string());
        let target = vector["url"].as_str().unwrap().splitn(4, '/').nth(3).unwrap().to_owned();
        let builder = Builder::new("http://127.0.0.1:1")
            .config(&format!("routes:\n  - {{ name: r, path: /{target}, {route} }}\n"));
        let dir = builder.dir();
        let mut raw = format!("POST /{target} HTTP/1.1\r\n");
        for (name, value) in vector["headers"].as_object().unwrap() {
            raw.extend([name, ": ", value.as_str().unwrap(), "\r\n"]);
        }
        raw.extend(["\r\n", vector["body"].as_str().unwrap()]);
        let request = dir.write("request", raw);
        let mut command = hookgate(&["verify", "-o", "json", "--route", "r"]);
        command.arg("--config").arg(dir.join("hookgate.yaml")).arg(&request);
        if let Some(now) = vector["now"].as_i64() {
            command.arg(format!("--now={now}"));
        }
        for (n, (url, text)) in vector["keys"].as_object().unwrap().iter().enumerate() {
            let file = dir.write(&format!("key-{n}"), text.as_str().unwrap());
            command.arg(format!("--key={url}={}", file.display()));
        }
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{id}: {told} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // What the gate would visit is what Amazon names, though it never reads that.
        if route.contains("confirm") {
            let body: serde_json::Value = serde_json::from_str(vector["body"].as_str().unwrap()).unwrap();
            let named = body["SubscribeURL"].as_str().unwrap();
            let named = named.replace(body["Token"].as_str().unwrap(), "{word}");
            assert!(named.ends_with("&Token={word}") && told.contains(&named), "{named}: {told}");
        }
    }
}

#[test]
fn verify_says_which_address_it_would_need() {
    let request = Builder::new("http://127.0.0.1:1");
    let file = request.dir().write(
        "request",
        "POST /hook HTTP/1.1\r\nGithub-Public-Key-Identifier: a\r\nGithub-Public-Key-Signature: MAYCAQECAQE=\r\n\r\n{}",
    );
    let output = hookgate(&["verify", "-o", "json", "--provider", "github-secret-scanning"])
        .arg(file)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("--key https://api.github.com/meta/public_keys/secret_scanning=FILE"), "{told}");
}
