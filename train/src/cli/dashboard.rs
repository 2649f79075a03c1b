//! Arguments of `dashboard`: which runs are shown, and where.

use std::path::PathBuf;

use clap::Args;

use crate::device::{Token, TokenError};

/// Arguments of `dashboard`.
#[derive(Clone, Debug, Args)]
pub struct DashboardArgs {
    /// Folders of runs, or folders with runs in them.
    #[arg(value_name = "FOLDER", default_value = "runs")]
    pub folders: Vec<PathBuf>,
    /// Where to listen; port 0 takes a free one and says which. Anything but this machine's own
    /// loopback takes a token.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6007")]
    pub listen: String,
    /// File whose first line is the token to ask for.
    #[arg(long, value_name = "PATH", conflicts_with = "token_env")]
    pub token_file: Option<PathBuf>,
    /// Environment variable that holds the token to ask for.
    #[arg(long, value_name = "NAME")]
    pub token_env: Option<String>,
    /// Print a JSON object with the address on standard output when listening, and one of results
    /// as the last line.
    #[arg(long)]
    pub json: bool,
}

impl DashboardArgs {
    /// The token, where one is named.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is empty.
    pub fn token(&self) -> Result<Option<Token>, TokenError> {
        Token::from_either(self.token_file.as_deref(), self.token_env.as_deref())
    }
}
