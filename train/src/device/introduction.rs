//! What a rank says to a worker before it is let in, beside the token: lines of text, as Burn's
//! client sends one credential.

use super::worker::Token;

/// Digits of a training's secret.
const SECRET_DIGITS: usize = 32;

/// What a rank says of its training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The rank's number, which gives it a session of its own.
    pub rank: usize,
    /// The training's secret, hexadecimal: what its workers know each other by.
    pub training: String,
    /// Where all workers of the training are; they dial no others.
    pub workers: Vec<String>,
}

impl Introduction {
    /// The credential: the token on the first line, then this.
    pub fn credential(&self, token: Option<&Token>) -> String {
        let Self { rank, training, workers } = self;
        let token = token.map_or("", Token::reveal);
        let mut credential = format!("{token}\nrank {rank}\ntraining {training}");
        for worker in workers {
            credential += &format!("\nworker {worker}");
        }
        credential
    }

    /// Reads what follows the token of a credential; none where it is not what it should be.
    pub fn read(credential: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(credential).ok()?.split('\n').skip(1);
        let rank = lines.next()?.strip_prefix("rank ")?.parse().ok()?;
        let training = lines.next()?.strip_prefix("training ")?.to_owned();
        let digits = training.bytes().filter(u8::is_ascii_hexdigit).count();
        if (digits, training.len()) != (SECRET_DIGITS, SECRET_DIGITS) {
            return None;
        }
        let workers = lines.map(|line| line.strip_prefix("worker ").map(str::to_owned));
        Some(Self { rank, training, workers: workers.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_read() {
        for workers in [vec![], vec!["ws://a:1".to_owned(), "ws://[::1]:2".to_owned()]] {
            let introduction =
                Introduction { rank: 3, training: "0123456789abcdef".repeat(2), workers };
            let credential = introduction.credential(None);
            assert_eq!(Introduction::read(credential.as_bytes()), Some(introduction));
        }
    }

    #[test]
    fn what_is_not_said_is_not_made_up() {
        let secret = "0".repeat(SECRET_DIGITS);
        for wrong in [
            String::new(),
            "token".into(),
            format!("token\ntraining {secret}"),
            format!("token\nrank x\ntraining {secret}"),
            format!("token\nrank 0\ntraining {}", &secret[1..]),
            format!("token\nrank 0\ntraining {}g", &secret[1..]),
            format!("token\nrank 0\ntraining {secret}\n"),
            format!("token\nrank 0\ntraining {secret}\nworkers ws://a:1"),
        ] {
            assert_eq!(Introduction::read(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(Introduction::read(&[b'\n', 0xff]), None);
    }
}
