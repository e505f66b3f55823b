//! The bounded queue of payloads that wait for one peer on one lane.
//!
//! Source: none. In: payloads from any thread. Out: payloads in order, for the writer.
//! Holds: never more messages or bytes than its bounds.
//! Elsewhere: the wire (`dial`).

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::HEADER_BYTES;
use super::{Lane, Limits, Sent};

/// Payloads in order of sending.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

impl Queue {
    /// An empty queue with the bounds of `limits`.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            messages_max: limits.queue_messages_max,
            bytes_max: limits.queue_bytes_max,
        }
    }

    /// Adds `payload` as the rule of `lane` allows; gives what became of it and how many payloads
    /// were dropped.
    pub(super) fn push(&mut self, lane: Lane, payload: Bytes) -> (Sent, u64) {
        let mut dropped = 0;
        while !self.has_room(&payload) {
            // Votes are resent and the newest says most; bulk is fetched again and the oldest is
            // nearest to being used.
            match lane {
                Lane::Votes if self.pop().is_some() => dropped += 1,
                Lane::Votes | Lane::Bulk => return (Sent::Full, dropped + 1),
            }
        }
        self.bytes += cost(&payload);
        self.waiting.push_back(payload);
        let sent = if dropped == 0 {
            Sent::Queued
        } else {
            Sent::Displaced
        };
        (sent, dropped)
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let payload = self.waiting.pop_front()?;
        self.bytes -= cost(&payload);
        Some(payload)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn has_room(&self, payload: &Bytes) -> bool {
        self.waiting.len() < self.messages_max && self.bytes + cost(payload) <= self.bytes_max
    }
}

fn cost(payload: &Bytes) -> usize {
    payload.len() + HEADER_BYTES
}
