//! What the gate answers on a route before any event comes.

use super::Endpoint;
use crate::config::Origin;
use crate::config::handshake;
use crate::config::located::Located;
use crate::config::provider::{NamedSecret, answering};
use crate::config::secret::Secret;
use crate::gate::fetched::parameters::Parameters;
use crate::gate::handshake::{Answer, AnsweredBy, Handshakes};
use crate::gate::scheme::Recipe;
use crate::gate::scheme::content::{Piece, Segment};

impl Endpoint<'_> {
    /// The provider's handshakes, or the route's own, and who answers them.
    pub(super) fn handshakes(
        &mut self,
        provider: &str,
        recipes: &[Recipe],
        secrets: &[NamedSecret],
        parameters: &Parameters,
    ) -> Handshakes {
        let (key, words) = (self.key("handshake"), self.raw.handshake.as_ref());
        let of_provider = self.preset.as_ref().map(|p| p.handshake.clone()).unwrap_or_default();
        let (mut list, mode) = match words.map(|words| &words.value) {
            None => (of_provider, handshake::Mode::Answer),
            Some(handshake::Words::Mode(mode)) => (of_provider, *mode),
            Some(handshake::Words::Own(list)) => (list.clone(), handshake::Mode::Answer),
        };
        if let (Some(words), true) = (words, list.is_empty()) {
            let message = format!("{provider} has no handshake: leave it out, or list the route's own");
            self.loader.located_problem(&key, words, message);
        }
        let of_preset = !matches!(words, Some(Located { value: handshake::Words::Own(_), .. }));
        let by_gate = matches!(mode, handshake::Mode::Answer | handshake::Mode::Confirm);
        if by_gate && of_preset {
            self.leave_to_the_application(&mut list, provider);
        }
        if of_preset {
            self.leave_unconfirmed(&mut list, mode, provider);
        }
        if !by_gate {
            // Whoever answers, compares the token, or has it.
            for raw in &mut list {
                raw.token = None;
                if raw.digests() {
                    raw.answer = handshake::RawAnswer::Application;
                }
            }
        }
        let wanted = list.iter().any(|raw| raw.token.is_some() || raw.digests());
        let token = self.handshake_token(wanted, provider);
        let url = recipes.first().and_then(|recipe| recipe.url.clone());
        let of = handshake::OfRoute { token: token.as_ref(), url: url.as_ref() };
        let mut handshakes = Vec::new();
        for raw in &list {
            match (handshake::compile_on(raw, of, parameters), words) {
                (Ok(compiled), _) => handshakes.extend(compiled),
                (Err(fault), Some(words)) => self.loader.located_problem(&key, words, fault.message),
                (Err(fault), None) => self.problem("handshake", fault.message),
            }
        }
        if !list.is_empty() {
            match words {
                Some(words) => self.loader.given(&key, mode, words),
                None => self.loader.setting(&key, mode, Origin::Provider),
            }
        }
        for handshake in &handshakes {
            if let Answer::Visit(address) = &handshake.answer {
                self.loader.notice(format!("{key}: the gate confirms what is asked of it at {address}"));
            }
        }
        let plain = |recipe: &Recipe| {
            let holds_body = |s: &Segment| matches!(s, Segment::Piece(Piece::Body, None));
            !recipe.algorithm.is_public() && recipe.content.segments().iter().any(holds_body)
        };
        if handshakes.iter().any(|handshake| handshake.answer.signs()) && !recipes.iter().all(plain) {
            let message = "whoever asks would get signatures that are good for events: {hmac:…} needs a \
                           shared secret, and a content that holds {body} as it is";
            self.problem("handshake", message);
        }
        let answered_by = match mode {
            handshake::Mode::Answer | handshake::Mode::Confirm => AnsweredBy::Gate,
            handshake::Mode::Forward => AnsweredBy::Application,
            handshake::Mode::Off => AnsweredBy::Nobody,
        };
        Handshakes::new(handshakes, answering(recipes.first(), secrets), answered_by)
    }

    /// Nobody but the application can answer these questions of the provider's, and nothing unsigned
    /// reaches it unless the operator says so.
    fn leave_to_the_application(&mut self, list: &mut Vec<handshake::Raw>, provider: &str) {
        let all = list.len();
        list.retain(|raw| raw.answer != handshake::RawAnswer::Application);
        if list.len() < all {
            let message = format!(
                "{provider} begins with an unsigned request that only the application can answer: write \
                 handshake: forward while you set it up, to have it passed on"
            );
            self.loader.notice(message);
        }
    }

    /// Nothing is visited unless the operator says so.
    fn leave_unconfirmed(&mut self, list: &mut Vec<handshake::Raw>, mode: handshake::Mode, provider: &str) {
        let confirms = list.iter().any(handshake::Raw::visits);
        if mode != handshake::Mode::Confirm {
            list.retain(|raw| !raw.visits());
        }
        let message = match mode {
            handshake::Mode::Confirm if !confirms => {
                format!("{provider} has nothing confirmed: write answer, forward or off")
            }
            handshake::Mode::Answer if confirms && list.is_empty() && self.raw.handshake.is_some() => {
                format!(
                    "{provider} asks for nothing but a visit, which confirms a subscription: write handshake: confirm to \
                 have the gate do that, or leave it out"
                )
            }
            _ => return,
        };
        self.problem("handshake", message);
    }

    pub(super) fn handshake_token(&mut self, wanted: bool, provider: &str) -> Option<Secret> {
        let key = self.key("handshake_token_file");
        match &self.raw.handshake_token_file {
            Some(file) => {
                if !wanted {
                    let message = format!("the gate asks {provider} for no token: leave it out");
                    self.loader.located_problem(&key, file, message);
                }
                let token = self.read_secret(&key, "handshake_token_file", file)?;
                self.loader.given(&key, file.value.display(), file);
                Some(token)
            }
            None => {
                if wanted {
                    let message = format!(
                        "{provider} sets a subscription up with a token: name its file in {key} to have that answered"
                    );
                    self.loader.notice(message);
                }
                None
            }
        }
    }
}
