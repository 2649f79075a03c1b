//! A desk with the microscope on it, for many who ask one after another: checkpoints stay loaded,
//! looks are kept for questions about their tokens.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use burn_deepseek::weights::CONFIG_FILE;
use serde::Serialize;

use super::{Inspected, Look, Microscope, MicroscopeError, Taken, TakenTokens, TokenPath, WhatIf};
use crate::checkpoint::{self, Weights};
use crate::config::Format;
use crate::device::SelectedDevice;
use crate::failure::Result;
use crate::oversize::is_room_for;

/// Tokens of a text at most.
const MOST_TOKENS: usize = 4096;
/// Tokens of held-out text that are routed for what an expert takes.
const TAKEN_TOKENS: usize = 8192;
/// Checkpoints that stay loaded at most.
const MOST_SCOPES: usize = 2;
/// Numbers of the looks that are kept at most; the newest always is.
const MOST_NUMBERS: usize = 64 << 20;
/// Questions that wait at most, the one that is answered among them.
pub const MOST_WAITING: usize = 8;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// A run's folder (its newest checkpoint) or one checkpoint.
    pub checkpoint: PathBuf,
    /// The text.
    pub text: String,
    /// What the checkpoint is computed in; its own format where there is none.
    pub format: Option<Format>,
    /// What is to be other.
    pub what_if: Option<WhatIf>,
    /// Another checkpoint to lay beside it.
    pub other: Option<PathBuf>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// What to call the look when more is asked about it.
    pub inspection: String,
    /// The step of the checkpoint.
    pub checkpoint: Option<u64>,
    /// Indices of the MoE layers, those of MTP modules last.
    pub layers: Vec<usize>,
    /// Experts of a layer.
    pub experts: usize,
    /// Experts a token.
    pub chosen: usize,
    /// Groups of experts.
    pub groups: usize,
    /// Groups that a token may choose from.
    pub kept_groups: usize,
    /// MTP modules.
    pub mtp_depths: usize,
    /// What the base was computed in.
    pub format: &'static str,
    /// The checkpoint as it is.
    pub base: Inspected,
    /// What if.
    pub changed: Option<Inspected>,
    /// The other checkpoint.
    pub other: Option<Inspected>,
}

/// Checkpoints and looks; all is asked through a shared reference, one computation at a time.
#[derive(Debug)]
pub struct Desk {
    device: SelectedDevice,
    scopes: Mutex<VecDeque<Loaded>>,
    looks: Mutex<VecDeque<Kept>>,
    asked: AtomicUsize,
    waiting: AtomicUsize,
}

/// A checkpoint that stays loaded.
#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    /// When it was written: another may take its place.
    written: Option<SystemTime>,
    scope: Microscope,
    taken: Option<Arc<Taken>>,
}

/// A look that more may be asked about.
#[derive(Debug)]
struct Kept {
    inspection: String,
    base: Look,
    changed: Option<Look>,
}

/// A question that waits or is answered; the last one leaves when it is dropped.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Desk {
    /// An empty desk; models will be in this machine's memory, weights as pages of their files
    /// where they can be.
    pub fn on_cpu() -> Self {
        Self {
            device: SelectedDevice::flex(),
            scopes: Mutex::default(),
            looks: Mutex::default(),
            asked: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Looks at a text. Computes, so not for a thread that serves others.
    ///
    /// # Errors
    ///
    /// A checkpoint, a text or a change that does not fit; too many that wait.
    pub fn inspect(&self, question: &Question) -> Result<Answer> {
        let _turn = self.turn()?;
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = &mut self.scope(&mut scopes, &question.checkpoint)?.scope;
        let text = scope.text(&question.text, MOST_TOKENS)?;
        let own = WhatIf { format: question.format, ..WhatIf::default() };
        let base = scope.look(&text, &own, None)?;
        let changed = question.what_if.as_ref().map(|what_if| {
            let format = what_if.format.or(question.format);
            scope.look(&text, &WhatIf { format, ..what_if.clone() }, None)
        });
        let changed = changed.transpose()?;
        let other = question.other.as_ref().map(|path| {
            let path = checkpoint::find(path)?;
            let mut other = Microscope::open(&path, Weights::Trained, &self.device)?;
            scope.check_beside(&other)?;
            other.look(&text, &own, None)
        });
        let other = other.transpose()?;
        let (config, step) = (scope.config().clone(), scope.step());
        drop(scopes);
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = Answer {
            inspection: format!("{number:x}"),
            checkpoint: step,
            layers: base.layers(),
            experts: config.n_routed_experts,
            chosen: config.num_experts_per_tok,
            groups: config.n_group.max(1),
            kept_groups: config.topk_group.max(1),
            mtp_depths: base.inspection.mtp_greedy.len(),
            format: base.format,
            base: base.inspected(&text),
            changed: changed.as_ref().map(|look| look.inspected(&text)),
            other: other.map(|look| look.inspected(&text)),
        };
        self.keep(Kept { inspection: answer.inspection.clone(), base, changed });
        Ok(answer)
    }

    /// The way of one token through the layers, in a look that was taken before.
    ///
    /// # Errors
    ///
    /// A look that is not kept any more, or a token that it does not have.
    pub fn token(&self, inspection: &str, token: usize) -> Result<TokenPath> {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = looks.iter().find(|kept| kept.inspection == inspection);
        let kept = kept.ok_or(MicroscopeError::Forgotten)?;
        let tokens = kept.base.inspection.greedy.len();
        if token >= tokens {
            return Err(MicroscopeError::NoToken { token, tokens }.into());
        }
        Ok(kept.base.path(token, kept.changed.as_ref()))
    }

    /// The tokens that an expert takes of the run's held-out text. Computes when a checkpoint is
    /// first asked.
    ///
    /// # Errors
    ///
    /// A checkpoint or its data that cannot be read; an expert that there is not; too many that
    /// wait.
    pub fn expert(&self, checkpoint: &Path, layer: usize, expert: usize) -> Result<TakenTokens> {
        let _turn = self.turn()?;
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.scope(&mut scopes, checkpoint)?;
        let taken = match &loaded.taken {
            Some(taken) => taken.clone(),
            None => {
                let taken = Arc::new(loaded.scope.taken(TAKEN_TOKENS)?);
                loaded.taken = Some(taken.clone());
                taken
            }
        };
        drop(scopes);
        taken.tokens_of(layer, expert)
    }

    /// The checkpoint of a folder, loaded before or opened now.
    fn scope<'a>(&self, scopes: &'a mut VecDeque<Loaded>, folder: &Path) -> Result<&'a mut Loaded> {
        let path = checkpoint::find(folder)?;
        let written = path.join(CONFIG_FILE).metadata().and_then(|of| of.modified()).ok();
        let found =
            scopes.iter().position(|loaded| loaded.path == path && loaded.written == written);
        let loaded = match found.and_then(|at| scopes.remove(at)) {
            Some(loaded) => loaded,
            None => {
                let scope = Microscope::open(&path, Weights::Trained, &self.device)?;
                // Weights in FP32, and as much again for a pass.
                let bytes = scope.config().parameter_counts().total as u64 * 8;
                while scopes.len() >= MOST_SCOPES
                    || (!scopes.is_empty() && !is_room_for(&self.device, bytes))
                {
                    scopes.pop_back();
                }
                Loaded { path, written, scope, taken: None }
            }
        };
        scopes.push_front(loaded);
        Ok(&mut scopes[0])
    }

    fn keep(&self, kept: Kept) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.push_front(kept);
        let numbers = |look: &Look| {
            let details = look.inspection.layers.iter().filter_map(|of| of.detail.as_ref());
            details.map(|detail| detail.scores.len() + detail.kept_groups.len()).sum::<usize>()
        };
        let mut sum = 0;
        let within = looks.iter().take_while(|kept| {
            sum += numbers(&kept.base) + kept.changed.as_ref().map_or(0, numbers);
            sum <= MOST_NUMBERS
        });
        let count = within.count().max(1);
        looks.truncate(count);
    }

    /// A place among those who wait.
    fn turn(&self) -> Result<Turn<'_>> {
        let turn = Turn(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(MicroscopeError::Busy.into());
        }
        Ok(turn)
    }
}
