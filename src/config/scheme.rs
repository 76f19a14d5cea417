//! From the words of a preset's scheme, or of the user's own, to a compiled recipe.

use std::time::Duration;

use super::raw::SignsBody;
use super::{Fault, raw};
use crate::gate::fetched::certificate::{self, ChainRule};
use crate::gate::fetched::document::Form;
use crate::gate::fetched::parameters::Parameters;
use crate::gate::fetched::{KeyName, KeyPlace, KeySource, Pinned};
use crate::gate::parse::json::{self, Pointer};
use crate::gate::parse::url::SignedQuery;
use crate::gate::scheme::algorithm::{Algorithm, Encoding};
use crate::gate::scheme::content::{Content, Piece};
use crate::gate::scheme::source::Source;
use crate::gate::scheme::timestamp::TimestampRule;
use crate::gate::scheme::{
    Assign, Assurance, Demand, Equality, FieldNames, Payload, Recipe, SignatureFormat, SignatureRule,
    TokenPayload, UrlRule,
};

/// The tolerance of a scheme that names none.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// Compiles a scheme. Tolerances of the route replace those of the scheme. The route also knows
/// the URL, if that is signed.
pub fn compile(
    raw: &raw::SchemeWords,
    tolerance: Option<Duration>,
    future: Option<Duration>,
) -> Result<Recipe, Fault> {
    let mut contents = contents(raw)?.into_iter();
    let mut recipe = Recipe {
        algorithm: raw.algorithm,
        key: raw.key.clone(),
        signature: signature(raw)?,
        content: contents.next().unwrap_or_default(),
        variants: contents.collect(),
        also: raw.also.iter().map(|text| equality("also", text)).collect::<Result<_, _>>()?,
        given: raw.given.iter().map(|text| equality("given", text)).collect::<Result<_, _>>()?,
        claims: raw.claims.iter().map(demand).collect::<Result<_, _>>()?,
        keys: raw.keys.as_ref().map(|keys| key_place(raw, keys, &Parameters::default())).transpose()?,
        when: sources("when", &raw.when)?,
        payload: raw.payload.as_deref().map(payload).transpose()?,
        url: None,
        url_rule: UrlRule { query: raw.url.query, either_port: raw.url.either_port },
        timestamp: raw.timestamp.as_ref().map(|t| timestamp(t, tolerance, future)).transpose()?,
        id: sources("id", &raw.id)?,
        distinct: sources("distinct", &raw.distinct)?,
        event_type: sources("type", &raw.event_type)?,
        action: sources("action", &raw.action)?,
        looked_at: Vec::new(),
        closed: false,
        by_fields: raw.signs_body == Some(SignsBody::Fields),
        assurance: Assurance::Partial,
    };
    check(&recipe)?;
    check_written(&recipe)?;
    check_body(&recipe, raw.signs_body)?;
    check_ends(&recipe, raw.assurance)?;
    recipe.closed = is_closed(&recipe, raw.assurance);
    recipe.assurance = assurance(&recipe);
    check_distinct(&recipe)?;
    Ok(recipe)
}

/// One delivery is judged by one scheme: where two read the same place, the conditions of the first
/// or the tags must tell whose a delivery is.
pub fn check_choice(recipes: &[Recipe]) -> Result<(), Fault> {
    for (n, first) in recipes.iter().enumerate() {
        for second in recipes[n + 1..].iter().filter(|second| second.signature.from == first.signature.from) {
            let alike = first.shares_tags_with(second) && first.algorithm == second.algorithm;
            let place = &first.signature.from[0];
            if first.when.is_empty() && !second.when.is_empty() {
                let message = format!("two schemes read {place}: put the one with conditions first");
                return Err(Fault::new("when", message));
            }
            let unsigned = |source: &&Source| !first.covers(source) || !second.covers(source);
            if let Some(source) = first.when.iter().chain(&second.when).find(unsigned).filter(|_| alike) {
                let message = format!(
                    "two schemes read {place}, and {source}, which is not signed, tells which one a delivery is of: anybody could change it"
                );
                return Err(Fault::new("when", message));
            }
            // Whichever key it is, what is signed is one and the same.
            let but_for_the_key = Recipe { key: second.key.clone(), ..first.clone() } == *second;
            let told_by_key = but_for_the_key && first.key != second.key;
            // What the delivery says itself, which is signed, is looked at before anything else.
            let told_by_words = first.given != second.given || first.claims != second.claims;
            let told_by_key = told_by_key || told_by_words;
            if alike && first.when == second.when && !told_by_key {
                let message = format!(
                    "two schemes read {place}, and nothing tells which one a delivery is of: give the first a condition in when, or write both forms of the content into one scheme"
                );
                return Err(Fault::new("when", message));
            }
        }
    }
    Ok(())
}

/// Whether nothing of a delivery can be changed under its signature.
fn is_closed(recipe: &Recipe, claimed: Option<raw::Claimed>) -> bool {
    let equal = recipe.also.iter().flat_map(|equality| &equality.contents);
    recipe.covers_body()
        && claimed != Some(raw::Claimed::Partial)
        && !recipe.contents().chain(equal).any(Content::is_lossy)
        // What is signed in one form may be something else in another.
        && recipe.variants.is_empty()
}

/// How much a delivery under the recipe proves. A digest that can be continued proves less, although
/// what continues it is refused.
fn assurance(recipe: &Recipe) -> Assurance {
    match recipe.algorithm {
        Algorithm::Token => Assurance::Authenticated,
        _ if recipe.closed && !recipe.is_extensible() => Assurance::Verified,
        // A token that says who calls, and nothing of what is said.
        _ if recipe.keys.is_some() && is_bearer(recipe) => Assurance::Authenticated,
        _ => Assurance::Partial,
    }
}

fn is_bearer(recipe: &Recipe) -> bool {
    let inside = SignatureFormat::Token { prefix: Vec::new(), payload: TokenPayload::Inside };
    std::mem::discriminant(&recipe.signature.format) == std::mem::discriminant(&inside)
        && !recipe.covers_body()
}

fn signature(raw: &raw::SchemeWords) -> Result<SignatureRule, Fault> {
    let from = sources("signature.from", &raw.signature.from)?;
    if from.is_empty() || from.iter().any(|source| matches!(source, Source::Field(_) | Source::Claim(_))) {
        let remedy = "name where the signature stands: write header:Name, query:name, json:/pointer, form:field or multipart:field";
        return Err(Fault::new("signature.from", remedy));
    }
    let format = format(&raw.signature)?;
    let encoding = match (raw.signature.encoding, &format) {
        (Some(encoding), _) => encoding,
        (None, SignatureFormat::Token { .. }) => Encoding::Base64url,
        (None, _) if raw.algorithm == Algorithm::Token => Encoding::Text,
        (None, _) => {
            return Err(Fault::new("signature.encoding", "is missing: write hex, base64 or base64url"));
        }
    };
    if encoding == Encoding::Text && raw.algorithm != Algorithm::Token {
        return Err(Fault::new(
            "signature.encoding",
            "text is for algorithm: token; write hex, base64 or base64url",
        ));
    }
    if matches!(format, SignatureFormat::Token { .. }) && raw.algorithm.of_token().is_none() {
        return Err(Fault::new(
            "algorithm",
            "no token can be signed with it: write hmac-sha256, for instance",
        ));
    }
    Ok(SignatureRule { from, format, written: raw.signature.written.clone(), encoding })
}

fn format(raw: &raw::SignatureSource) -> Result<SignatureFormat, Fault> {
    if raw.split.as_ref().is_some_and(|split| split.is_empty() || !split.is_ascii()) {
        return Err(Fault::new(
            "signature.split",
            "write the characters that part two elements, such as ','",
        ));
    }
    let split = raw.split.clone().map(String::into_bytes);
    let prefix = raw.prefix.clone().into_bytes();
    let token = |payload| SignatureFormat::Token { prefix: raw.prefix.clone().into_bytes(), payload };
    Ok(match raw.format {
        raw::SignatureFormat::Plain => SignatureFormat::Plain { prefix, split },
        raw::SignatureFormat::Kv => {
            let assign = u8::try_from(raw.assign)
                .map_err(|_| Fault::new("signature.assign", format!("'{}' is not ASCII", raw.assign)))?;
            fields(raw, split, Assign::Before(assign))?
        }
        raw::SignatureFormat::Positional => fields(raw, split, Assign::Place)?,
        raw::SignatureFormat::Jwt => token(TokenPayload::Inside),
        raw::SignatureFormat::JwsDetached => token(TokenPayload::Detached),
        raw::SignatureFormat::JwsUnencoded => token(TokenPayload::Plain),
    })
}

fn fields(
    raw: &raw::SignatureSource,
    split: Option<Vec<u8>>,
    assign: Assign,
) -> Result<SignatureFormat, Fault> {
    let keys = match raw.keys.as_slice() {
        [] => {
            let remedy = "format: kv needs the fields that hold tags, such as [v1]";
            return Err(Fault::new("signature.keys", remedy));
        }
        [any] if any == "*" => FieldNames::Any,
        names => FieldNames::These(names.to_vec()),
    };
    Ok(SignatureFormat::Fields { split: split.unwrap_or_else(|| vec![b',']), assign, keys })
}

/// The forms of the content, the usual one first.
fn contents(raw: &raw::SchemeWords) -> Result<Vec<Content>, Fault> {
    if raw.signature.format == raw::SignatureFormat::Jwt {
        return match raw.content.as_slice() {
            [] => Ok(vec![parse("content", "{token}")?]),
            _ => Err(Fault::new(
                "content",
                "a token signs its own claims: leave content out, and bind the body in also",
            )),
        };
    }
    let contents: Vec<_> = raw.content.iter().map(|text| parse("content", text)).collect::<Result<_, _>>()?;
    let Some(first) = contents.first() else { return Ok(contents) };
    for other in &contents[1..] {
        if !first.pieces().eq(other.pieces()) || !first.values().map(value).eq(other.values().map(value)) {
            return Err(Fault::new(
                "content",
                format!("\"{other}\" holds other values than \"{first}\": write a scheme for each"),
            ));
        }
    }
    Ok(contents)
}

fn value((_, source, required): (usize, &Source, bool)) -> (&Source, bool) {
    (source, required)
}

fn parse(key: &'static str, template: &str) -> Result<Content, Fault> {
    template.parse().map_err(|e: String| Fault::new(key, e))
}

fn equality(key: &'static str, text: &str) -> Result<Equality, Fault> {
    let Some((source, template)) = text.split_once("==") else {
        return Err(Fault::new(
            key,
            format!("\"{text}\" demands nothing: write query:name == {{body|sha256hex}}"),
        ));
    };
    let source = source.trim().parse().map_err(|e: String| Fault::new(key, e))?;
    let contents = template.split(" or ").map(|template| parse(key, template.trim()));
    Ok(Equality { source, contents: contents.collect::<Result<_, _>>()? })
}

fn demand((claims, values): (&String, &raw::Texts)) -> Result<Demand, Fault> {
    let pointer = |claim: &str| {
        if claim.starts_with('/') {
            claim.parse().map_err(|e: String| Fault::new("claims", e))
        } else {
            Ok(Pointer::key(claim))
        }
    };
    let claims = claims.split(" or ").map(|claim| pointer(claim.trim())).collect::<Result<_, _>>()?;
    let one_of = values.0.iter().map(|template| parse("claims", template)).collect::<Result<_, _>>()?;
    Ok(Demand { claims, one_of })
}

/// A scheme on a route that says this of itself.
pub fn compile_on(
    raw: &raw::SchemeWords,
    tolerance: Option<Duration>,
    future: Option<Duration>,
    route: &Parameters,
) -> Result<Recipe, Fault> {
    let mut recipe = compile(raw, tolerance, future)?.on(route);
    recipe.keys = raw.keys.as_ref().map(|keys| key_place(raw, keys, route)).transpose()?;
    Ok(recipe)
}

/// Where a scheme's keys are found on a route that says this of itself.
pub fn key_place(
    raw: &raw::SchemeWords,
    words: &raw::KeysWords,
    route: &Parameters,
) -> Result<KeyPlace, Fault> {
    let source = |text: &String| text.parse().map_err(|e: String| Fault::new("keys", e));
    let is_token = matches!(
        raw.signature.format,
        raw::SignatureFormat::Jwt | raw::SignatureFormat::JwsDetached | raw::SignatureFormat::JwsUnencoded
    );
    let id = match &words.id {
        Some(id) if id == "none" => KeyName::None,
        Some(id) => KeyName::Value(source(id)?),
        None if is_token => KeyName::Token,
        None => KeyName::None,
    };
    let form = Form { at: words.at.clone(), id: words.id_member.clone(), key: words.key_member.clone() };
    if !raw.algorithm.is_public() {
        let remedy = "keys that are published are public keys: write algorithm: rsa-sha256, for instance";
        return Err(Fault::new("algorithm", remedy));
    }
    if let Some(chain) = &words.chain {
        let roots = certificate::blocks(chain.root.as_bytes())
            .map_err(|_| Fault::new("keys.chain", "the root is no certificate in PEM"))?;
        let rule = ChainRule { roots, leaf: chain.leaf.clone(), issuer: chain.issuer.clone() };
        return Ok(KeyPlace { source: KeySource::Token(rule), id: KeyName::None, form });
    }
    let mut pinned = Vec::new();
    for words in words.addresses() {
        pinned.extend(addresses(words, route)?);
    }
    if words.addresses().next().is_none() {
        let remedy = "say where the keys are published: keys: { jwks: \"https://…\" }";
        return Err(Fault::new("keys", remedy));
    }
    let by_id = |one: &Pinned| one.address.fixed().is_none();
    let source = match words.named_by.as_slice() {
        [] if pinned.iter().any(by_id) => KeySource::ById(pinned),
        [] => KeySource::Fixed(pinned),
        by => KeySource::Named(by.iter().map(source).collect::<Result<_, _>>()?, pinned),
    };
    Ok(KeyPlace { source, id, form })
}

/// An address once for each value of the route in it.
fn addresses(words: &raw::AddressWords, route: &Parameters) -> Result<Vec<Pinned>, Fault> {
    let fault = |e: String| Fault::new("keys", e);
    let only = words.of.as_ref().map(|of| route.only(of, &words.is));
    let route = match &only {
        None => route,
        Some(Some(only)) => only,
        Some(None) => return Ok(Vec::new()),
    };
    // The name of the certificate has the same value in it as the address.
    let both = format!("{}\n{}", words.url, words.name.as_deref().unwrap_or_default());
    let mut pinned = Vec::new();
    for filled in route.fill(&both) {
        let (url, name) = filled.split_once('\n').unwrap_or((&filled, ""));
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        pinned.push(Pinned { address: url.parse().map_err(fault)?, name, chain: words.chain });
    }
    Ok(pinned)
}

fn payload(text: &str) -> Result<Payload, Fault> {
    match text.split_once(':') {
        Some(("form", name)) if !name.is_empty() => Ok(Payload::Form(name.to_owned())),
        Some(("multipart", name)) if !name.is_empty() => Ok(Payload::Multipart(name.to_owned())),
        _ => Err(Fault::new(
            "payload",
            format!("\"{text}\" is no field of a body: write form:name or multipart:name"),
        )),
    }
}

fn timestamp(
    raw: &raw::Timestamp,
    tolerance: Option<Duration>,
    future: Option<Duration>,
) -> Result<TimestampRule, Fault> {
    let own = |span: Option<super::units::Span>| span.map_or(DEFAULT_TOLERANCE, |span| span.0);
    let expires = raw.expires.as_ref().map(|text| text.parse());
    Ok(TimestampRule {
        from: sources("timestamp.from", &raw.from)?,
        unit: raw.unit,
        optional: raw.optional,
        expires: expires.transpose().map_err(|e| Fault::new("timestamp.expires", e))?,
        tolerance: tolerance.unwrap_or_else(|| own(raw.tolerance)),
        future_tolerance: future.unwrap_or_else(|| own(raw.future_tolerance)),
    })
}

fn sources(key: &'static str, raw: &[String]) -> Result<Vec<Source>, Fault> {
    raw.iter().map(|text| text.parse().map_err(|e: String| Fault::new(key, e))).collect()
}

/// What each part may demand of the others.
fn check(recipe: &Recipe) -> Result<(), Fault> {
    if let Some(rule) = &recipe.timestamp {
        if rule.from.is_empty() {
            return Err(Fault::new(
                "timestamp.from",
                "name where the time stands: header:Name, kv:field or json:/pointer",
            ));
        }
        if rule.optional
            && recipe.contents().any(|content| rule.from.iter().any(|source| content.keeps(source)))
        {
            let message = "optional: the content names the time, so a delivery without it is not signed: leave optional out";
            return Err(Fault::new("timestamp.optional", message));
        }
        let all = rule.from.iter().chain(&rule.expires);
        if let Some(source) = all.into_iter().find(|source| !recipe.covers(source)) {
            return Err(Fault::new(
                "timestamp.from",
                format!(
                    "{source} is not signed, so anyone could change it: put it into content, or leave timestamp out"
                ),
            ));
        }
    }
    check_each(recipe)?;
    let fields = matches!(recipe.signature.format, SignatureFormat::Fields { .. });
    if !fields && recipe.content.values().any(|(_, source, _)| matches!(source, Source::Field(_))) {
        return Err(Fault::new(
            "content",
            "{kv:…} is a field of the signature header: set signature.format to kv",
        ));
    }
    let secret = |content: &Content| content.pieces().any(|piece| *piece == Piece::Secret);
    if recipe.contents().any(|content| secret(content) != recipe.algorithm.is_digest()) {
        return Err(Fault::new(
            "content",
            "{secret} goes with digest-md5, digest-sha1 and digest-sha256, and they with it: an HMAC has the secret as its key",
        ));
    }
    if let Some(source) =
        recipe.when.iter().find(|s| !matches!(s, Source::Header(_) | Source::Query(_) | Source::Form(_)))
    {
        return Err(Fault::new(
            "when",
            format!(
                "{source} is not known before the body: write header:Name, query:name, or form:name if it is a form"
            ),
        ));
    }
    if recipe.pointers().len() > json::MAX_POINTERS {
        return Err(Fault::new(
            "id",
            format!("at most {} values can be read from a body", json::MAX_POINTERS),
        ));
    }
    Ok(())
}

/// Every element of a list shows who sends: then each of them is judged for itself, and what one signs is not
/// asked of the others.
fn check_each(recipe: &Recipe) -> Result<(), Fault> {
    if let Some(source) = recipe.misplaced_each() {
        let message = format!(
            "{source} is several values: it stands in signature.from alone, and is all that stands there"
        );
        return Err(Fault::new("signature.from", message));
    }
    if !recipe.is_of_each() {
        return Ok(());
    }
    let inside =
        matches!(recipe.signature.format, SignatureFormat::Token { payload: TokenPayload::Inside, .. });
    if recipe.algorithm != Algorithm::Token && !inside {
        let message = "a list holds whole tokens: write format: jwt, or algorithm: token";
        return Err(Fault::new("signature.from", message));
    }
    if recipe.timestamp.as_ref().is_some_and(|rule| rule.expires.is_none()) {
        let message =
            "of several tokens the first that ends counts: say where each says when, as in claim:exp";
        return Err(Fault::new("timestamp.expires", message));
    }
    Ok(())
}

/// What a signer writes must be what it signs: the tag and each field that the content has, once.
fn check_written(recipe: &Recipe) -> Result<(), Fault> {
    let Some(written) = &recipe.signature.written else { return Ok(()) };
    if !matches!(recipe.signature.format, SignatureFormat::Fields { assign: Assign::Before(_), .. }) {
        return Err(Fault::new("signature.written", "goes with format: kv alone"));
    }
    let fields = recipe.content.values().filter_map(|(_, source, _)| match source {
        Source::Field(name) => Some(name.as_str()),
        _ => None,
    });
    let mut wanted: Vec<_> = fields.chain(["tag"]).map(|name| format!("{{{name}}}")).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let all = wanted.iter().all(|name| written.matches(name.as_str()).count() == 1);
    if !all || written.matches('{').count() != wanted.len() {
        let remedy = format!("write each of these once: {}", wanted.join(", "));
        return Err(Fault::new("signature.written", remedy));
    }
    Ok(())
}

/// What joins the id must be signed as the id is: a value that anybody could change would make a
/// copy an event of its own.
fn check_distinct(recipe: &Recipe) -> Result<(), Fault> {
    if let Some(source) = recipe.distinct.iter().find(|source| !recipe.identifies(source)) {
        let message = format!(
            "{source} is not signed, so a copy could be sent as another event: leave it out, or say identity: delivery"
        );
        return Err(Fault::new("distinct", message));
    }
    if !recipe.distinct.is_empty() && !recipe.id.iter().any(|source| recipe.identifies(source)) {
        return Err(Fault::new("distinct", "joins a signed id: name that in id"));
    }
    Ok(())
}

/// A signature under which bytes can move from one value to the next is a choice as well. Not so
/// what makes two bodies alike: no provider does that.
fn check_ends(recipe: &Recipe, claimed: Option<raw::Claimed>) -> Result<(), Fault> {
    let is_time = |source: &Source| recipe.timestamp.iter().any(|rule| rule.from.contains(source));
    let fixed_url = recipe.url_rule.query == SignedQuery::AsGiven && !recipe.url_rule.either_port;
    let contents = recipe.contents().map(|content| ("content", content));
    let equal = recipe.also.iter().flat_map(|equality| &equality.contents).map(|content| ("also", content));
    for (key, content) in contents.chain(equal) {
        // Each on a line of its own, which no value can leave.
        if recipe.by_fields && key == "content" {
            continue;
        }
        if let Some(transform) = content.lossy_body() {
            let message = format!(
                "under |{transform} two bodies are signed alike: use {{body}}, or one of its digests such as {{body|sha256hex}}"
            );
            return Err(Fault::new(key, message));
        }
        if let Some(piece) = content.open_end(is_time, fixed_url).filter(|_| claimed.is_none()) {
            let message = format!(
                "\"{content}\" leaves open where {{{piece}}} ends, so that bytes of it could be moved into what stands beside it: put text between them as the provider does, such as '.'; or say assurance: partial if it puts none"
            );
            return Err(Fault::new(key, message));
        }
    }
    Ok(())
}

/// A signature that leaves the body open is a choice that has to be spelled out.
fn check_body(recipe: &Recipe, signs_body: Option<SignsBody>) -> Result<(), Fault> {
    if recipe.algorithm == Algorithm::Token {
        return if recipe.content.is_empty() {
            Ok(())
        } else {
            Err(Fault::new("content", "algorithm: token signs nothing: leave content out"))
        };
    }
    let template = &recipe.content;
    match (recipe.covers_body(), signs_body) {
        (true, Some(SignsBody::No | SignsBody::Fields)) => {
            Err(Fault::new("signs_body", format!("\"{template}\" signs the body: leave signs_body out")))
        }
        (false, None | Some(SignsBody::All)) => Err(Fault::new(
            "content",
            format!(
                "\"{template}\" does not sign the body: put {{body}} into it, or say signs_body: false if the provider does not sign it"
            ),
        )),
        (false, Some(SignsBody::No | SignsBody::Fields)) if template.is_empty() => {
            Err(Fault::new("content", "is missing: say what is signed"))
        }
        (false, Some(SignsBody::Fields)) if !template.has_a_value_a_line() => Err(Fault::new(
            "signs_body",
            "fields: each value but the first stands on a line of its own: write \\n before it and behind it",
        )),
        (true, None | Some(SignsBody::All)) | (false, Some(SignsBody::No | SignsBody::Fields)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(yaml: &str) -> Result<Recipe, Fault> {
        compile(&serde_saphyr::from_str(yaml).unwrap(), None, None)
    }

    #[test]
    fn a_scheme_that_would_prove_nothing_is_refused_with_the_remedy() {
        let base = |content: &str, rest: &str| {
            format!(
                "algorithm: hmac-sha256\nsignature: {{ from: 'header:X-Sig', encoding: hex }}\ncontent: '{content}'\n{rest}\n"
            )
        };
        assert!(compiled(&base("{body}", "")).is_ok());
        let more = base("{body}", "assurance: verified");
        assert!(
            serde_saphyr::from_str::<raw::SchemeWords>(&more).is_err(),
            "nobody can claim more than there is"
        );
        for (yaml, key, says) in [
            (base("{header:X-T}", ""), "content", "does not sign the body"),
            (base("{body}", "timestamp: { from: 'header:X-T', unit: s }"), "timestamp.from", "is not signed"),
            (base("{kv:t}.{body}", ""), "content", "set signature.format to kv"),
            (base("{body}", "id: 'json:/a/*'"), "signature.from", "stands in signature.from alone"),
            (base("{body}", "").replace("header:X-Sig", "json:/a/*"), "signature.from", "holds whole tokens"),
            (
                base("{body}", "").replace("'header:X-Sig'", "['json:/a/*', 'header:X']"),
                "signature.from",
                "is all that stands there",
            ),
            (
                "algorithm: rsa-sha256\nsignature: { from: 'json:/a/*', format: jwt }\nsigns_body: false\n\
                 keys: { jwks: 'https://a.example/' }\ntimestamp: { from: 'claim:iat', unit: s }"
                    .to_owned(),
                "timestamp.expires",
                "the first that ends counts",
            ),
            (base("{body}", "id: 'jsn:/id'"), "id", "names no source"),
            (base("{body}", "id: 'json:id'"), "id", "starts with '/'"),
            (base("{header:X-N}{body}", ""), "content", "leaves open where {header:x-n} ends"),
            (base("{body}{header:X-N}", ""), "content", "say assurance: partial"),
            (base("{header:A}{header:B}", "signs_body: false"), "content", "leaves open"),
            (base("{body|lower}", ""), "content", "two bodies are signed alike"),
            (base("{body|unescape}", "assurance: partial"), "content", "{body|sha256hex}"),
            (
                base("{url}", "url: { query: as-received }\nalso: 'query:h == {body|lower}'"),
                "also",
                "two bodies are signed alike",
            ),
            (
                base("{url}", "url: { query: as-received }\nalso: 'query:h == {header:N}{body}'"),
                "also",
                "leaves open",
            ),
        ] {
            let fault = compiled(&yaml).unwrap_err();
            assert!(fault.key == key && fault.message.contains(says), "{fault:?}");
        }
    }
}
