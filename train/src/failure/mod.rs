//! What can go wrong, and whose mistake it was.
//!
//! **Invariant.** Whatever fails in this crate becomes a [`Failure`], and only an error type that
//! says whose mistake it is ([`Blamed`], beside its definition) turns into one: one that was
//! forgotten does not compile.

mod foreign;

pub(crate) use foreign::of_reading;

use std::fmt::{self, Display};

/// Whose mistake an error is; the exit code of the program says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The user's: the command line, the configuration or the data is wrong.
    User,
    /// Nobody's who could have known: files, a full disk, a damaged checkpoint, a lost rank.
    Run,
}

/// An error that says whose mistake it is.
pub trait Blamed: std::error::Error + Send + Sync + 'static {
    /// Whose.
    fn blame(&self) -> Blame;
}

/// `blamed!(User: A, B)` implements [`Blamed`] for error types that are always the same one's
/// mistake.
macro_rules! blamed {
    ($blame:ident: $($error:ty),+ $(,)?) => {
        $(impl $crate::failure::Blamed for $error {
            fn blame(&self) -> $crate::failure::Blame {
                $crate::failure::Blame::$blame
            }
        })+
    };
}
pub(crate) use blamed;

/// A mistake of the user that no other error type names.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

blamed!(User: UsageError);

/// An error with its causes and what was being done, and whose mistake it was.
pub struct Failure {
    blame: Blame,
    error: anyhow::Error,
}

/// A result whose error says whose mistake it was.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure of the run that no error type names.
    pub fn new(message: impl Into<String>) -> Self {
        Self { blame: Blame::Run, error: anyhow::Error::msg(message.into()) }
    }

    /// Whose mistake it was.
    pub fn blame(&self) -> Blame {
        self.blame
    }

    /// What was being done when it happened.
    pub fn context(self, context: impl Display + Send + Sync + 'static) -> Self {
        Self { error: self.error.context(context), ..self }
    }

    /// Whether the error in it is of a type.
    pub fn is<E: Blamed>(&self) -> bool {
        self.error.is::<E>()
    }

    /// The error in it where that is of a type.
    pub fn downcast_ref<E: Blamed>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// The contexts, the last first, then the error and its causes.
    pub fn chain(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        self.error.chain()
    }
}

/// The failure and its causes on one line, joined by `: `; a list in one of them (lines that begin
/// with `- `) has its lines.
pub fn line_of(failure: &Failure) -> String {
    let mut line = String::new();
    for cause in failure.chain() {
        let mut text = String::new();
        for part in cause.to_string().lines().map(str::trim).filter(|part| !part.is_empty()) {
            let gap = match part {
                _ if text.is_empty() => "",
                _ if part.starts_with("- ") => "\n  ",
                _ => " ",
            };
            text = text + gap + part;
        }
        // Some errors already quote their cause.
        if line.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

impl<E: Blamed> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { blame: error.blame(), error: error.into() }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.error, f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

/// Says what was being done where something fails, or is not there.
pub trait Context<T> {
    /// What is here, or a failure in this context.
    ///
    /// # Errors
    /// Nothing is here.
    fn context(self, context: impl Display + Send + Sync + 'static) -> Result<T>;

    /// What is here, or a failure in a context that is put together only then.
    ///
    /// # Errors
    /// Nothing is here.
    fn with_context<C: Display + Send + Sync + 'static>(
        self,
        context: impl FnOnce() -> C,
    ) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, context: impl Display + Send + Sync + 'static) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }

    fn with_context<C: Display + Send + Sync + 'static>(
        self,
        context: impl FnOnce() -> C,
    ) -> Result<T> {
        self.map_err(|error| error.into().context(context()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, context: impl Display + Send + Sync + 'static) -> Result<T> {
        self.ok_or_else(|| Failure::new(context.to_string()))
    }

    fn with_context<C: Display + Send + Sync + 'static>(
        self,
        context: impl FnOnce() -> C,
    ) -> Result<T> {
        self.ok_or_else(|| Failure::new(context().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_changes_nothing_of_whose_mistake_it_was() {
        let usage = Err::<(), _>(UsageError("no".into())).context("while starting").unwrap_err();
        assert_eq!(
            (usage.blame(), format!("{usage:#}")),
            (Blame::User, "while starting: no".into())
        );
        assert!(usage.downcast_ref::<UsageError>().is_some());
        let disk = Failure::from(std::io::Error::other("disk full")).context("runs/a");
        assert_eq!((disk.blame(), disk.to_string()), (Blame::Run, "runs/a".into()));
        let absent = None::<()>.with_context(|| "nothing here").unwrap_err();
        assert_eq!((absent.blame(), absent.to_string()), (Blame::Run, "nothing here".into()));
    }
}
