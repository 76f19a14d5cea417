//! The order of the checks, on one screen: [`Route::admit`] judges the head, [`Route::authenticate`] the
//! body, [`Route::freshen`] the time. Each of the three returns what the next one needs, so none can be
//! skipped; the order of the checks within one, and the limit that gates share, are held by
//! `tests/gate/chain_order.rs`.

use std::time::Duration;

use super::delivery::Head;
use super::filter::body_limit::{self, Admitted, Proof};
use super::filter::freshness::{self, Fresh};
use super::filter::rate_limit::SharedCell;
use super::filter::signature::Authentic;
use super::handshake::{HandshakeReply, Unanswerable, newest};
use super::keys::Keys;
use super::reason::{Reason, Reject};
use super::route::{Mode, Route};
use super::scheme::algorithm::KeyedMac;
use crate::clock::Now;

/// Questions of the head have no body; what comes with one that waits for a key is not looked at.
const MOST_OF_QUESTION: usize = 4096;

impl Route {
    /// Judges the head of a delivery. What comes back is the permission to read the body.
    fn admit_delivery(&self, head: &Head<'_>, now: Now, findings: &mut Findings) -> Result<Admitted, Reject> {
        if !self.methods.contains(head.method) {
            return self.admit_other(head, now, findings);
        }
        self.sender(head, now, findings)?;
        let presented = self.signature.presented(head);
        if presented.is_err() {
            findings.unproved()?;
        }
        if presented.as_ref().is_err_and(|_| self.may_ask(head)) {
            return Ok(body_limit::admit(self.max_body, head, Proof::Open)?);
        }
        let presented = findings.note(self.charged(head, now, presented))?;
        let proof = presented.map_or(Proof::Nothing, Proof::Presented);
        Ok(body_limit::admit(self.max_body, head, proof)?)
    }

    /// What is no delivery: it is refused, unless the route passes on whatever comes.
    fn admit_other(&self, head: &Head<'_>, now: Now, findings: &mut Findings) -> Result<Admitted, Reject> {
        if self.mode != Mode::Pass {
            return Err(Reason::MethodNotAllowed.into());
        }
        self.sender(head, now, findings)?;
        findings.unproved()?;
        Ok(body_limit::admit(self.max_body, head, Proof::Nothing)?)
    }

    /// Whether nothing is signed, and the body may be a question that comes so.
    fn may_ask(&self, head: &Head<'_>) -> bool {
        self.handshakes.may_be_posted(head) && !self.signature.is_present(head)
    }

    /// Who sends, how, and how much.
    fn sender(&self, head: &Head<'_>, now: Now, findings: &mut Findings) -> Result<(), Reject> {
        findings.note(self.https.check(head))?;
        findings.note(self.allowlist.check(head.client))?;
        findings.limited(self.rate_limit(head, now), self.stores)?;
        findings.note(self.failure_budget(head, now))?;
        Ok(())
    }

    /// Judges the head of whatever comes: a delivery, or a question that the provider asks
    /// without signing it. Of a question that the head asks, nothing of the body is read.
    pub fn admit(&self, head: &Head<'_>, now: Now, findings: &mut Findings) -> Result<Admission, Reject> {
        let Some(question) = self.handshakes.bare(head, || self.signature.is_present(head)) else {
            return self.admit_delivery(head, now, findings).map(Admission::Read);
        };
        self.sender(head, now, findings)?;
        findings.unproved()?;
        if self.handshakes.forwards(question) {
            findings.noted.insert(0, Reason::Handshake);
            return Ok(Admission::Read(body_limit::admit(self.max_body, head, Proof::Asked)?));
        }
        if self.looks_keys_up && question.answer.signs() {
            let most = self.max_body.min(MOST_OF_QUESTION);
            return Ok(Admission::Read(body_limit::admit(most, head, Proof::Open)?));
        }
        let answer = self.handshakes.answer_bare(question, head, self.newest(&Keys::OfRoute, now));
        Ok(Admission::Answer(self.answered(head, now, answer)?))
    }

    /// Whether this delivery is judged by keys that have to be looked up; what is not signed, and asks for no
    /// signature, is not.
    pub fn needs_keys(&self, admitted: &Admitted) -> bool {
        self.looks_keys_up
            && (matches!(admitted.proof(), Proof::Presented(_))
                || (admitted.is_open() && self.handshakes.sign()))
    }

    /// Meets what the head left open: whether it asks a question that is answered with a key that was looked
    /// up, or an unsigned body asks one. What asks none is as unsigned as it was.
    pub fn hear(
        &self,
        admitted: &mut Admitted,
        head: &Head<'_>,
        body: &[u8],
        keys: &Keys,
        now: Now,
        findings: &mut Findings,
    ) -> Result<Option<Box<HandshakeReply>>, Reject> {
        if !admitted.is_open() {
            return Ok(None);
        }
        let key = self.newest(keys, now);
        if self.looks_keys_up && matches!(keys, Keys::Unavailable) {
            return Err(Reason::StoreUnavailable.into());
        }
        if let Some(question) = self.handshakes.bare(head, || self.signature.is_present(head)) {
            let answer = self.handshakes.answer_bare(question, head, key);
            return Ok(Some(self.answered(head, now, answer)?));
        }
        let Some(question) = self.handshakes.posted(head, body) else {
            findings.note(self.charged(head, now, Err::<(), _>(Reason::SignatureMissing)))?;
            admitted.judged_by(Proof::Nothing);
            return Ok(None);
        };
        if self.handshakes.forwards(question) {
            findings.noted.insert(0, Reason::Handshake);
            admitted.judged_by(Proof::Asked);
            return Ok(None);
        }
        let answer = self.handshakes.answer_posted(question, head, body, key);
        Ok(Some(self.answered(head, now, answer)?))
    }

    /// The key that an answer is made with.
    fn newest<'k>(&'k self, keys: &'k Keys, now: Now) -> Option<&'k KeyedMac> {
        newest(keys.answering(self.handshakes.keys()), |id| keys.is_usable(&self.rotation, id, now))
    }

    /// The answer to a question that nobody signed. Who asks wrongly is charged as for a bad signature.
    fn answered(
        &self,
        head: &Head<'_>,
        now: Now,
        answer: Result<HandshakeReply, Unanswerable>,
    ) -> Result<Box<HandshakeReply>, Reason> {
        if answer.is_err() && self.signature.awaits_keys() {
            return Err(Reason::Overloaded);
        }
        if let (Err(_), Some(budget)) = (&answer, &self.failure_budget) {
            budget.charge(head.counted_as, head.client, now);
        }
        answer.map(Box::new).map_err(|_| Reason::HandshakeRefused)
    }

    /// Meets a question that the provider asks as a delivery, once that is fresh.
    pub fn answer_signed(
        &self,
        fresh: Option<&Fresh>,
        head: &Head<'_>,
        body: &[u8],
        keys: &Keys,
    ) -> Result<Option<Box<HandshakeReply>>, Reject> {
        let Some(fresh) = fresh else { return Ok(None) };
        let (of_answers, its) = (keys.answering(self.handshakes.keys()), fresh.authentic().key_id());
        let signed_by = || newest(of_answers, |id| *id == **its);
        let answer = self.handshakes.answer_signed(head, body, signed_by);
        Ok(answer.transpose().map_err(|_| Reason::HandshakeRefused)?.map(Box::new))
    }

    /// Judges the body by the keys of the route, or by those that were looked up for this delivery: what
    /// [`verify`](Self::verify) finds, [believed](Self::believe).
    pub fn authenticate(
        &self,
        admitted: &Admitted,
        head: &Head<'_>,
        body: &[u8],
        keys: &Keys,
        now: Now,
        findings: &mut Findings,
    ) -> Result<Option<Authentic>, Reject> {
        self.believe(self.verify(admitted, head, body, keys, now), head, now, findings)
    }

    /// Whether one of these keys signed it. Nobody is charged for it yet: if none did, there may be newer
    /// keys by now.
    pub fn verify(
        &self,
        admitted: &Admitted,
        head: &Head<'_>,
        body: &[u8],
        keys: &Keys,
        now: Now,
    ) -> Verified {
        let presented = match admitted.proof() {
            Proof::Presented(presented) => presented,
            Proof::Nothing | Proof::Asked => return Verified(Ok(None)),
            // Nobody has looked whether it is a question, so it is none.
            Proof::Open => return Verified(Err(Reason::SignatureMissing)),
        };
        if matches!(keys, Keys::Unavailable) {
            return Verified(Err(Reason::StoreUnavailable));
        }
        let usable = |id: &str| keys.is_usable(&self.rotation, id, now);
        let verified = self.signature.verify_by(keys, presented, &self.name, head, body, usable);
        Verified(match verified {
            // A signature that anyone can ask for proves nothing.
            Ok(_) if keys.are_decoys() || self.handshakes.could_have_signed(body) => {
                Err(Reason::SignatureMismatch)
            }
            verified => verified.map(Some),
        })
    }

    /// What comes back is the proof that a key signed it; `None` if none did and the route only observes or
    /// passes on, or the application is to answer an unsigned question itself.
    pub fn believe(
        &self,
        verified: Verified,
        head: &Head<'_>,
        now: Now,
        findings: &mut Findings,
    ) -> Result<Option<Authentic>, Reject> {
        match verified.0 {
            Ok(authentic) => Ok(authentic),
            Err(reason) => {
                let judged = findings.note(self.charged(head, now, Err(reason)));
                if judged.is_err() {
                    findings.unproved()?;
                }
                judged
            }
        }
    }

    /// What a request that was refused comes to now: its keys are those of now, its time is judged as of when
    /// it came. How much is sent, and by whom, is not asked: nobody sends it.
    pub fn rejudge(
        &self,
        head: &Head<'_>,
        body: &[u8],
        keys: &Keys,
        (received, now): (Now, Now),
    ) -> Result<Fresh, Reason> {
        if !self.methods.contains(head.method) {
            return Err(Reason::MethodNotAllowed);
        }
        self.https.check(head)?;
        self.allowlist.check(head.client)?;
        let presented = self.signature.presented(head)?;
        let admitted = body_limit::admit(self.max_body, head, Proof::Presented(presented))?;
        let authentic = self.verify(&admitted, head, body, keys, now).0?;
        freshness::check(authentic.ok_or(Reason::SignatureMissing)?, received)
    }

    /// Judges the signed time. What comes back is what the replay memory asks for.
    pub fn freshen(
        &self,
        authentic: Option<Authentic>,
        now: Now,
        findings: &mut Findings,
    ) -> Result<Option<Fresh>, Reject> {
        match authentic {
            Some(authentic) => findings.note(freshness::check(authentic, now)),
            None => Ok(None),
        }
    }

    /// Whether the route takes an event that is fresh. One that it does not take is answered as if the
    /// application had it.
    pub fn choose(&self, fresh: Option<&Fresh>, findings: &mut Findings) -> Result<(), Reject> {
        match fresh {
            Some(fresh) if !fresh.authentic().is_taken() => {
                findings.note(Err(Reason::Filtered)).map(|_: Option<()>| ())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn rate_limit(&self, head: &Head<'_>, now: Now) -> Result<(), Reject> {
        self.rate_limit.as_ref().map_or(Ok(()), |limit| limit.check(head.counted_as, now))
    }

    /// Where the client is counted by all gates together, if the route asks for that.
    pub fn shared_rate(&self, head: &Head<'_>) -> Option<SharedCell> {
        self.rate_limit.as_ref()?.shared_cell(&self.name, head.counted_as)
    }

    /// Meets the judgement of the limit that all gates share.
    pub fn share_limit(
        &self,
        judged: Result<(), Reject>,
        admitted: &Admitted,
        findings: &mut Findings,
    ) -> Result<(), Reject> {
        let may_be_proved = matches!(admitted.proof(), Proof::Presented(_));
        findings.limited(judged, self.stores && may_be_proved)
    }

    fn failure_budget(&self, head: &Head<'_>, now: Now) -> Result<(), Reject> {
        self.failure_budget.as_ref().map_or(Ok(()), |budget| budget.check(head.counted_as, head.client, now))
    }

    /// Charges the client for a signature that is none.
    fn charged<T>(&self, head: &Head<'_>, now: Now, judged: Result<T, Reason>) -> Result<T, Reason> {
        if let (Err(reason), Some(budget)) = (&judged, &self.failure_budget)
            && reason.is_signature()
        {
            budget.charge(head.counted_as, head.client, now);
        }
        judged
    }
}

/// What a verification found.
#[must_use = "it refuses nothing by itself"]
#[derive(Debug)]
pub struct Verified(Result<Option<Authentic>, Reason>);

impl Verified {
    /// Whether it is signed, and none of the keys that were tried did it.
    pub fn is_mismatch(&self) -> bool {
        matches!(self.0, Err(Reason::SignatureMismatch))
    }
}

/// What comes of a head.
#[derive(Debug)]
pub enum Admission {
    /// Its body is to be read.
    Read(Admitted),
    /// It is a question, and this is the answer.
    Answer(Box<HandshakeReply>),
}

/// What went against a delivery. On an enforcing route the first finding refuses it;
/// on an observing one the findings are noted and the proof is absent.
#[derive(Debug)]
pub struct Findings {
    mode: Mode,
    noted: Vec<Reason>,
    /// The limit that the client is over, on a route that stores: what is not proved is refused for it.
    put_off: Option<Reject>,
}

impl Findings {
    pub fn new(mode: Mode) -> Self {
        Findings { mode, noted: Vec::new(), put_off: None }
    }

    /// Passes a check's proof on, or its objection if that refuses.
    pub fn note<T, E: Into<Reject>>(&mut self, result: Result<T, E>) -> Result<Option<T>, Reject> {
        match result {
            Ok(proof) => Ok(Some(proof)),
            Err(objection) => {
                let reject = objection.into();
                if self.mode != Mode::Observe || !reject.reason.observable() {
                    return Err(reject);
                }
                self.noted.push(reject.reason);
                Ok(None)
            }
        }
    }

    /// Meets a limit. Where the route stores it is put off: once the delivery is proved it is stored, and
    /// delivered when there is time.
    fn limited(&mut self, judged: Result<(), Reject>, stores: bool) -> Result<(), Reject> {
        match judged {
            Err(limited) if stores => {
                self.put_off = Some(limited);
                Ok(())
            }
            judged => self.note(judged).map(drop),
        }
    }

    /// There will be no proof: what was put off is met.
    fn unproved(&mut self) -> Result<(), Reject> {
        self.put_off.take().map_or(Ok(()), Err)
    }

    /// By how much a delivery that is proved came too early, if its client is over the limit.
    pub fn too_early(&self) -> Option<Duration> {
        self.put_off?.retry_after
    }

    /// Whether an objection refuses nothing.
    pub fn only_notes(&self) -> bool {
        self.mode == Mode::Observe
    }

    /// In the order of the checks.
    pub fn noted(&self) -> &[Reason] {
        &self.noted
    }

    pub fn into_noted(self) -> Vec<Reason> {
        self.noted
    }
}
