//! Apple: tokens with the chain of their key within.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{b64, judge, row};
use crate::host::Signer;
use crate::published::python;
use crate::support::{App, Builder, sender};
use crate::tls::Authority;

/// A certificate of a request that there is, with these extensions; in base64 of DER.
fn certified(
    authority: &Authority,
    request: &str,
    file: &str,
    issuer: &str,
    days: i32,
    extensions: &str,
) -> String {
    let at = |name: String| authority.root().with_file_name(name);
    let identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    std::fs::write(at("extensions".to_owned()), format!("{identifiers}{extensions}")).unwrap();
    authority.openssl(&format!(
        "x509 -req -in {request}.csr -CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial -days {days} -extfile extensions -out {file}.crt"
    ));
    base64_of(&std::fs::read_to_string(at(format!("{file}.crt"))).unwrap())
}

fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

/// A gate has Apple's own root pinned: here the words of the preset stand in the route, under a root of the test's.
///
/// The library judges certificates by the clock where it may ask Apple about them, as the gate does, and here, where
/// it may not, by the time that is signed: they are the same time. In production it wants to know the app's number as
/// well; the bundle's id, which both compare, says which app it is.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn of_notifications_of_apple_the_gate_takes_what_apples_library_takes() {
    const BUNDLE: &str = "com.example.app";
    const LEAF: &str = "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\n1.2.840.113635.100.6.11.1=DER:0500\n";
    const ISSUER: &str = "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n1.2.840.113635.100.6.2.1=DER:0500\n";
    let (Some(python), Some(authority)) = (python(), Authority::new()) else { return };
    let at = |name: &str| authority.root().with_file_name(name);
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for root in ["root", "stranger"] {
        authority.openssl(&format!(
            "req -x509 {new_key} -keyout {root}.key -out {root}.crt -days 30 -subj /CN=root -addext keyUsage=critical,keyCertSign,cRLSign"
        ));
    }
    for name in ["issuer", "leaf", "other"] {
        authority.openssl(&format!("req -new {new_key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
    }
    let root_pem = std::fs::read_to_string(at("root.crt")).unwrap();
    let root = base64_of(&root_pem);
    let of = |request: &str, file: &str, issuer: &str, extensions: &str| {
        certified(&authority, request, file, issuer, 30, extensions)
    };
    let issuer = of("issuer", "issuer", "root", ISSUER);
    let leaf = of("leaf", "leaf", "issuer", LEAF);
    let without = |extensions: &str, word: &str| -> String {
        extensions.split_inclusive('\n').filter(|line| !line.starts_with(word)).collect()
    };
    let unmarked = of("leaf", "unmarked", "issuer", &without(LEAF, "1.2"));
    let critical = of("leaf", "critical", "issuer", &format!("{LEAF}1.2.3.4=critical,DER:0500\n"));
    let no_signer = of("leaf", "no_signer", "issuer", &LEAF.replace("digitalSignature", "keyAgreement"));
    let marked = of("leaf", "marked", "issuer", &LEAF.replace("=DER", "=critical,DER"));
    let ended = certified(&authority, "leaf", "ended", "issuer", -1, LEAF);
    let of_root = of("leaf", "of_root", "root", LEAF);
    // Other certificates for the same issuer, so that what it has signed is still its own.
    let unmarked_issuer = of("issuer", "unmarked_issuer", "root", &without(ISSUER, "1.2"));
    let no_authority = of(
        "issuer",
        "no_authority",
        "root",
        &ISSUER.replace("CA:true,pathlen:0", "CA:false").replace("keyCertSign,cRLSign", "digitalSignature"),
    );
    let no_usage = of("issuer", "no_usage", "root", &ISSUER.replace("keyCertSign,", ""));
    let critical_issuer =
        of("issuer", "critical_issuer", "root", &format!("{ISSUER}1.2.3.4=critical,DER:0500\n"));
    let ended_issuer = certified(&authority, "issuer", "ended_issuer", "root", -1, ISSUER);
    let strange_issuer = of("issuer", "strange_issuer", "stranger", ISSUER);
    let strange_root = base64_of(&std::fs::read_to_string(at("stranger.crt")).unwrap());

    let preset = std::fs::read_to_string("conf/providers/apple-app-store.yaml").unwrap();
    let (_, scheme) = preset.split_once("schemes:\n  - ").unwrap();
    let (before, block) = scheme.split_once("-----BEGIN").unwrap();
    let (_, after) = block.split_once("END CERTIFICATE-----\n").unwrap();
    let pem = root_pem.trim_end().replace('\n', "\n          ");
    let scheme = format!("{before}{pem}\n{after}").replace("\n    ", "\n      ");
    let scheme = scheme.replace("{route:bundle_id}", BUNDLE).replace("{route:environment}", "Production");
    let yaml = format!("routes:\n  - name: apple\n    path: /apple\n    scheme:\n      {scheme}");
    let app = App::ok();
    let start = || {
        let builder = Builder::new(&app.url()).without("provider").without("secret-file");
        builder.with_file("config", "hookgate.yaml", &yaml).start()
    };

    let signer = |name: &str| {
        let file = PrivateKeyDer::from_pem_file(at(&format!("{name}.key"))).unwrap();
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, file.secret_der(), &random);
        Signer::P256(Box::new(pair.unwrap()))
    };
    let (key, other) = (signer("leaf"), signer("other"));
    let now = sender::now_ms();
    let told = |within: &str| {
        json!({
            "notificationType": "DID_RENEW", "notificationUUID": sender::unique("n"), "version": "2.0", "signedDate": now,
            within: { "bundleId": BUNDLE, "environment": "Production", "appAppleId": 1, "bundleVersion": "ünïcode" },
        })
    };
    let with = |place: &str, value: Value| {
        let mut told = told("data");
        *told.pointer_mut(place).unwrap() = value;
        told
    };
    let token = |key: &Signer, header: &Value, told: &Value| {
        let text = format!("{}.{}", b64(header.to_string()), b64(told.to_string()));
        format!("{text}.{}", b64(key.sign(text.as_bytes())))
    };
    let sent = |token: String| (Vec::new(), json!({ "signedPayload": token }).to_string());
    let header = |chain: &[&String]| json!({ "alg": "ES256", "x5c": chain });
    let full = header(&[&leaf, &issuer, &root]);
    let says = |told: Value| sent(token(&key, &full, &told));
    let shows = |chain: &[&String]| sent(token(&key, &header(chain), &told("data")));
    let reshaped = |change: &dyn Fn([&str; 3]) -> String| {
        let good = token(&key, &full, &told("data"));
        let mut parts = good.split('.');
        sent(change([(); 3].map(|()| parts.next().unwrap())))
    };
    let under = |name: &str, value: Value| {
        let mut header = full.clone();
        header[name] = value;
        sent(token(&key, &header, &told("data")))
    };
    let purchase = {
        let mut told = told("externalPurchaseToken");
        told["externalPurchaseToken"]["externalPurchaseId"] = "purchase".into();
        told["externalPurchaseToken"].as_object_mut().unwrap().remove("environment");
        told
    };
    let rows = [
        row("a notification", says(told("data")), "accepted"),
        row("a summary", says(told("summary")), "accepted"),
        row("one of the app", says(told("appData")), "accepted"),
        row("the root of others in the token", shows(&[&leaf, &issuer, &strange_root]), "accepted"),
        row("a purchase elsewhere", says(purchase), "signature_mismatch")
            .stricter("it names no environment, which the route demands"),
        row("another app", says(with("/data/bundleId", json!("com.example.other"))), "signature_mismatch"),
        row("no app", says(with("/data/bundleId", Value::Null)), "signature_mismatch"),
        row("the sandbox", says(with("/data/environment", json!("Sandbox"))), "signature_mismatch"),
        row("no environment", says(with("/data/environment", Value::Null)), "signature_mismatch"),
        row(
            "of the application's own tests",
            says(with("/data/environment", json!("Xcode"))),
            "signature_mismatch",
        ),
        row(
            "nothing told",
            says(json!({ "notificationUUID": "n", "signedDate": now })),
            "signature_mismatch",
        ),
        row(
            "another payload",
            reshaped(&|[head, _, tag]| format!("{head}.{}.{tag}", b64(told("data").to_string()))),
            "signature_mismatch",
        ),
        row("another key", sent(token(&other, &full, &told("data"))), "signature_mismatch"),
        row(
            "no signature in it",
            reshaped(&|[head, told, _]| format!("{head}.{told}.")),
            "signature_malformed",
        ),
        row(
            "a signature cut short",
            reshaped(&|[head, told, tag]| format!("{head}.{told}.{}", &tag[4..])),
            "signature_malformed",
        ),
        row("two parts", reshaped(&|[head, told, _]| format!("{head}.{told}")), "signature_malformed"),
        row("no algorithm", under("alg", json!("none")), "signature_malformed"),
        row("another algorithm", under("alg", json!("ES384")), "signature_malformed"),
        row("a secret's", under("alg", json!("HS256")), "signature_malformed"),
        row("no chain", under("x5c", Value::Null), "signature_mismatch"),
        row("a chain that is no list", under("x5c", json!(leaf)), "signature_mismatch"),
        row("a chain of two", shows(&[&leaf, &issuer]), "signature_mismatch"),
        row("a chain of four", shows(&[&leaf, &issuer, &root, &root]), "signature_mismatch"),
        row("a chain of one", shows(&[&leaf]), "signature_mismatch"),
        row("a chain in another order", shows(&[&issuer, &leaf, &root]), "signature_mismatch"),
        row("a chain to another root", shows(&[&leaf, &strange_issuer, &strange_root]), "signature_mismatch"),
        row(
            "an issuer of another root beside ours",
            shows(&[&leaf, &strange_issuer, &root]),
            "signature_mismatch",
        ),
        row("a leaf of the root itself", shows(&[&of_root, &issuer, &root]), "signature_mismatch"),
        row("a leaf for something else", shows(&[&unmarked, &issuer, &root]), "signature_mismatch"),
        row("an issuer for something else", shows(&[&leaf, &unmarked_issuer, &root]), "signature_mismatch"),
        row("an issuer that is no authority", shows(&[&leaf, &no_authority, &root]), "signature_mismatch"),
        row("an issuer that signs no certificates", shows(&[&leaf, &no_usage, &root]), "signature_mismatch"),
        row("a mark that matters", shows(&[&marked, &issuer, &root]), "signature_mismatch"),
        row(
            "a leaf whose key is not for signatures",
            shows(&[&no_signer, &issuer, &root]),
            "signature_mismatch",
        )
        .stricter("RFC 5280, section 4.2.1.3"),
        row("a leaf that has ended", shows(&[&ended, &issuer, &root]), "signature_mismatch"),
        row("an issuer that has ended", shows(&[&leaf, &ended_issuer, &root]), "signature_mismatch"),
        row(
            "a leaf with something unknown that matters",
            shows(&[&critical, &issuer, &root]),
            "signature_mismatch",
        ),
        row(
            "an issuer with something unknown that matters",
            shows(&[&leaf, &critical_issuer, &root]),
            "signature_mismatch",
        ),
        row("no token", (Vec::new(), "{}".to_owned()), "signature_missing"),
    ];
    let given = json!({ "root": root, "environment": "Production", "bundle_id": BUNDLE, "app_id": 1 });
    judge(python, "app-store-server-library", "apple", given, &start, &rows);
}
