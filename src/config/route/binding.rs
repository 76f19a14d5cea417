//! What a route says of itself that its provider's keys are bound to: topics, an audience, an account. Keys that
//! are the same for all of a provider's customers prove nothing without it, so what is missing is an error.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Endpoint;
use super::values::Values;
use crate::config::keys::{Published, Request};
use crate::config::located::Located;
use crate::config::raw::{KeysWords, NeedWords, SchemeWords, ValueForm};
use crate::config::secret::Secret;
use crate::config::{Origin, raw};
use crate::gate::fetched::parameters::Parameters;
use crate::gate::fetched::{KeyPlace, KeySource};
use crate::gate::scheme::Recipe;

impl Endpoint<'_> {
    /// Whether the route's keys are fetched: its schemes say where from, and it has no files instead.
    pub(super) fn fetches(&self, schemes: &[SchemeWords]) -> bool {
        let files = self.raw.secrets.as_ref().is_some_and(|secrets| !secrets.is_empty());
        schemes.iter().any(|scheme| scheme.keys.is_some()) && !files
    }

    /// The schemes as they are with files of the route's own instead of keys that are fetched. Whose keys
    /// cannot be in a file is told so.
    pub(super) fn with_files(&mut self, schemes: &mut [SchemeWords]) {
        for scheme in schemes.iter_mut().filter(|scheme| scheme.keys.is_some()) {
            if scheme.key.decode != crate::gate::scheme::key::KeyDecoding::Spki {
                let message =
                    "this provider's keys are fetched from where it publishes them: leave secrets out";
                self.problem("secrets", message);
                return;
            }
            scheme.keys = None;
        }
    }

    /// What the route says of itself, as its schemes need it.
    pub(super) fn parameters(&mut self, schemes: &mut [SchemeWords]) -> Parameters {
        let named = names(schemes);
        let mut parameters = Parameters::default();
        let needs = self.preset.as_ref().map(|preset| preset.needs.clone()).unwrap_or_default();
        for (key, given) in self.raw.of_itself() {
            let need = needs.get(key);
            match given {
                Some(given) if !named.contains(key) => {
                    let whose = if self.preset.is_some() {
                        "this provider needs none"
                    } else {
                        "the scheme names none"
                    };
                    self.loader.located_problem(&self.key(key), given, format!("{whose}: leave {key} out"));
                }
                Some(given) => {
                    if self.is_of_form(key, given, need) {
                        parameters.set(key, given.value.0.clone());
                    }
                    self.loader.given(&self.key(key), given.value.0.join(", "), given);
                }
                None if named.contains(key) && self.without(key, need, &mut parameters) => {
                    let name = format!("{{route:{key}}}");
                    for scheme in &mut *schemes {
                        scheme.given.retain(|text| !text.contains(&name));
                    }
                }
                None => {}
            }
        }
        parameters
    }

    /// Tells what a route lacks, and whether it may: then nothing is compared with it.
    fn without(&mut self, key: &str, need: Option<&NeedWords>, parameters: &mut Parameters) -> bool {
        match need {
            Some(NeedWords { default: Some(default), .. }) => {
                self.loader.setting(&self.key(key), default, Origin::Provider);
                parameters.set(key, vec![default.clone()]);
            }
            Some(NeedWords { without: Some(means), says, .. }) => {
                let name = self.raw.name.as_ref().map_or("default", |name| &name.value);
                self.loader.notice(format!("route {name}: without {key} ({says}), {means}"));
                return true;
            }
            Some(NeedWords { says, example, one_of, .. }) => {
                let example = if one_of.is_empty() { example.clone() } else { one_of.join(" or ") };
                self.problem(key, format!("is missing: write {key}: {example}, {says}"));
            }
            None => self.problem(key, format!("is missing: the scheme names it as {{route:{key}}}")),
        }
        false
    }

    fn is_of_form(&mut self, key: &str, given: &Located<Values>, need: Option<&NeedWords>) -> bool {
        let values = &given.value.0;
        let example = need.map_or("…", |need| &need.example).to_owned();
        let plain = |text: &String| {
            !text.is_empty()
                && text.len() <= 512
                && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'{' | b'}'))
        };
        let fits = |text: &String| match need.and_then(|need| need.form) {
            None | Some(ValueForm::File) => true,
            Some(ValueForm::TopicArn) => is_topic_arn(text),
            Some(ValueForm::Url) => is_url(text),
            Some(ValueForm::Email) => {
                text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
            }
            Some(ValueForm::Uuid) => is_uuid(text),
            Some(ValueForm::Digits) => text.bytes().all(|b| b.is_ascii_digit()),
        };
        let known = need.map(|need| &need.one_of).filter(|known| !known.is_empty());
        let bad = values
            .iter()
            .find(|text| !plain(text) || !fits(text) || known.is_some_and(|known| !known.contains(text)));
        let message = match (bad, known) {
            _ if values.is_empty() => format!("is empty: write {key}: {example}"),
            (Some(bad), Some(known)) => {
                format!("\"{bad}\" is none of {}: write one of them", known.join(", "))
            }
            (Some(bad), None) => format!("\"{bad}\" is not of the form that it has: write {key}: {example}"),
            (None, _) => return true,
        };
        self.loader.located_problem(&self.key(key), given, message);
        false
    }

    /// How the keys of each scheme are asked for.
    pub(super) fn fetched_keys(
        &mut self,
        provider: &str,
        schemes: &[SchemeWords],
        recipes: &[Recipe],
        parameters: &Parameters,
    ) -> Published {
        let credentials = self.credentials(schemes);
        // What is missing has been told, and may be what an address is chosen by.
        let is_bound = names(schemes).iter().all(|key| parameters.values(&format!("route:{key}")).is_some());
        let mut requests = Vec::new();
        for (scheme, recipe) in schemes.iter().zip(recipes) {
            let nowhere = |place: &KeyPlace| {
                place.addresses().is_empty() && !matches!(place.source, KeySource::Token(_))
            };
            if is_bound && recipe.keys.as_ref().is_some_and(nowhere) {
                let message = "no address of the scheme's keys is left: write keys: { jwks: \"https://…\" }";
                self.problem("scheme.keys", message);
            }
            let with = scheme.keys.as_ref().and_then(|keys| keys.with.as_ref());
            requests.push(Arc::new(request(with, &credentials, parameters)));
        }
        Published { source: provider.into(), requests }
    }

    /// What the provider's API demands, read as secrets are.
    fn credentials(&mut self, schemes: &[SchemeWords]) -> Vec<(String, Secret)> {
        let needs = self.preset.as_ref().and_then(|preset| preset.needs.get("credentials").cloned());
        let asked = schemes.iter().any(|scheme| scheme.keys.as_ref().is_some_and(|keys| keys.with.is_some()));
        let given = self.raw.credentials.clone();
        match (&given, &needs) {
            (Some(given), _) if !asked => {
                let message = "this provider's keys need no credentials: leave credentials out";
                self.loader.located_problem(&self.key("credentials"), given, message);
                return Vec::new();
            }
            (None, Some(NeedWords { says, example, .. })) => {
                self.problem("credentials", format!("is missing: write credentials: {example}, {says}"));
                return Vec::new();
            }
            _ => {}
        }
        let Some(given) = given else { return Vec::new() };
        let names = needs.map(|needs| needs.one_of).unwrap_or_default();
        for name in names.iter().filter(|name| !given.value.contains_key(*name)) {
            let message = format!("{name} is missing: write {name}: /path/to/its/file");
            self.loader.located_problem(&self.key("credentials"), &given, message);
        }
        let mut read = Vec::new();
        for (name, path) in &given.value {
            let key = self.key(&format!("credentials.{name}"));
            if !names.is_empty() && !names.contains(name) {
                let message = format!("{name} is none of {}", names.join(", "));
                self.loader.located_problem(&key, &given, message);
                continue;
            }
            let file = Located { value: path.clone(), ..given.clone().map(|_| path.clone()) };
            let Some(bytes) = self.loader.read(&key, &file) else { continue };
            let (secret, _) = Secret::from_bytes(bytes);
            let plain = |bytes: &[u8]| {
                !bytes.is_empty()
                    && bytes.iter().all(|b| matches!(b, 0x21..=0x7e) && !matches!(b, b'"' | b'\\'))
            };
            if !plain(secret.expose()) && !self.loader.is_for_elsewhere() {
                let message = format!(
                    "{} holds no credential: put the provider's text into it, and nothing else",
                    path.display()
                );
                self.loader.located_problem(&key, &given, message);
                continue;
            }
            self.loader.given(&key, format!("{} ({})", path.display(), secret.fingerprint()), &file);
            read.push((name.clone(), secret));
        }
        read
    }

    /// What is fetched, for whoever reads check.
    pub(super) fn tell_of_fetches(&mut self, name: &str, recipes: &[Recipe]) {
        let places = recipes.iter().filter_map(|recipe| recipe.keys.as_ref());
        let all: BTreeSet<String> =
            places.flat_map(KeyPlace::addresses).map(|pinned| pinned.address.to_string()).collect();
        if !all.is_empty() {
            let all: Vec<_> = all.into_iter().collect();
            self.loader.setting(&self.key("keys"), all.join(", "), Origin::Provider);
            self.loader.notice(format!("route {name}: its keys are fetched from {}", all.join(", ")));
        }
    }
}

/// How the keys of a scheme are asked for.
fn request(
    with: Option<&raw::RequestWords>,
    credentials: &[(String, Secret)],
    parameters: &Parameters,
) -> Request {
    let credential = |name: &str| credentials.iter().find(|(known, _)| known == name).map(|(_, s)| s.clone());
    let request = with.and_then(|with| match with {
        raw::RequestWords { bearer: Some(name), .. } => Some(Request::Bearer(credential(name)?)),
        raw::RequestWords { post: Some(template), .. } => {
            Some(Request::Post { template: template.clone(), credentials: credentials.to_vec() })
        }
        raw::RequestWords { oauth: Some(oauth), .. } => {
            let of = |words: &&raw::AddressWords| {
                words.of.as_ref().is_none_or(|of| parameters.only(of, &words.is).is_some())
            };
            let url = oauth.url.iter().find(of)?.url.clone();
            let (id, secret) = (credential("client_id")?, credential("client_secret")?);
            Some(Request::Oauth { url, scope: oauth.scope.clone(), id, secret })
        }
        _ => None,
    });
    request.unwrap_or(Request::Plain)
}

/// The names of a route's values in what its schemes say.
fn names(schemes: &[SchemeWords]) -> BTreeSet<String> {
    let mut texts = Vec::new();
    for scheme in schemes {
        texts.extend(scheme.content.iter().chain(&scheme.also).chain(&scheme.given).cloned());
        texts.extend(scheme.claims.values().flat_map(|texts| texts.0.iter().cloned()));
        for words in scheme.keys.iter().flat_map(KeysWords::addresses) {
            texts.push(words.url.clone());
            texts.extend(words.of.iter().map(|of| format!("{{{of}}}")));
        }
    }
    let mut names = BTreeSet::new();
    for text in texts {
        for word in text.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            if let Some((_, name)) =
                word.split_once(':').filter(|_| crate::gate::fetched::parameters::is_name(word))
            {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// `arn:aws:sns:REGION:ACCOUNT:NAME`, in any of Amazon's partitions.
fn is_topic_arn(text: &str) -> bool {
    let parts: Vec<_> = text.split(':').collect();
    let ["arn", partition, "sns", region, account, name] = parts.as_slice() else { return false };
    let bare = name.strip_suffix(".fifo").unwrap_or(name);
    let named = !bare.is_empty()
        && bare.len() <= 256
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let known = ["aws", "aws-cn", "aws-us-gov", "aws-eusc"].contains(partition);
    known && is_region(region) && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) && named
}

/// `eu-west-1`: an area, a direction, a digit.
fn is_region(text: &str) -> bool {
    const AREAS: [&str; 12] =
        ["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx", "cn", "us-gov", "eusc-de"];
    let Some((rest, digit)) = text.rsplit_once('-') else { return false };
    let Some((area, direction)) = rest.rsplit_once('-') else { return false };
    let lower = !direction.is_empty() && direction.bytes().all(|b| b.is_ascii_lowercase());
    AREAS.contains(&area) && lower && digit.len() == 1 && digit.bytes().all(|b| b.is_ascii_digit())
}

fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    host.contains('.')
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'))
        && !rest.contains(['?', '#'])
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(n, b)| match n {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}
