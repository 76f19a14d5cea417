//! Replays the corpora that fuzzing has gathered: every input once, through the function that
//! [`tests/fuzz/run`](run) searches.

#![allow(clippy::unwrap_used)]

mod targets;

use std::path::Path;

#[test]
fn no_input_of_the_corpora_breaks_a_law() {
    for (name, target) in targets::TARGETS {
        let folder = Path::new("tests/fuzz/corpus").join(name);
        let mut inputs: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{name} has a corpus");
        inputs.sort();
        for path in inputs {
            println!("{}", path.display()); // shown with the panic that an input makes
            target(&std::fs::read(path).unwrap());
        }
    }
}
