//! Executed transactions in the order of the ledger, as a member streams them.
//!
//! Source: the EventSource section of the HTML standard. In: text. Out: [`Event`]s.
//! Holds: sequences come without a gap from the first asked for, or the stream ends with the
//! reason. Elsewhere: resuming at another member (`cli::reads`).

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::AskError;
use crate::api::{Event, Problem};

/// Bytes of one event, at most: the largest operation as hex and the rest.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// One open stream of events.
pub struct EventStream {
    pieces: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    text: Vec<u8>,
    next: u64,
}

impl EventStream {
    pub(super) fn new(
        from: u64,
        pieces: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    ) -> Self {
        Self {
            pieces,
            text: Vec::new(),
            next: from,
        }
    }

    /// The sequence of the event that comes next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next event; waits for it. Afterwards an error the stream is of no more use.
    pub async fn next(&mut self) -> Result<Event, AskError> {
        loop {
            if let Some(message) = self.cut_message() {
                match read_message(&message)? {
                    Some(event) if event.sequence == self.next => {
                        self.next += 1;
                        return Ok(event);
                    }
                    Some(event) => {
                        let (got, want) = (event.sequence, self.next);
                        let reason = format!("event {got} came where {want} was due");
                        return Err(AskError::Malformed(reason));
                    }
                    None => continue,
                }
            }
            if self.text.len() > EVENT_BYTES_MAX {
                return Err(AskError::Malformed("an event without end".into()));
            }
            match self.pieces.next().await {
                Some(Ok(piece)) => self.text.extend_from_slice(&piece),
                Some(Err(error)) => return Err(AskError::Broken(error.to_string())),
                None => return Err(AskError::Broken("the stream ended".into())),
            }
        }
    }

    /// Takes one message off the front: what ends with an empty line.
    fn cut_message(&mut self) -> Option<Vec<u8>> {
        let end = self.text.windows(2).position(|pair| pair == b"\n\n")?;
        let rest = self.text.split_off(end + 2);
        Some(std::mem::replace(&mut self.text, rest))
    }
}

/// The event of a message; nothing for comments and settings.
pub(super) fn read_message(message: &[u8]) -> Result<Option<Event>, AskError> {
    let malformed = |error: serde_json::Error| AskError::Malformed(error.to_string());
    let text = String::from_utf8_lossy(message);
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name).map(str::trim_start))
    };
    let Some(data) = field("data:") else {
        return Ok(None);
    };
    if field("event:") == Some("error") {
        let problem: Problem = serde_json::from_str(data).map_err(malformed)?;
        return Err(AskError::Problem(problem));
    }
    serde_json::from_str(data).map(Some).map_err(malformed)
}
