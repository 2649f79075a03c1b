//! Cuts documents into jobs for the tokenizer: each document is followed by the end-of-document
//! token, and there is no mask between them.

use std::sync::atomic::AtomicU64;

use super::error::DataError;
use super::fim;
use super::seeded::{Stream, derive};
use super::source::{Part, PassedOver};
use super::split::{Side, SplitPlan};
use super::tokenizer::{Boundaries, Encoder, FimTokens, Tokenizer};
use super::walk::{Facts, Walk};

/// Text that a thread is given at a time.
const JOB_BYTES: usize = 1 << 18;

/// The share of documents to rearrange for fill-in-the-middle, and the seed that picks and cuts
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct FimRate {
    /// Between 0 and 1; the report uses 0.1 (section 4.1), 0 turns it off.
    pub(super) rate: f64,
    /// Decides, with a document's index, whether and where it is cut.
    pub(super) seed: u64,
}

impl FimRate {
    /// The marks to rearrange documents with, where any are.
    ///
    /// # Errors
    /// [`DataError::Config`] where the rate is not between 0 and 1; [`DataError::Tokenizer`] where
    /// the tokenizer has no such marks and the rate is not 0.
    pub(super) fn marks(&self, tokenizer: &Tokenizer) -> Result<Option<FimTokens>, DataError> {
        let rate = self.rate;
        if !(0.0..=1.0).contains(&rate) {
            let message = format!("is {rate}; it must be between 0 (off) and 1, as 0.1");
            return Err(DataError::Config { field: "data.fim_rate", message });
        }
        if rate > 0.0 { tokenizer.fim().map(Some) } else { Ok(None) }
    }
}

/// How documents become tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    pub(super) plan: SplitPlan,
    pub(super) fim: FimRate,
    pub(super) marks: Option<FimTokens>,
    /// Picks the documents of a path whose weight is not whole.
    pub(super) weight_seed: u64,
}

/// What went to a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Documents, as often as they come.
    pub(super) documents: usize,
    /// Bytes of their text.
    pub(super) bytes: usize,
    /// Documents rearranged for fill-in-the-middle.
    pub(super) fim_documents: usize,
}

/// Something on either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sides<T> {
    pub(super) train: T,
    pub(super) valid: T,
}

impl<T> Sides<T> {
    fn of(&mut self, side: Side) -> &mut T {
        match side {
            Side::Train => &mut self.train,
            Side::Valid => &mut self.valid,
        }
    }
}

/// Text to tokenize, in order.
#[derive(Debug, Default)]
pub(super) struct Job {
    items: Vec<Item>,
    /// Bytes of text.
    pub(super) bytes: usize,
}

/// A document, or a part of one.
#[derive(Debug)]
struct Item {
    text: String,
    side: Side,
    /// What cuts the document for fill-in-the-middle.
    fim: Option<Stream>,
    /// Whether special tokens that the text spells are those tokens.
    special: bool,
    ends: bool,
}

impl Job {
    /// The tokens of each side.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] where the tokenizer fails.
    pub(super) fn encode(
        self,
        encoder: &mut Encoder<'_>,
        marks: Option<FimTokens>,
        eod: u32,
    ) -> Result<Sides<Vec<u32>>, DataError> {
        let mut sides = Sides::<Vec<u32>>::default();
        for Item { text, side, fim, special, ends } in self.items {
            let tokens = sides.of(side);
            match (fim, marks) {
                (Some(mut stream), Some(marks)) => {
                    let parts = fim::cut(&text, &mut stream);
                    fim::push_rearranged(parts, encoder, marks, tokens)?;
                }
                _ if special => encoder.append_special(&text, tokens)?,
                _ => encoder.append(&text, tokens)?,
            }
            // A chat template may have ended it already.
            if ends && !(special && tokens.last() == Some(&eod)) {
                tokens.push(eod);
            }
        }
        Ok(sides)
    }
}

/// Takes jobs, in order.
pub(super) type Jobs<'a> = dyn FnMut(Job) -> Result<(), DataError> + 'a;

/// Walks through all documents, as often as their weights say, and hands over jobs.
///
/// # Errors
/// As [`Walk::path`], and whatever `jobs` fails with.
pub(super) fn pack(
    walk: &Walk,
    facts: &Facts,
    packing: Packing,
    boundaries: Boundaries,
    jobs: &mut Jobs<'_>,
) -> Result<Sides<Counts>, DataError> {
    let mut packer = Packer {
        packing,
        facts,
        boundaries,
        jobs,
        job: Job::default(),
        counts: Sides::default(),
        document: None,
        open: None,
    };
    let mut first = 0;
    for (path, (&weight, &documents)) in walk.weights().iter().zip(&facts.of_path).enumerate() {
        let whole_passes = weight.floor();
        for pass in 0..weight.ceil() as usize {
            // The last pass of a weight that is not whole takes a share of the documents; held-out
            // ones come once.
            let share = if (pass as f64) < whole_passes { 1.0 } else { weight - whole_passes };
            let mut index = first;
            let take = Take { share, held_out: pass == 0 };
            let mut passed = PassedOver::default();
            walk.path(path, &AtomicU64::new(0), &mut passed, &mut |part| {
                packer.feed(index, take, part)?;
                index += usize::from(part.ends);
                Ok(())
            })?;
        }
        first += documents;
    }
    packer.send()?;
    Ok(packer.counts)
}

/// What a pass takes.
#[derive(Debug, Clone, Copy)]
struct Take {
    /// The share of training documents.
    share: f64,
    /// Whether held-out documents are taken.
    held_out: bool,
}

struct Packer<'a, 'b> {
    packing: Packing,
    facts: &'a Facts,
    boundaries: Boundaries,
    jobs: &'a mut Jobs<'b>,
    job: Job,
    counts: Sides<Counts>,
    document: Option<Document>,
    open: Option<Open>,
}

/// The document of the source that is being handed over.
struct Document {
    /// Bytes of it so far.
    position: u64,
    /// Where its stretches end, and the side that each goes to, the last first.
    stretches: Vec<(u64, Option<Side>)>,
}

/// A document of a side that has not ended.
struct Open {
    side: Side,
    fim: Option<Stream>,
    special: bool,
    text: String,
    /// Up to here the text has no place to cut it.
    searched: usize,
}

impl Packer<'_, '_> {
    fn feed(&mut self, index: usize, take: Take, part: Part<'_>) -> Result<(), DataError> {
        let Part { mut text, ends, special } = part;
        let mut document = match self.document.take() {
            Some(document) => document,
            None => Document { position: 0, stretches: self.stretches(index, take) },
        };
        while let Some(&(end, side)) = document.stretches.last() {
            let room = usize::try_from(end - document.position).unwrap_or(usize::MAX);
            let taken =
                if text.len() <= room { text.len() } else { text.floor_char_boundary(room) };
            if let Some(side) = side {
                self.push(side, &text[..taken], special)?;
            }
            document.position += taken as u64;
            text = &text[taken..];
            if text.is_empty() && !(ends && document.stretches.len() == 1) {
                break;
            }
            self.close()?;
            document.stretches.pop();
        }
        if ends {
            self.close()?;
        } else {
            self.document = Some(document);
        }
        Ok(())
    }

    /// Which parts of a document go where.
    fn stretches(&self, index: usize, take: Take) -> Vec<(u64, Option<Side>)> {
        let Packing { plan, weight_seed, .. } = self.packing;
        let held_out = take.held_out.then_some(Side::Valid);
        if let SplitPlan::Inside(position) = plan {
            let train = (position as f64 * take.share) as u64;
            return vec![(u64::MAX, held_out), (position, None), (train, Some(Side::Train))];
        }
        // A file that changed since it was counted may have more documents.
        let side = self.facts.documents.get(index).map(|facts| plan.side(index, facts));
        let side = match side {
            Some(Side::Valid) => held_out,
            Some(Side::Train) => {
                let drawn = Stream::new(derive(weight_seed, index as u64)).unit();
                (drawn < take.share).then_some(Side::Train)
            }
            None => None,
        };
        vec![(u64::MAX, side)]
    }

    fn push(&mut self, side: Side, text: &str, special: bool) -> Result<(), DataError> {
        if text.is_empty() {
            return Ok(());
        }
        let counts = self.counts.of(side);
        counts.bytes += text.len();
        if self.open.is_none() {
            let FimRate { rate, seed } = self.packing.fim;
            let mut stream = Stream::new(derive(seed, counts.documents as u64));
            // A conversation stays in order.
            let rearranged = side == Side::Train
                && self.packing.marks.is_some()
                && stream.unit() < rate
                && !special;
            counts.documents += 1;
            counts.fim_documents += usize::from(rearranged);
            let fim = rearranged.then_some(stream);
            self.open = Some(Open { side, fim, special, text: String::new(), searched: 0 });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.text.push_str(text);
        if open.fim.is_some() || open.special || open.text.len() < JOB_BYTES {
            return Ok(());
        }
        let Some(place) = self.boundaries.last(&open.text, open.searched) else {
            open.searched = open.text.len();
            return Ok(());
        };
        let rest = open.text.split_off(place);
        let text = std::mem::replace(&mut open.text, rest);
        open.searched = 0;
        let item = Item { text, side, fim: None, special: false, ends: false };
        self.add(item)
    }

    fn close(&mut self) -> Result<(), DataError> {
        let Some(Open { side, fim, special, text, .. }) = self.open.take() else { return Ok(()) };
        self.add(Item { text, side, fim, special, ends: true })
    }

    fn add(&mut self, item: Item) -> Result<(), DataError> {
        self.job.bytes += item.text.len();
        self.job.items.push(item);
        if self.job.bytes >= JOB_BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), DataError> {
        if self.job.items.is_empty() {
            return Ok(());
        }
        (self.jobs)(std::mem::take(&mut self.job))
    }
}

#[cfg(test)]
mod tests;
