//! A copy of what is published, for gates that have no way out: fetched as a gate would, read by the same rules, and
//! put where `keys.dir` of those gates leads.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::fetch::{Answer, Fault, Fetcher, file_name};
use super::published::{Errand, places, read};
use crate::config::keys::Settings;
use crate::config::route::{Elsewhere, KeyedRoute};
use crate::files;
use crate::gate::fetched::document::Document;

/// What a copy is made of: the addresses that are known, and those that have to be named.
#[derive(Default)]
pub struct Plan {
    errands: BTreeMap<Arc<str>, Errand>,
    /// A route, and where its keys lie, if deliveries name the rest of the address.
    pub open: Vec<(Arc<str>, String)>,
}

/// What became of one address.
pub struct Copied {
    pub url: Arc<str>,
    pub document: Result<Document, String>,
}

impl Plan {
    /// What the routes need. Of `named`, each must be an address that one of them may ask.
    pub fn new(routes: &[KeyedRoute], named: &[String]) -> Result<Self, String> {
        let mut plan = Plan::default();
        let mut known = vec![false; named.len()];
        for KeyedRoute { route, elsewhere, .. } in routes {
            let Some(Elsewhere::Published(published)) = elsewhere else { continue };
            for (place, request, pinned) in places(route, published) {
                let mut wanted: Vec<_> = pinned.address.fixed().into_iter().collect();
                for (named, known) in named.iter().zip(&mut known) {
                    let url = pinned.address.matching(named);
                    *known |= url.is_some();
                    wanted.extend(url);
                }
                if pinned.address.fixed().is_none() {
                    plan.open.push((Arc::clone(&route.name), pinned.address.to_string()));
                }
                for url in wanted {
                    let url: Arc<str> = url.into();
                    let errand =
                        Errand::new(Arc::clone(&url), &published.source, &place.form, request, pinned);
                    plan.errands.entry(url).or_insert(errand);
                }
            }
        }
        match named.iter().zip(&known).find(|(_, known)| !**known) {
            Some((strange, _)) => Err(format!("{strange} is no address that a route may fetch a key from")),
            None => Ok(plan),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.errands.is_empty()
    }

    /// Fetches each, and puts it into the folder. It blocks.
    pub fn fill(self, folder: &Path, settings: Settings) -> io::Result<Vec<Copied>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let settings = Settings { dir: None, kept: None, ..settings };
        Ok(runtime.block_on(async {
            let fetcher = Fetcher::new(settings);
            let mut copied = Vec::new();
            for (url, errand) in self.errands {
                let document = fetched(&fetcher, &errand).await.map_err(|fault| fault.to_string());
                let document = document.and_then(|(document, body)| {
                    // Others read it: gates of other users, and it is public.
                    let put = files::replace(&folder.join(file_name(&url)), &body, 0o644);
                    put.map_err(|error| error.to_string())?;
                    Ok(document)
                });
                copied.push(Copied { url, document });
            }
            copied
        }))
    }
}

async fn fetched(fetcher: &Fetcher, errand: &Errand) -> Result<(Document, Vec<u8>), Fault> {
    let Answer { body, .. } = fetcher.fetch(&errand.url, &errand.request, None).await?;
    let body = body.ok_or(Fault::NoKeys)?;
    Ok((read(fetcher, errand, &body)?, body))
}
