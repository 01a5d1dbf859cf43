//! Says what a turn gives as it comes: answers on stdout, thoughts dimmed on stderr, or events as lines of JSON.

use std::io::{self, IsTerminal, Write};

use anstyle::Style;

use super::Failure;
use crate::exit::Exit;
use crate::generate::harmony::{Message, Mode, Problem, Role, StreamParser};
use crate::generate::stop::{FinishReason, Stop};
use crate::generate::tokenizer::{StreamDecoder, Tokenizer};
use crate::generate::turn::Chosen;

/// Where a turn's tokens go.
pub(super) struct Speaker {
    tokenizer: Tokenizer,
    /// Of a conversation.
    parser: Option<StreamParser>,
    /// Of plain text.
    decoder: StreamDecoder,
    json: bool,
    thoughts: bool,
    /// Where the last piece belonged.
    place: String,
}

impl Speaker {
    /// `parsed`: the tokens are an assistant's messages.  `thoughts`: show what is not the answer.
    pub(super) fn new(tokenizer: Tokenizer, parsed: bool, json: bool, thoughts: bool) -> Self {
        let parser = parsed.then(|| StreamParser::new(tokenizer, Mode::Lenient, Some(Role::Assistant)));
        Self { tokenizer, parser, decoder: tokenizer.stream(), json, thoughts, place: String::new() }
    }

    /// The channel of a message, with whom it is for.
    fn place_of(parser: &StreamParser) -> String {
        let channel = parser.current_channel().unwrap_or("final");
        match parser.current_recipient() {
            Some(to) => format!("{channel} to={to}"),
            None => channel.into(),
        }
    }

    /// Takes a token; why the turn ends here, if it does.
    pub(super) fn token(&mut self, chosen: &Chosen, stop: &mut Stop) -> Result<Option<FinishReason>, Failure> {
        let (place, text) = match &mut self.parser {
            None => ("text".to_string(), self.decoder.push(chosen.id).unwrap_or_default()),
            Some(parser) => {
                // Lenient: nothing is refused.
                let _ = parser.process(chosen.id);
                (Self::place_of(parser), parser.last_delta().unwrap_or_default().to_string())
            }
        };
        // Strings end the answer, not the thoughts before it.
        let answers = matches!(place.as_str(), "text" | "final");
        let mut shown = Vec::new();
        let reason = stop.step(chosen.id, if answers { text.as_bytes() } else { b"" }, &mut shown);
        let shown = if answers { String::from_utf8_lossy(&shown).into_owned() } else { text };
        self.say(Some(chosen), &place, &shown)?;
        Ok(reason)
    }

    /// The turn is over: what was held back is said.
    pub(super) fn end(&mut self, stop: &mut Stop) -> Result<(), Failure> {
        let mut held = Vec::new();
        stop.cancel(&mut held);
        let mut text = String::from_utf8_lossy(&held).into_owned();
        let place = match &mut self.parser {
            None => {
                text += &self.decoder.finish();
                "text".to_string()
            }
            Some(parser) => {
                let place = Self::place_of(parser);
                let _ = parser.finish();
                place
            }
        };
        self.say(None, &place, &text)
    }

    /// The messages, after the end, and what was wrong with them.
    pub(super) fn into_messages(self) -> (Vec<Message>, Vec<Problem>) {
        match self.parser {
            None => Default::default(),
            Some(parser) => {
                let problems = parser.problems().to_vec();
                (parser.into_messages(), problems)
            }
        }
    }

    fn say(&mut self, chosen: Option<&Chosen>, place: &str, text: &str) -> Result<(), Failure> {
        let said = match (self.json, chosen) {
            (true, Some(chosen)) => {
                let piece = self.tokenizer.decode(&[chosen.id]).unwrap_or_default();
                let event = serde_json::json!({
                    "event": "token", "id": chosen.id, "piece": piece, "place": place, "text": text,
                });
                line(&event.to_string())
            }
            (true, None) if text.is_empty() => Ok(()),
            (true, None) => line(&serde_json::json!({ "event": "text", "place": place, "text": text }).to_string()),
            (false, _) if text.is_empty() => Ok(()),
            (false, _) if matches!(place, "text" | "final") => self.answer(place, text),
            (false, _) => self.thought(place, text),
        };
        match said {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Internal, format!("stdout: {error}"), "check where the output goes"))
            }
            // Whoever read has gone: there is nobody to go on for.
            Err(error) => Err(Failure::new(Exit::Interrupted, error, "read all of the output")),
            Ok(()) => Ok(()),
        }
    }

    fn answer(&mut self, place: &str, text: &str) -> io::Result<()> {
        if self.place != place && !self.place.is_empty() && self.thoughts {
            eprintln!();
        }
        self.place = place.into();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn thought(&mut self, place: &str, text: &str) -> io::Result<()> {
        if self.thoughts {
            let dim = if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) {
                Style::new().dimmed()
            } else {
                Style::new()
            };
            if self.place != place {
                let start = if self.place.is_empty() { "" } else { "\n" };
                eprint!("{start}{dim}[{place}]{dim:#} ");
            }
            eprint!("{dim}{text}{dim:#}");
        }
        self.place = place.into();
        Ok(())
    }
}

fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}
