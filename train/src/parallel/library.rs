//! The library that joins processes, by what it says of itself.

use std::fmt;

use serde::Serialize;

/// The MPI library of this build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    /// Its name and version, in its own words.
    pub name: String,
    /// Whether it takes the memory of CUDA devices, where it says so.
    pub cuda_aware: Option<bool>,
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cuda_aware } = self;
        let cuda = match cuda_aware {
            Some(true) => "CUDA-aware",
            Some(false) => "not CUDA-aware",
            None => "which does not say whether it is CUDA-aware",
        };
        write!(f, "{name}, {cuda}; a GPU's tensors go through the host's memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_denied() {
        let said = |cuda_aware| Library { name: "Open MPI v4.1.4".into(), cuda_aware }.to_string();
        assert!(said(Some(true)).starts_with("Open MPI v4.1.4, CUDA-aware; "));
        assert!(said(Some(false)).starts_with("Open MPI v4.1.4, not CUDA-aware; "));
        assert!(said(None).contains("does not say"));
    }
}
