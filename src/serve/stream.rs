//! An answer as server-sent events: what each piece becomes, up to `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};

use super::answer::{Answer, Piece, Usage};

/// Events of an answer: those of `first`, then those that `tell` makes of its pieces, then `[DONE]`; an error is the last one.
pub(super) fn events_of(
    answer: Answer,
    first: Vec<Event>,
    tell: impl Fn(&Piece) -> Vec<Event> + Send,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let begun = (answer, tell, VecDeque::from(first), false);
    stream::unfold(begun, |(mut answer, tell, mut ready, mut over)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((Ok(event), (answer, tell, ready, over)));
            }
            if over {
                return None;
            }
            match answer.next().await {
                Ok(piece) => {
                    over = matches!(piece, Piece::End(_));
                    ready.extend(tell(&piece));
                    ready.extend(over.then(|| Event::default().data("[DONE]")));
                }
                Err(error) => {
                    over = true;
                    ready.push_back(Event::default().data(error.json().to_string()));
                }
            }
        }
    })
}

/// An event: the shell with these fields.
pub(super) fn event(shell: &Value, fields: &[(&str, Value)]) -> Event {
    let mut value = shell.clone();
    for (name, field) in fields {
        value[*name] = field.clone();
    }
    Event::default().data(value.to_string())
}

/// The event of an answer's usage.
pub(super) fn usage_event(shell: &Value, usage: Usage) -> Event {
    event(shell, &[("choices", json!([])), ("usage", usage.json())])
}
