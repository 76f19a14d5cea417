//! Replays the corpora that fuzzing has gathered: every input once, through the function that
//! [`tests/fuzz/run`](run) searches.

#![allow(clippy::unwrap_used)]

// What another parser's authors try theirs with.
mod published;
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

/// What the fuzzer does for hours, for a moment and without it: inputs of the corpus, changed at
/// random, are read by the session, httparse and llhttp in the same way.
#[test]
fn heads_that_are_changed_at_random_are_read_alike() {
    let (_, head) = targets::TARGETS.iter().find(|(name, _)| *name == "head").unwrap();
    let folder = Path::new("tests/fuzz/corpus/head").read_dir().unwrap();
    let mut inputs: Vec<_> = folder.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    inputs.sort();
    let mut state = 1_u64; // the same inputs each time
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        let mut input = inputs[random(inputs.len())].clone();
        for _ in 0..=random(3) {
            let at = random(input.len() + 1);
            let end = (at + random(3)).min(input.len());
            let piece = PIECES[random(PIECES.len())];
            input.splice(at..end, if random(4) == 0 { &[] } else { piece }.iter().copied());
        }
        head(&input);
    }
}

/// What is put into heads.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"a",
    b"\0",
    b"\x80",
    b"\"",
    b"=",
    b"/",
    b"#",
    b"chunked",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"close",
    b"0\r\n\r\n",
    b"HTTP/1.1",
];
