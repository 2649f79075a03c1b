//! What the microscope cannot be asked.

use burn_deepseek::UnsupportedPrecision;
use burn_deepseek::routing::RoutingChangeError;

use crate::failure::blamed;

/// A question that has no answer; each is a sentence for people.
#[derive(Debug, thiserror::Error)]
pub enum MicroscopeError {
    /// Nothing in the text would be predicted.
    #[error("the text has no token to predict; give at least a few characters")]
    NoText,
    /// The text does not fit.
    #[error("the text has {tokens} tokens; {limit} are the most ({why}); give a shorter one")]
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The most there may be.
        limit: usize,
        /// Where that comes from.
        why: &'static str,
    },
    /// The routers cannot choose so.
    #[error("{0}")]
    Change(#[from] RoutingChangeError),
    /// A device without the operations of a precision.
    #[error("{0}")]
    Precision(#[from] UnsupportedPrecision),
    /// Two checkpoints that read text differently.
    #[error("the other checkpoint has another tokenizer: its tokens cannot be laid beside these")]
    OtherTokenizer,
    /// Two checkpoints whose layers of experts are not alike.
    #[error("the other checkpoint has {theirs}, this one {ours}: they cannot be laid side by side")]
    OtherExperts {
        /// What this one has.
        ours: String,
        /// What the other one has.
        theirs: String,
    },
    /// There is no run whose text could be taken.
    #[error("no run is here whose held-out text could be taken")]
    NoHeldOut,
    /// A look that is no longer kept.
    #[error("this look at the text is no longer kept; look again")]
    Forgotten,
    /// A token beyond the text.
    #[error("there is no token {token}: the text has {tokens}")]
    NoToken {
        /// The token.
        token: usize,
        /// Tokens of the text.
        tokens: usize,
    },
    /// Others are being answered.
    #[error("too many texts are waiting to be looked at; try again in a moment")]
    Busy,
    /// An expert that there is not.
    #[error("there is no expert {expert} in layer {layer}")]
    NoExpert {
        /// The layer.
        layer: usize,
        /// The expert.
        expert: usize,
    },
}

blamed!(User: MicroscopeError);
