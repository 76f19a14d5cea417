//! What somebody on the way does to a delivery who has seen others and knows no key.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::pure::Delivery;
use crate::rng::Rng;
use crate::senders::{FORM, MULTIPART, Sender, sources};
use hookgate::gate::scheme::Recipe;
use hookgate::gate::scheme::content::Segment;
use hookgate::gate::scheme::source::Source;

/// The delivery with one to three changes.
pub fn changed(genuine: &Delivery, sender: &Sender, rng: &mut Rng) -> Delivery {
    let mut delivery = genuine.clone();
    for _ in 0..*rng.pick(&[1, 1, 1, 2, 3]) {
        match rng.below(24) {
            0 => change_bytes(&mut delivery.body, rng),
            1..4 => change_header(&mut delivery, rng),
            4 | 5 => other_family(&mut delivery, sender, rng),
            6 | 7 => content_type(&mut delivery, rng),
            8..11 => query(&mut delivery, sender, rng),
            11..14 => form(&mut delivery, rng),
            14 | 15 => json(&mut delivery, rng),
            16 => length(&mut delivery, rng),
            17 => delivery.method = rng.pick(&sender.methods).clone(),
            18 => delivery.path = (*rng.pick(&["/", "/hooks", "/hooks/", "/%2e", "/a;b"])).to_owned(),
            19..22 => move_bytes(&mut delivery, sender, rng),
            22 => extra_header(&mut delivery, sender, rng),
            _ => splice(&mut delivery, sender, rng),
        }
    }
    delivery
}

fn change_bytes(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.is_empty() {
        return bytes.push(*rng.pick(b"{x &="));
    }
    let (at, other) = (rng.below(bytes.len()), rng.below(bytes.len()));
    let (from, to) = (at.min(other), at.max(other));
    match rng.below(9) {
        0 | 1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes.insert(at, *rng.pick(b"\r\n\0 \t,=:\"{}&.;")),
        3 => _ = bytes.remove(at),
        4 => bytes.truncate(at),
        5 => bytes.swap(at, other),
        6 => {
            let copy = bytes[from..to].to_vec();
            bytes.splice(to..to, copy);
        }
        7 => _ = bytes.drain(from..to),
        _ => match bytes.iter().position(u8::is_ascii_alphabetic) {
            Some(letter) => bytes[letter] ^= 0x20,
            None => bytes.push(b'\n'),
        },
    }
}

fn header(delivery: &Delivery, rng: &mut Rng) -> Option<(HeaderName, Vec<u8>)> {
    let names: Vec<_> = delivery.headers.keys().collect();
    let name = *names.get(rng.below(names.len().max(1)))?;
    Some((name.clone(), delivery.headers[name].as_bytes().to_vec()))
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value.trim_ascii()) {
        headers.insert(name, value);
    }
}

fn change_header(delivery: &mut Delivery, rng: &mut Rng) {
    let Some((name, mut value)) = header(delivery, rng) else { return };
    match rng.below(8) {
        0 | 1 => change_bytes(&mut value, rng),
        2 => {
            delivery.headers.remove(&name);
            return;
        }
        3 => {
            delivery.headers.append(&name, delivery.headers[&name].clone());
            return;
        }
        4 => {
            let between = rng.pick(&[",", " ", ", ", ";", "&"]).as_bytes();
            value = [&value, between, &value].concat();
        }
        5 => value.make_ascii_uppercase(),
        6 => {
            // Junk before and behind, as in a list of several signatures.
            const JUNK: &[&[u8]] = &[b"", b"v0=00,", b",v2=00", b"v1,AAAA ", b" v1,AAAA", b"t=1,", b" t=1"];
            value = [*rng.pick(JUNK), &value, *rng.pick(JUNK)].concat();
        }
        _ => value.extend(rng.pick(&[&b"="[..], b" ", b"0", b"\t"]).iter()),
    }
    set(&mut delivery.headers, &name, &value);
}

/// Shows what one scheme reads where another scheme of the same sender reads it.
fn other_family(delivery: &mut Delivery, sender: &Sender, rng: &mut Rng) {
    let (one, other) = (rng.pick(&sender.recipes), rng.pick(&sender.recipes));
    let keep = rng.chance(40);
    let headers = |recipe: &Recipe| -> Vec<HeaderName> {
        let mut all: Vec<HeaderName> = Vec::new();
        for source in recipe.signature.from.iter().chain(sources(recipe)) {
            match source {
                Source::Header(name) if !all.contains(name) => all.push(name.clone()),
                _ => {}
            }
        }
        all
    };
    for (from, to) in headers(one).iter().zip(&headers(other)) {
        if let Some(value) = delivery.headers.get(from).cloned() {
            if !keep {
                delivery.headers.remove(from);
            }
            delivery.headers.insert(to, value);
        }
    }
    // One family less.
    if rng.chance(30) {
        for name in headers(one) {
            delivery.headers.remove(name);
        }
    }
}

fn content_type(delivery: &mut Delivery, rng: &mut Rng) {
    let kind = *rng.pick(&[
        FORM,
        FORM,
        "application/json",
        "text/plain",
        MULTIPART,
        "application/x-www-form-urlencoded; charset=utf-8",
        "APPLICATION/X-WWW-FORM-URLENCODED",
        "application/x-www-form-urlencoded,x",
        "",
    ]);
    let kind = HeaderValue::from_static(kind);
    match rng.below(6) {
        0 => _ = delivery.headers.remove(CONTENT_TYPE),
        1 => _ = delivery.headers.append(CONTENT_TYPE, kind),
        _ => _ = delivery.headers.insert(CONTENT_TYPE, kind),
    }
}

fn query(delivery: &mut Delivery, sender: &Sender, rng: &mut Rng) {
    let mut query = delivery.query.clone().unwrap_or_default().into_bytes();
    match rng.below(4) {
        0 => {
            let named = sender.recipes.iter().flat_map(sources).filter_map(|source| match source {
                Source::Query(name) | Source::Form(name) => Some(&**name),
                _ => None,
            });
            let all: Vec<_> = named.chain(["a", "bodySHA256"]).collect();
            let pair = format!("{}=1", rng.pick(&all));
            query = if rng.chance(50) {
                [pair.as_bytes(), b"&", &query].concat()
            } else {
                [&query, &b"&"[..], pair.as_bytes()].concat()
            };
        }
        1 => change_bytes(&mut query, rng),
        2 => {
            delivery.query = match delivery.query {
                None => Some(String::new()),
                Some(_) => None,
            };
            return;
        }
        _ => change_pairs(&mut query, rng),
    }
    // What a request line can hold.
    query.retain(|b| b.is_ascii_graphic() && *b != b'#');
    delivery.query = String::from_utf8(query).ok();
}

fn form(delivery: &mut Delivery, rng: &mut Rng) {
    match rng.below(5) {
        // From the query to the form and back.
        0 => {
            let mut pairs: Vec<_> =
                delivery.query.as_deref().unwrap_or_default().split('&').map(str::to_owned).collect();
            let moved = pairs.swap_remove(rng.below(pairs.len()));
            delivery.query = (!pairs.is_empty()).then(|| pairs.join("&"));
            let between = if delivery.body.is_empty() { "" } else { "&" };
            delivery.body.extend(format!("{between}{moved}").bytes());
            if rng.chance(70) {
                delivery.headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
            }
        }
        1 => {
            let body = std::mem::take(&mut delivery.body);
            let text: String =
                body.iter().filter(|b| b.is_ascii_graphic() && **b != b'#').map(|b| char::from(*b)).collect();
            let query = delivery.query.take().filter(|query| !query.is_empty()).map(|query| query + "&");
            delivery.query = Some(query.unwrap_or_default() + &text);
        }
        _ => change_pairs(&mut delivery.body, rng),
    }
}

/// Writes fields in another way, or other fields in the same bytes.
fn change_pairs(text: &mut Vec<u8>, rng: &mut Rng) {
    let mut pairs: Vec<_> = text.split(|b| *b == b'&').map(<[u8]>::to_vec).collect();
    let at = rng.below(pairs.len());
    match rng.below(10) {
        0 => {
            let other = rng.below(pairs.len());
            pairs.swap(at, other);
        }
        1 => pairs.push(pairs[at].clone()),
        2 => pairs.insert(at, Vec::new()),
        3 => pairs = vec![pairs.concat()],
        4 => {
            // The assignment moves by one byte.
            if let Some(eq) = pairs[at].iter().position(|b| *b == b'=').filter(|eq| *eq > 0) {
                pairs[at].swap(eq, eq - 1);
            }
        }
        5 => {
            // An escape for what needs none.
            if let Some(n) = pairs[at].iter().position(u8::is_ascii_alphanumeric) {
                let byte = pairs[at][n];
                pairs[at].splice(n..=n, format!("%{byte:02x}").bytes());
            }
        }
        6 => {
            // What parts fields becomes a part of one.
            let escape = *rng.pick(&["%26", "%3D", "_"]);
            let joined = pairs.join(&b'&');
            if let Some(n) = joined.iter().position(|b| matches!(b, b'&' | b'=')) {
                let mut joined = joined;
                joined.splice(n..=n, escape.bytes());
                pairs = vec![joined];
            }
        }
        7 => {
            let fields = if rng.chance(50) { 1024 } else { 1023 };
            pairs.extend((0..fields).map(|_| b"z=".to_vec()));
        }
        8 => {
            let text = String::from_utf8_lossy(&pairs[at]).replace("%20", "+").replace("%26", "&");
            pairs[at] = text.into_bytes();
        }
        _ => pairs[at].extend(rng.pick(&[&b"%"[..], b"%zz", b"%C3%A9", b"%00", b"+"]).iter()),
    }
    *text = pairs.join(&b'&');
}

fn json(delivery: &mut Delivery, rng: &mut Rng) {
    let text = String::from_utf8_lossy(&delivery.body).into_owned();
    let text = match rng.below(8) {
        0 => text.replacen('{', "{ ", 1),
        1 => text.replacen('"', "\"\\u0061\":1,\"", 1),
        2 => text.replacen("\"id\"", "\"\\u0069d\"", 1),
        3 => text.replacen("\"id\":", "\"id\":\"other\",\"id\":", 1),
        4 => format!("[{text}]"),
        5 => format!("{text} "),
        6 => text.replacen('}', "", 1),
        _ => format!("\u{feff}{text}"),
    };
    delivery.body = text.into_bytes();
}

fn length(delivery: &mut Delivery, rng: &mut Rng) {
    match rng.below(4) {
        0 => delivery.body.clear(),
        1 => delivery.body.push(b'\n'),
        2 => delivery.content_length = None,
        _ => {}
    }
    delivery.content_length = rng.chance(50).then_some(delivery.body.len() as u64);
}

/// From one of the places whose contents are signed side by side to another one.
fn move_bytes(delivery: &mut Delivery, sender: &Sender, rng: &mut Rng) {
    let Some((name, mut value)) = header(delivery, rng) else { return };
    let few = rng.within(1..6);
    match rng.below(9) {
        0 => {
            let tail = value.split_off(value.len().saturating_sub(few));
            delivery.body.splice(0..0, tail);
        }
        1 => value.extend(delivery.body.drain(..few.min(delivery.body.len()))),
        2 => {
            let keep = delivery.body.len().saturating_sub(few);
            value.splice(0..0, delivery.body.split_off(keep));
        }
        3 => {
            let Some((other, mut second)) = header(delivery, rng).filter(|(other, _)| *other != name) else {
                return;
            };
            second.extend(value.drain(..few.min(value.len())));
            set(&mut delivery.headers, &other, &second);
        }
        // The text that parts them moves: the value ends with the next such byte of the body.
        4..7 => {
            let mut text = b".".to_vec();
            for segment in rng.pick(&sender.recipes).content.segments() {
                if let Segment::Literal(literal) = segment {
                    text.extend(literal);
                }
            }
            let parts = *rng.pick(&text);
            if let Some(at) = delivery.body.iter().position(|b| *b == parts) {
                let body = delivery.body.split_off(at + 1);
                value.push(parts);
                value.extend_from_slice(&delivery.body[..at]);
                delivery.body = body;
            }
        }
        7 => {
            // A value that may be absent, and the text around it, begins the body.
            let (before, after) = *rng.pick(&[
                ("a:", ";"),
                ("b=", "&"),
                ("", "."),
                (".", ""),
                ("id:", ";"),
                ("request-id:", ";"),
            ]);
            delivery.headers.remove(&name);
            let text = [before.as_bytes(), &value, after.as_bytes()].concat();
            delivery.body.splice(0..0, text);
            return;
        }
        _ => {
            let mut query = delivery.query.take().unwrap_or_default();
            let at = query.len().saturating_sub(few);
            delivery.body.splice(0..0, query.split_off(at).into_bytes());
            delivery.query = Some(query);
            return;
        }
    }
    if value.is_empty() {
        delivery.headers.remove(&name);
    } else {
        set(&mut delivery.headers, &name, &value);
    }
}

fn extra_header(delivery: &mut Delivery, sender: &Sender, rng: &mut Rng) {
    let named =
        sender.recipes.iter().flat_map(|recipe| sources(recipe).chain(&recipe.id)).filter_map(|source| {
            match source {
                Source::Header(name) => Some(name.clone()),
                _ => None,
            }
        });
    let all: Vec<_> =
        named.chain(["x-other", "x-listed", "webhook-id"].map(HeaderName::from_static)).collect();
    let name = rng.pick(&all);
    if rng.chance(80) {
        delivery.headers.entry(name).or_insert(HeaderValue::from_static("1"));
    } else {
        delivery.headers.append(name, HeaderValue::from_static("1"));
    }
}

/// Something of another genuine delivery.
fn splice(delivery: &mut Delivery, sender: &Sender, rng: &mut Rng) {
    let Some(donor) = sender.genuine(rng) else { return };
    match rng.below(5) {
        0 => delivery.body = donor.body,
        1 => delivery.query = donor.query,
        2 => {
            if let Some((name, value)) = header(&donor, rng) {
                set(&mut delivery.headers, &name, &value);
            }
        }
        3 => delivery.body.extend(donor.body),
        _ => {
            for (name, value) in &donor.headers {
                delivery.headers.entry(name).or_insert(value.clone());
            }
        }
    }
}
