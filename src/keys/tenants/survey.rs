//! What there is where the tenants of a route are looked up, for who asks before deliveries come.

use std::collections::HashMap;

use super::directory::Directory;
use super::{Source, Trouble, at_once, of_field};
use crate::config::provider::{self, NamedSecret};
use crate::config::route::{TenantSecrets, Where};
use crate::gate::scheme::Recipe;
use crate::gate::scheme::key::KeyError;
use crate::gate::tenant::is_tenant;
use crate::store::ReplayStore;

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// Every tenant.
    Tenants(Survey),
    /// A source that tells nobody whom it knows: it answers, and what is wrong with that.
    Answers(Option<String>),
}

/// The tenants of a folder or a hash.
#[derive(Debug, Default)]
pub struct Survey {
    pub tenants: usize,
    /// The first of them, by their names.
    pub samples: Vec<String>,
    /// What is wrong, one sentence each.
    pub wrong: Vec<String>,
    /// How much more is.
    pub more: usize,
    /// There are more tenants than were looked at.
    pub is_part: bool,
    uses: HashMap<[u8; 16], String>,
}

const SAMPLES: usize = 3;
const MOST_WRONG: usize = 10;
/// Of a hash. Ten million fields would keep whoever asks, and the store, for minutes.
const MOST_FIELDS: usize = 1_000_000;
/// How often the store is asked before it is away.
const TRIES: usize = 3;
/// Nobody has this name.
const NOBODY: &str = "hookgate-check-whether-anybody-is-here";

/// Looks at what there is. It blocks; an error says why nothing can be seen.
pub fn survey(
    route: &str,
    from: &TenantSecrets,
    store: ReplayStore,
    recipes: &[Recipe],
) -> Result<Seen, String> {
    let mut survey = Survey::default();
    match &from.place {
        Where::Dir(path) => {
            let directory = Directory::new(path.clone());
            let names = directory.names();
            let mut names = names.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            names.sort_unstable();
            for name in names {
                survey.add(&name, || directory.secrets(&name), (from, recipes));
            }
        }
        Where::Store(hash) => {
            let fields = at_once(fields(&store, hash))??;
            survey.is_part = fields.len() >= MOST_FIELDS;
            for (name, value) in fields {
                survey.add(&name, || of_field(hash, &name, &value), (from, recipes));
            }
        }
        Where::Socket(_) => {
            let asked =
                at_once(async { Source::new(&from.place, store).secrets(route, NOBODY, None).await })?;
            let everybody = asked.map_err(Trouble::into_words)?.map(|_| {
                format!(
                    "it has secrets for the tenant {NOBODY}: does it answer 404 for one that there is not?"
                )
            });
            return Ok(Seen::Answers(everybody));
        }
    }
    Ok(Seen::Tenants(survey))
}

/// The fields of the hash by their names, as many as are looked at.
async fn fields(store: &ReplayStore, hash: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let (mut fields, mut at) = (HashMap::new(), "0".to_owned());
    let mut tries = 1..TRIES;
    loop {
        let (next, part) = match store.fields(hash, &at).await {
            Ok(told) => told,
            // A first call may not wait for as long as a handshake takes.
            Err(_) if tries.next().is_some() => continue,
            Err(why) => return Err(why),
        };
        // One that moves within the hash comes twice.
        fields.extend(
            part.into_iter().map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value)),
        );
        if next == "0" || fields.len() >= MOST_FIELDS {
            break;
        }
        at = next;
    }
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_unstable();
    Ok(fields)
}

impl Survey {
    fn add(
        &mut self,
        name: &str,
        look: impl FnOnce() -> Result<Option<Vec<NamedSecret>>, Trouble>,
        (from, recipes): (&TenantSecrets, &[Recipe]),
    ) {
        if !is_tenant(name.as_bytes()) {
            let rule = "names are [A-Za-z0-9._-], at most 128, and do not begin with two dots; rename it";
            return self.wrong(format!("{name:?} can be no tenant: {rule}"));
        }
        let secrets = match look() {
            Ok(Some(secrets)) => secrets,
            Ok(None) => return self.wrong(format!("{name} is empty: nothing is accepted for it")),
            Err(trouble) => return self.wrong(trouble.into_words()),
        };
        self.tenants += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(name.to_owned());
        }
        for secret in &secrets {
            if let Some(why) = unusable(recipes, secret, from.short_allowed) {
                self.wrong(format!("{name}: the secret {} cannot be used: {why}", secret.id));
            }
            if let Some(oddity) = secret.secret.oddity() {
                self.wrong(format!("{name}: the secret {} {oddity}", secret.id));
            }
            let other = self.uses.insert(print(secret), name.to_owned());
            if let Some(other) = other.filter(|other| other != name) {
                self.wrong(format!(
                    "{other} and {name} share a secret: whoever signs for one signs for the other; give each its own"
                ));
            }
        }
    }

    fn wrong(&mut self, what: String) {
        if self.wrong.len() < MOST_WRONG { self.wrong.push(what) } else { self.more += 1 }
    }
}

/// What tells one secret from another.
fn print(secret: &NamedSecret) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(secret.secret.expose());
    std::array::from_fn(|n| digest[n])
}

/// Why no scheme can use the secret.
fn unusable(recipes: &[Recipe], secret: &NamedSecret, short_allowed: bool) -> Option<KeyError> {
    let mut why = None;
    for recipe in recipes {
        match provider::keys(recipe, std::slice::from_ref(secret), short_allowed).1.pop() {
            Some((_, error)) => _ = why.get_or_insert(error),
            None => return None,
        }
    }
    why
}
