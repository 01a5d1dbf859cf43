//! Sequences among others whose truth is that of a wrong cache.

use super::{Fault, Wrong};

/// Every one.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "engine/lanes-mixed",
        about: "a sequence reads its neighbour's keys and values for its own prompt",
        wrong: Wrong::Alone(|prompts, which| match which {
            1 => [&prompts[2][..prompts[1].len() - 1], &prompts[1][prompts[1].len() - 1..]].concat(),
            _ => prompts[which].clone(),
        }),
    },
    Fault {
        name: "engine/prefix-one-long",
        about: "the next turn reuses one token more than the caches hold: the answer's last, which was never run",
        wrong: Wrong::Alone(|prompts, which| {
            let mut prompt = prompts[which].clone();
            if which == prompts.len() - 1 {
                // Behind the last token of the answer come five of the next turn.
                prompt.remove(prompt.len() - 6);
            }
            prompt
        }),
    },
];
