//! Every value of a checkpoint, read once: what is no finite number, and blocks that are zero.

use std::ops::ControlFlow;

use serde::Serialize;

use super::{Finding, Inspector};
use crate::weights::WeightsError;
use crate::weights::decode::{BLOCK, is_nan_code};
use crate::weights::listing::fold;
use crate::weights::read::Piece;
use crate::weights::stored::{StoredPart, scale_name};

/// How far the reading of a checkpoint's values is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadProgress {
    /// Bytes that were read.
    pub done_bytes: u64,
    /// Bytes that there are.
    pub total_bytes: u64,
}

/// What the values of a checkpoint are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeepInspection {
    /// Tensors with values, codes or scales that are no finite numbers.
    pub not_finite: Vec<Finding>,
    /// Matrices with blocks of 128 x 128 that are zero.
    pub zero_blocks: Vec<Finding>,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Whether that is all.
    pub complete: bool,
}

impl Inspector {
    /// Reads every value that a model would be made of. `progress` is asked after each MiB whether
    /// to go on.
    ///
    /// # Errors
    ///
    /// A read that fails.
    pub fn values(
        &self,
        progress: &mut dyn FnMut(ReadProgress) -> ControlFlow<()>,
    ) -> Result<DeepInspection, WeightsError> {
        let parts: Vec<&StoredPart> =
            self.survey.parameters.iter().flat_map(|parameter| &parameter.parts).collect();
        let bytes_of = |part: &StoredPart| (part.elements() * part.form.size_bytes()) as u64;
        let total_bytes = parts.iter().map(|part| bytes_of(part)).sum();
        let (mut bad, mut zero) = (Vec::new(), Vec::new());
        let mut done_bytes = 0;
        let mut complete = true;
        'parts: for part in parts {
            let mut tally = Tally::new(part);
            if let Some(fp8) = part.fp8() {
                tally.scales(&fp8.scales(&self.checkpoint)?);
            }
            let mut pieces = part.pieces(&self.checkpoint)?;
            while let Some(piece) = pieces.next()? {
                tally.add(&piece);
                done_bytes += piece.bytes.len() as u64;
                if progress(ReadProgress { done_bytes, total_bytes }).is_break() {
                    complete = false;
                    break 'parts;
                }
            }
            let file = self.checkpoint.file_of(&part.name);
            tally.report(&file, &mut bad, &mut zero);
        }
        let (not_finite, zero_blocks) = (folded("NaN", bad), folded("zero", zero));
        Ok(DeepInspection { not_finite, zero_blocks, read_bytes: done_bytes, complete })
    }
}

/// One tensor in which something was found.
struct Found {
    name: String,
    file: String,
    /// What, as `NaN codes`.
    what: &'static str,
    count: usize,
    /// Where first, or of how many.
    detail: String,
}

/// One finding for tensors whose names differ in their numbers alone.
fn folded(kind: &'static str, found: Vec<Found>) -> Vec<Finding> {
    let groups = fold(found.iter().map(|found| (found.what, found.name.as_str())));
    let findings = groups.into_iter().map(|group| {
        let first = &found[group.members[0]];
        let count: usize = group.members.iter().map(|&member| found[member].count).sum();
        let text = match group.members.len() {
            1 => format!(
                "{} ({}) holds {count} {}{}",
                first.name, first.file, first.what, first.detail
            ),
            tensors => format!(
                "{} hold {count} {} ({tensors} tensors); {} ({}) has {}{}",
                group.name, first.what, first.name, first.file, first.count, first.detail
            ),
        };
        Finding { kind, name: group.name, tensors: group.members.len(), text }
    });
    findings.collect()
}

/// What is counted of one tensor.
struct Tally<'a> {
    part: &'a StoredPart,
    nan_codes: Count,
    nan: Count,
    infinite: Count,
    bad_scales: Count,
    /// Of the row of blocks that is being read, which have a value that is not zero; of a vector
    /// nothing.
    nonzero: Vec<bool>,
    rows_seen: usize,
    zero_blocks: usize,
    blocks: usize,
}

/// How often, and where first.
#[derive(Default)]
struct Count {
    count: usize,
    first: usize,
}

impl Count {
    fn add(&mut self, element: usize) {
        if self.count == 0 {
            self.first = element;
        }
        self.count += 1;
    }
}

impl<'a> Tally<'a> {
    fn new(part: &'a StoredPart) -> Self {
        let [_, columns] = part.blocks();
        Self {
            part,
            nan_codes: Count::default(),
            nan: Count::default(),
            infinite: Count::default(),
            bad_scales: Count::default(),
            nonzero: vec![false; if part.shape.len() < 2 { 0 } else { columns }],
            rows_seen: 0,
            zero_blocks: 0,
            blocks: 0,
        }
    }

    fn scales(&mut self, scales: &[f32]) {
        let bad = scales.iter().enumerate().filter(|(_, scale)| !scale.is_finite());
        bad.for_each(|(index, _)| self.bad_scales.add(index));
    }

    fn add(&mut self, piece: &Piece<'_>) {
        let is_fp8 = self.part.fp8().is_some();
        if piece.values.iter().fold(false, |bad, value| bad | !value.is_finite()) {
            for (i, value) in piece.values.iter().enumerate().filter(|(_, v)| !v.is_finite()) {
                let count = match value.is_nan() {
                    true if is_fp8 && is_nan_code(piece.bytes[i]) => &mut self.nan_codes,
                    true => &mut self.nan,
                    false => &mut self.infinite,
                };
                count.add(piece.first + i);
            }
        }
        for row in piece.values.chunks(self.part.columns) {
            for (nonzero, block) in self.nonzero.iter_mut().zip(row.chunks(BLOCK)) {
                *nonzero |= block.iter().fold(false, |any, &value| any | (value != 0.0));
            }
            self.rows_seen += 1;
            let in_matrix = self.rows_seen % self.part.rows;
            if in_matrix == 0 || in_matrix.is_multiple_of(BLOCK) {
                self.blocks += self.nonzero.len();
                self.zero_blocks += self.nonzero.iter().filter(|nonzero| !**nonzero).count();
                self.nonzero.fill(false);
            }
        }
    }

    fn report(self, file: &str, bad: &mut Vec<Found>, zero: &mut Vec<Found>) {
        let found = |name: &str, what, count: &Count, position: Vec<usize>| Found {
            name: name.to_string(),
            file: file.to_string(),
            what,
            count: count.count,
            detail: format!(", the first at {position:?}"),
        };
        let name = &self.part.name;
        for (what, count) in [
            ("NaN codes", &self.nan_codes),
            ("NaN", &self.nan),
            ("infinite values", &self.infinite),
        ] {
            if count.count > 0 {
                bad.push(found(name, what, count, self.part.position(count.first)));
            }
        }
        if self.bad_scales.count > 0 {
            let [rows, columns] = self.part.blocks();
            let first = self.bad_scales.first;
            let place = vec![first / columns.max(1) % rows.max(1), first % columns.max(1)];
            bad.push(found(
                &scale_name(name),
                "scales that are not finite",
                &self.bad_scales,
                place,
            ));
        }
        if self.zero_blocks > 0 {
            zero.push(Found {
                name: name.clone(),
                file: file.to_string(),
                what: "blocks of zeros",
                count: self.zero_blocks,
                detail: format!(" of {}", self.blocks),
            });
        }
    }
}
