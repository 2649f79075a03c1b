//! A word of a command line as a shell reads it.

/// The word, in quotes where a shell would read it otherwise.
pub fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:=,@+%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(quoted("runs/a-001/run.toml"), "runs/a-001/run.toml");
        assert_eq!(quoted("my runs/$a"), "'my runs/$a'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(["", "a;b", "*"].map(quoted), ["''", "'a;b'", "'*'"]);
    }
}
