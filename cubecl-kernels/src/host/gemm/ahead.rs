//! What is packed next: its lines are asked for while tiles are computed, which need little more
//! than the first caches.

use std::ops::Range;

use super::source::Source;
use crate::host::simd::{LINE_BYTES, prefetch_later};

/// Entries of an operand, of which some lines have been asked for.
pub(super) struct Ahead {
    /// The row that is next.
    row: *const u8,
    /// Bytes from one row to the next.
    row_bytes: usize,
    rows_left: usize,
    /// The line of it that is next.
    line: usize,
    /// Lines of a row.
    lines: usize,
    /// How many are asked for at a time.
    at_once: usize,
}

impl Ahead {
    /// Nothing.
    pub(super) const NONE: Self =
        Self { row: std::ptr::null(), row_bytes: 0, rows_left: 0, line: 0, lines: 0, at_once: 0 };

    /// These entries, all of which have been asked for after `times` times.
    #[inline(always)]
    pub(super) fn new(
        source: &Source<'_>,
        rows: Range<usize>,
        depth: Range<usize>,
        times: usize,
    ) -> Self {
        let Some(place) = source.in_order(rows.start, depth.start) else { return Self::NONE };
        let lines = (depth.len() * place.entry_bytes).div_ceil(LINE_BYTES);
        let at_once = (rows.len() * lines).div_ceil(times.max(1));
        let (row, row_bytes) = (place.first, place.row_bytes);
        Self { row, row_bytes, rows_left: rows.len(), line: 0, lines, at_once }
    }

    /// Asks for some more.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        for _ in 0..self.at_once {
            if self.rows_left == 0 {
                self.at_once = 0;
                return;
            }
            prefetch_later(self.row.wrapping_add(self.line * LINE_BYTES));
            self.line += 1;
            if self.line == self.lines {
                self.line = 0;
                self.rows_left -= 1;
                self.row = self.row.wrapping_add(self.row_bytes);
            }
        }
    }
}
