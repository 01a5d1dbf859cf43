//! What a client may take of the server, besides tokens: connections, bytes of a head, and time.

use std::time::Duration;

/// Limits of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones are told 503.
    pub connections_max: usize,
    /// Bytes of a request's line and headers; longer ones are told 431.
    pub head_bytes_max: usize,
    /// Longest time for a head, and for a body; a connection that says nothing for as long is closed.
    pub read_time_max: Duration,
    /// Longest time in which a client takes nothing of what is written to it.
    pub write_time_max: Duration,
    /// Silence in a stream after which a comment is sent.
    pub silence_max: Duration,
    /// How long answers under way may go on once the server is told to end.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            head_bytes_max: 64 << 10,
            read_time_max: Duration::from_secs(30),
            write_time_max: Duration::from_secs(30),
            silence_max: Duration::from_secs(15),
            grace: Duration::from_secs(30),
        }
    }
}
