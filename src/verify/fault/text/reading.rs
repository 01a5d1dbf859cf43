//! Wrong readings of what a model wrote, and wrong ends of its turns.

use super::{Fault, Wrong};
use crate::generate::tokenizer::special;
use crate::verify::cases::text::harmony::turn_with;

/// Every one.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "harmony/end-ends-the-turn",
        about: "`<|end|>` taken for the end of the turn: a thought, and no answer",
        wrong: Wrong::Turn(|ids| turn_with(&[special::RETURN, special::CALL, special::END], ids)),
    },
    Fault {
        name: "harmony/call-ends-no-turn",
        about: "`<|call|>` not taken for an end: the model answers its own call",
        wrong: Wrong::Turn(|ids| turn_with(&[special::RETURN], ids)),
    },
    Fault {
        name: "harmony/return-ends-no-turn",
        about: "`<|return|>` not taken for an end: the model speaks for the user",
        wrong: Wrong::Turn(|ids| turn_with(&[special::CALL], ids)),
    },
    Fault {
        name: "harmony/thought-lost",
        about: "a thought is read and thrown away",
        wrong: Wrong::Reading(|mut messages| {
            messages.retain(|message| message.channel.as_deref() != Some("analysis"));
            messages
        }),
    },
    Fault {
        name: "harmony/call-read-as-text",
        about: "the recipient of a call is passed over",
        wrong: Wrong::Reading(|mut messages| {
            messages.iter_mut().for_each(|message| message.recipient = None);
            messages
        }),
    },
    Fault {
        name: "harmony/later-messages-lost",
        about: "only the first message of a stream is kept",
        wrong: Wrong::Reading(|mut messages| {
            messages.truncate(1);
            messages
        }),
    },
];
