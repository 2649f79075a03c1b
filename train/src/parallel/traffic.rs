//! Bytes of rows that cross the links between ranks that share experts, beside those that a direct
//! route would have sent (3.2.2).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Bytes by kind of link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkBytes {
    /// Between ranks of one node.
    pub fast_bytes: u64,
    /// Between nodes.
    pub slow_bytes: u64,
}

/// Bytes of an exchange: rows and gate values, not the few numbers that say which is whose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExchangeBytes {
    /// The bytes that were sent.
    pub sent: LinkBytes,
    /// The bytes that the direct route would have sent: a row for each expert of a token, straight
    /// to the expert's rank and straight back.
    pub direct: LinkBytes,
}

impl ExchangeBytes {
    /// Adds what other ranks sent.
    pub fn absorb(&mut self, other: &Self) {
        for (to, from) in [(&mut self.sent, &other.sent), (&mut self.direct, &other.direct)] {
            to.fast_bytes += from.fast_bytes;
            to.slow_bytes += from.slow_bytes;
        }
    }

    /// In words, of one step.
    pub fn describe(&self) -> String {
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let Self { sent, direct } = self;
        let mut text = format!(
            "{} a step between ranks of a node, {} between nodes",
            megabytes(sent.fast_bytes),
            megabytes(sent.slow_bytes)
        );
        if sent != direct {
            text += &format!(
                " (straight to each expert: {} and {})",
                megabytes(direct.fast_bytes),
                megabytes(direct.slow_bytes)
            );
        }
        text
    }
}

/// Counts the bytes of a step, from the threads of all ranks.
#[derive(Debug, Default)]
pub struct TrafficCounter {
    sent: [AtomicU64; 2],
    direct: [AtomicU64; 2],
}

/// What a rank's message crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crosses {
    /// Nothing: it is for the rank itself.
    Nothing,
    /// A link inside a node.
    Fast,
    /// A link between nodes.
    Slow,
}

impl TrafficCounter {
    /// Counts what is sent.
    pub(super) fn sent(&self, crosses: Crosses, bytes: usize) {
        add(&self.sent, crosses, bytes);
    }

    /// Counts what a direct route would send.
    pub(super) fn direct(&self, crosses: Crosses, bytes: usize) {
        add(&self.direct, crosses, bytes);
    }

    /// What has been counted since the last call.
    pub fn take(&self) -> ExchangeBytes {
        let take = |[fast, slow]: &[AtomicU64; 2]| LinkBytes {
            fast_bytes: fast.swap(0, Ordering::Relaxed),
            slow_bytes: slow.swap(0, Ordering::Relaxed),
        };
        ExchangeBytes { sent: take(&self.sent), direct: take(&self.direct) }
    }
}

fn add([fast, slow]: &[AtomicU64; 2], crosses: Crosses, bytes: usize) {
    let counter = match crosses {
        Crosses::Nothing => return,
        Crosses::Fast => fast,
        Crosses::Slow => slow,
    };
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}
