//! What is accepted was signed: the law of `tests/laws`, searched edit by edit.

#[allow(dead_code, reason = "a part of it; `gate` shows what nobody uses")]
#[path = "../../support/pure.rs"]
mod pure;
#[path = "../../laws/reader.rs"]
mod reader;
#[path = "../../support/rng.rs"]
#[allow(dead_code, reason = "the edits decide nearly everything")]
mod rng;
#[path = "../../laws/senders.rs"]
mod senders;

use hookgate::config::provider::PRESETS;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use pure::Delivery;
use rng::Rng;
use senders::{FORM, MULTIPART, Sender};

/// A preset, one of its deliveries, and what is done to that, four bytes for each edit. Whatever is
/// accepted then was signed, and no part of it can be read in two ways or not at all.
pub fn laws(data: &[u8]) {
    thread_local! {
        static SENDERS: Vec<Sender> = PRESETS.iter().map(|(name, _)| Sender::preset(name)).collect();
    }
    let [preset, seed, edits @ ..] = data else { return };
    SENDERS.with(|senders| {
        let sender = &senders[usize::from(*preset) % senders.len()];
        sender.begin();
        let Some(mut delivery) = sender.genuine(&mut Rng::new((*seed).into())) else { return };
        for edit in edits.as_chunks().0 {
            change(&mut delivery, *edit);
        }
        if let Ok((under, _)) = sender.judge(&delivery) {
            assert_eq!(sender.has_signed(under, &delivery), Ok(true), "{}: {delivery:?}", sender.name);
        }
    });
}

fn change(delivery: &mut Delivery, [what, part, at, byte]: [u8; 4]) {
    let names: Vec<HeaderName> = delivery.headers.keys().cloned().collect();
    let name = names.get(usize::from(part).wrapping_sub(2) % names.len().max(1));
    let mut text = match (part, name) {
        (0, _) | (_, None) => delivery.body.clone(),
        (1, _) => delivery.query.clone().unwrap_or_default().into_bytes(),
        (_, Some(name)) => delivery.headers[name].as_bytes().to_vec(),
    };
    let at = usize::from(at).min(text.len());
    match what % 9 {
        0 => text.insert(at, byte),
        1 => _ = text.drain(at..(at + usize::from(byte)).min(text.len())),
        2 if at < text.len() => text[at] = byte,
        3 => text.extend(text[at..].to_vec()),
        4 => delivery.body.splice(0..0, text.split_off(at)).for_each(drop),
        5 => text.extend(delivery.body.drain(..usize::from(byte).min(delivery.body.len()))),
        6 => text.extend((0..=u16::from(byte) * 8).flat_map(|_| *b"&z=")),
        7 => {
            let kinds = [FORM, MULTIPART, "application/json", "text/plain"];
            let kind = HeaderValue::from_static(kinds[usize::from(byte) % kinds.len()]);
            if at == 0 {
                delivery.headers.append(CONTENT_TYPE, kind)
            } else {
                delivery.headers.insert(CONTENT_TYPE, kind).is_some()
            };
            return;
        }
        _ => {
            if let Some(name) = name {
                delivery.headers.append(name, delivery.headers[name].clone());
            }
            return;
        }
    }
    match (part, name) {
        (0, _) | (_, None) => delivery.body = text,
        (1, _) => {
            text.retain(|b| b.is_ascii_graphic() && *b != b'#');
            delivery.query = String::from_utf8(text).ok();
        }
        (_, Some(name)) => match HeaderValue::from_bytes(text.trim_ascii()) {
            Ok(value) if !value.is_empty() => _ = delivery.headers.insert(name, value),
            _ => _ = delivery.headers.remove(name),
        },
    }
}
