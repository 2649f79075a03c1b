//! What is packed next: its lines are asked for while tiles are computed, which need little more
//! than the first caches. Packing would wait for each of them.

use std::ops::Range;

use super::source::Source;
use crate::host::simd::{LINE_BYTES, prefetch_later};

/// The lines of some entries of an operand that have not been asked for.
pub(super) struct Ahead {
    /// The row that is next.
    row: *const u8,
    /// Bytes from one row to the next.
    row_bytes: usize,
    rows_left: usize,
    /// The line of the row that is next.
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

    /// These entries, all of which have been asked for after `times` times; nothing of an operand
    /// whose rows lie side by side, which asks for itself. `depth` starts at a multiple of 4.
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
        let rows_left = if lines == 0 { 0 } else { rows.len() };
        Self { row: place.first, row_bytes: place.row_bytes, rows_left, line: 0, lines, at_once }
    }

    /// Asks for some more.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        for _ in 0..self.at_once {
            match self.next_line() {
                Some(line) => prefetch_later(line),
                None => return,
            }
        }
    }

    /// The next line, if there is one.
    #[inline(always)]
    fn next_line(&mut self) -> Option<*const u8> {
        if self.rows_left == 0 {
            return None;
        }
        let line = self.row.wrapping_add(self.line * LINE_BYTES);
        self.line += 1;
        if self.line == self.lines {
            self.line = 0;
            self.rows_left -= 1;
            self.row = self.row.wrapping_add(self.row_bytes);
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Floats, Taken};
    use super::*;

    #[test]
    fn every_line_is_asked_for_in_time() {
        let numbers = [0.0f32; 50 * 300];
        let floats = Floats::new(&numbers, 50, 290, 300, Taken::Whole);
        for times in [1, 7, 24, 1000] {
            let mut ahead = Ahead::new(&Source::Floats(floats), 3..40, 128..290, times);
            let mut lines = Vec::new();
            for _ in 0..times * ahead.at_once {
                lines.extend(ahead.next_line());
            }
            // 162 numbers a row: ten lines and a half.
            assert_eq!(lines.len(), 37 * 11, "{times}");
            for (i, line) in lines.into_iter().enumerate() {
                let first = floats.at(3 + i / 11, 128).cast::<u8>();
                assert_eq!(line, first.wrapping_add(i % 11 * LINE_BYTES));
            }
            assert_eq!(ahead.next_line(), None);
        }
    }

    #[test]
    fn rows_side_by_side_and_no_depth_have_none() {
        let numbers = [0.0f32; 300];
        let floats = Floats::new(&numbers, 10, 30, 30, Taken::Whole);
        let next = |source, depth| Ahead::new(&Source::Floats(source), 0..10, depth, 4).next_line();
        assert_eq!(next(floats.t(), 0..10), None);
        assert_eq!(next(floats, 0..0), None);
        let mut none = Ahead::NONE;
        assert_eq!(none.next_line(), None);
    }
}
