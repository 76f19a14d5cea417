//! What is told `Already processed` was delivered before, byte for byte: whoever changes something on the
//! way cannot make the genuine event pass for a copy of that.

use std::time::Duration;

use hookgate::clock::Now;
use hookgate::gate::filter::replay::ReplayPolicy;
use hookgate::gate::scheme::{Assurance, Recipe};
use hookgate::store::{Memory, Outcome, ReplayStore, Reservation};

use crate::changes::changed;
use crate::pure::{Delivery, NOW, at_once};
use crate::reader::read;
use crate::{CHANGED, search, shown};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_duplicate_was_delivered_before() {
    search("duplicates", |sender, rng| {
        let store = memory();
        let Some(genuine) = sender.genuine(rng) else { return 0 };
        // The genuine one comes at any time among its changed copies, and once more.
        let mut sequence: Vec<_> = (0..CHANGED).map(|_| changed(&genuine, sender, rng)).collect();
        for _ in 0..2 {
            sequence.insert(rng.below(CHANGED), genuine.clone());
        }
        let mut delivered = Vec::new();
        let mut accepted = 0;
        for delivery in &sequence {
            let Ok((recipe, fresh)) = sender.judge(delivery) else { continue };
            accepted += 1;
            match at_once(store.reserve(&fresh, Now::at(NOW, 0))).unwrap() {
                Reservation::Lead(claim) => {
                    at_once(claim.settle(Outcome::Delivered, Now::at(NOW, 0)));
                    delivered.push((recipe, delivery));
                }
                Reservation::Follow(_) => panic!("nothing is under way"),
                // Whoever shows a credential may say anything.
                Reservation::Done if recipe.assurance == Assurance::Authenticated => {}
                Reservation::Done => {
                    let said = read(recipe, delivery).unwrap();
                    let is_like = |(under, before): &(&Recipe, &Delivery)| {
                        // Schemes of other contents have the body in common.
                        let said = under.content != recipe.content
                            || read(under, before).unwrap().has_values_of(&said);
                        before.body == delivery.body && said
                    };
                    let before = delivered.iter().any(is_like);
                    assert!(
                        before,
                        "{}\nnever delivered:\n{}only\n{}",
                        sender.name,
                        shown(delivery),
                        delivered.iter().map(|(_, before)| shown(before)).collect::<String>()
                    );
                }
            }
        }
        accepted
    });
}

fn memory() -> ReplayStore {
    let second = Duration::from_secs(1);
    let policy = ReplayPolicy::new(DAY, Duration::from_secs(3600), second, second).unwrap();
    ReplayStore::Memory(Memory::new(policy, DAY, 1000))
}
