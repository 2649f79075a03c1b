//! From a source to its streams of tokens: taken from the cache, or made and kept there.

use std::path::PathBuf;

use super::cache::{Found, StreamFacts, TokenCache, TokenWriter};
use super::error::DataError;
use super::pack::{FimRate, Packing, Sides, pack};
use super::source::PassedOver;
use super::split::{Side, SplitMethod, SplitPlan, check_fraction};
use super::tokenize::tokenize;
use super::tokenizer::Tokenizer;
use super::tokens::{Tokens, Width};
use super::walk::{Facts, Walk};
use super::watch::{Stage, Unwatched, Watch};

/// Of everything that decides which tokens come of which text but is no setting. It must change
/// with the code that decides it.
const TOKENS_VERSION: &str = "1";

/// How data is opened.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// Folder in which tokens are kept from one start to the next. Without one they are made each
    /// time, and held in memory.
    pub cache: Option<&'a std::path::Path>,
    /// The tokenizer, instead of the one that the configuration names.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Threads that tokenize.
    pub threads: usize,
    /// Who is told how it goes.
    pub watch: &'a dyn Watch,
}

/// Nothing kept, nobody told, all cores.
impl Default for Opening<'_> {
    fn default() -> Self {
        Self {
            cache: None,
            tokenizer: None,
            threads: rayon::current_num_threads(),
            watch: &Unwatched,
        }
    }
}

/// How the documents of a source are divided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Division {
    /// Not: all are for one side.
    Whole(Side),
    /// In two.
    Split {
        /// How.
        method: SplitMethod,
        /// The share for validation.
        valid_fraction: f64,
    },
}

/// What is to be made of a source.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) walk: &'a Walk,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) division: Division,
    pub(super) fim: FimRate,
    pub(super) split_seed: u64,
    pub(super) weight_seed: u64,
    /// What the content of the source is; without it nothing is kept.
    pub(super) content: Option<String>,
}

/// Tokens of a side, and what they came from.
#[derive(Debug, Clone)]
pub(super) struct TokenStream {
    pub(super) tokens: Tokens,
    pub(super) facts: StreamFacts,
    /// -ln p of all documents together, in nats, where it is known and no document was rearranged.
    pub(super) nats: Option<f64>,
}

/// The streams of a source; of the sides that it has documents for.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) train: Option<TokenStream>,
    pub(super) valid: Option<TokenStream>,
}

/// What stops the making of streams.
enum Stopped {
    /// The data.
    Data(DataError),
    /// The cache cannot be written.
    Cache(std::io::Error),
}

impl From<DataError> for Stopped {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::Cache(error)
    }
}

impl Order<'_> {
    /// Fills the order.
    ///
    /// # Errors
    /// [`DataError`] of the settings and the source. A cache that cannot be used is none: it is
    /// said, and the tokens are held in memory.
    pub(super) fn fill(&self, opening: &Opening<'_>) -> Result<Streams, DataError> {
        if let Division::Split { valid_fraction, .. } = self.division {
            check_fraction(valid_fraction)?;
        }
        self.fim.marks(self.tokenizer)?;
        let keys = self.content.as_ref().map(|content| self.keys(content));
        let cache = opening.cache.map(|folder| TokenCache::new(folder.to_path_buf())).zip(keys);
        if let Some((cache, keys)) = &cache
            && let Some(streams) = self.kept(cache, keys, opening.watch)
        {
            return Ok(streams);
        }
        let facts = self.walk.facts(self.split_seed, opening.watch)?;
        let made = |writers| self.make(&facts, writers, opening);
        if let Some((cache, keys)) = &cache {
            let made = self
                .begin(|side| cache.begin(keys.of(side), self.width()))
                .map_err(Stopped::from)
                .and_then(made);
            match made {
                Ok(streams) => return Ok(streams),
                Err(Stopped::Data(error)) => return Err(error),
                Err(Stopped::Cache(error)) => opening.watch.note(&format!(
                    "{}: tokens cannot be kept ({error}); they are held in memory",
                    cache.folder().display()
                )),
            }
        }
        let writers = self.begin(|_| Ok(TokenWriter::in_memory(self.width())));
        match writers.map_err(Stopped::from).and_then(made) {
            Ok(streams) => Ok(streams),
            Err(Stopped::Data(error)) => Err(error),
            Err(Stopped::Cache(error)) => Err(DataError::read(PathBuf::from("memory"), error)),
        }
    }

    fn width(&self) -> Width {
        Width::of(self.tokenizer.vocab_size())
    }

    /// Whether the source has documents for a side.
    fn has(&self, side: Side) -> bool {
        match self.division {
            Division::Whole(whole) => whole == side,
            Division::Split { .. } => true,
        }
    }

    fn keys(&self, content: &str) -> Keys {
        let of = |side: Side| {
            let all = format!(
                "{TOKENS_VERSION}\n{side:?}\n{:?}\n{:?}\n{:?} {:?}\n{}\n{content}",
                self.division,
                self.fim,
                self.split_seed,
                self.weight_seed,
                self.tokenizer.identity(),
            );
            blake3::hash(all.as_bytes()).to_hex()[..32].to_string()
        };
        Keys { train: of(Side::Train), valid: of(Side::Valid) }
    }

    /// The streams as the cache has them, where it has all of them.
    fn kept(&self, cache: &TokenCache, keys: &Keys, watch: &dyn Watch) -> Option<Streams> {
        let mut streams = Streams::default();
        for side in [Side::Train, Side::Valid] {
            if !self.has(side) {
                continue;
            }
            match cache.find(keys.of(side)) {
                Found::Hit(tokens, facts) => {
                    *streams.of(side) = Some(TokenStream { tokens, facts, nats: None });
                }
                Found::Nothing => return None,
                Found::Damaged(path, problem) => {
                    let path = path.display();
                    watch.note(&format!("{path}: {problem}; the tokens are made again"));
                    return None;
                }
            }
        }
        Some(streams)
    }

    fn begin(
        &self,
        writer: impl Fn(Side) -> std::io::Result<TokenWriter>,
    ) -> std::io::Result<Sides<Option<TokenWriter>>> {
        let of = |side| self.has(side).then(|| writer(side)).transpose();
        Ok(Sides { train: of(Side::Train)?, valid: of(Side::Valid)? })
    }

    /// Divides, tokenizes and writes.
    fn make(
        &self,
        facts: &Facts,
        mut writers: Sides<Option<TokenWriter>>,
        opening: &Opening<'_>,
    ) -> Result<Streams, Stopped> {
        let plan = match self.division {
            Division::Whole(side) => SplitPlan::Whole(side),
            Division::Split { method, valid_fraction } => {
                SplitPlan::new(&facts.documents, method, valid_fraction)?
            }
        };
        let marks = self.fim.marks(self.tokenizer)?;
        let packing = Packing { plan, fim: self.fim, marks, weight_seed: self.weight_seed };
        let boundaries = self.tokenizer.boundaries();
        let total = facts.bytes();
        let mut done = 0;
        let counts = tokenize(
            self.tokenizer,
            marks,
            opening.threads,
            |jobs| pack(self.walk, facts, packing, boundaries, jobs),
            |encoded| -> Result<(), Stopped> {
                let Sides { train, valid } = &mut writers;
                for (writer, tokens) in
                    [(train, &encoded.tokens.train), (valid, &encoded.tokens.valid)]
                {
                    if let Some(writer) = writer {
                        writer.push(tokens)?;
                    }
                }
                done += encoded.bytes as u64;
                opening.watch.progress(Stage::Tokenizing, done, total.max(done));
                Ok(())
            },
        )?;
        let mut streams = Streams::default();
        for (side, writer, counts) in
            [(Side::Train, writers.train, counts.train), (Side::Valid, writers.valid, counts.valid)]
        {
            let Some(writer) = writer else { continue };
            if counts.documents == 0 {
                // A position inside the text's first or last character.
                return Err(plan.leaves_empty(side, facts.documents.len()).into());
            }
            let stream_facts = StreamFacts {
                documents: counts.documents,
                bytes: counts.bytes,
                fim_documents: counts.fim_documents,
                passed: facts.passed,
            };
            let nats = self.nats(facts, plan, side).filter(|_| counts.fim_documents == 0);
            let tokens = writer.finish(stream_facts)?;
            *streams.of(side) = Some(TokenStream { tokens, facts: stream_facts, nats });
        }
        Ok(streams)
    }

    /// -ln p of the documents of a side, where they were generated and are whole.
    fn nats(&self, facts: &Facts, plan: SplitPlan, side: Side) -> Option<f64> {
        let Walk::Builtin(documents) = self.walk else { return None };
        if matches!(plan, SplitPlan::Inside(_)) {
            return None;
        }
        let of_side = documents
            .iter()
            .zip(&facts.documents)
            .enumerate()
            .filter(|(index, (_, facts))| plan.side(*index, facts) == side);
        Some(of_side.map(|(_, (document, _))| -document.log_prob).sum())
    }
}

impl Streams {
    fn of(&mut self, side: Side) -> &mut Option<TokenStream> {
        match side {
            Side::Train => &mut self.train,
            Side::Valid => &mut self.valid,
        }
    }

    /// What was passed over in the source.
    pub(super) fn passed(&self) -> PassedOver {
        let stream = self.train.as_ref().or(self.valid.as_ref());
        stream.map(|stream| stream.facts.passed).unwrap_or_default()
    }
}

/// The names of the streams in the cache.
#[derive(Debug)]
struct Keys {
    train: String,
    valid: String,
}

impl Keys {
    fn of(&self, side: Side) -> &str {
        match side {
            Side::Train => &self.train,
            Side::Valid => &self.valid,
        }
    }
}
