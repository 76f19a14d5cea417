//! What users write before a gate runs. The files beside this one are its examples: `good/`
//! loads, and each file of `bad/` has one fault.

#![allow(clippy::unwrap_used)]

// The commands of the sender's side.
mod commands;
// Configuration files and flags, and what is said about their faults.
mod files;
// What a newcomer gets wrong, and the answers.
mod newcomer;
// What is known of the senders of the presets.
mod senders;
// What is valid and will not work.
mod told;
