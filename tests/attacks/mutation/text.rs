//! Mutations of TOML, JSON and arguments by tokens: what is mutated is still nearly one of them.

use std::ops::Range;

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::{Draw, bytes};

/// Values that were wrong somewhere: too large, too small, of another type, of another meaning.
const VALUES: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "7",
    "15",
    "127",
    "128",
    "255",
    "256",
    "1000",
    "65535",
    "65536",
    "1000000",
    "16777216",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "1000000000000",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "340282366920938463463374607431768211456",
    "0.0",
    "0.1",
    "0.5",
    "0.999999999",
    "1.0",
    "1.5",
    "-0.5",
    "1e-45",
    "1e-300",
    "1e19",
    "1e30",
    "1e308",
    "1e999",
    "-1e999",
    "64.0",
    "nan",
    "inf",
    "-inf",
    "NaN",
    "Infinity",
    "null",
    "true",
    "false",
    "none",
    "[]",
    "{}",
    "[1, 2, 3]",
    "[[]]",
    "{\"a\": 1}",
    "{ a = 1 }",
    "[null]",
    "[-1]",
    "[9223372036854775807]",
    "\"\"",
    "\" \"",
    "\"none\"",
    "\"auto\"",
    "\"bytes\"",
    "\"1\"",
    "\"-1\"",
    "\"5%\"",
    "\"101%\"",
    "\"5 steps\"",
    "\"1e9 steps\"",
    "\"999999999T\"",
    "\"\\u0000\"",
    "\"\\u001b[31mred\\u001b[0m\\u0007\"",
    "\"\\u009b2J\"",
    "\"\\u202etxt\"",
    "\"a\\nb\"",
    "\"\\ud800\"",
    "\"../../../../etc/passwd\"",
    "\"/dev/zero\"",
    "\"/dev/full\"",
    "\".\"",
    "\"/nowhere/at/all\"",
    "\"ws://127.0.0.1:1\"",
    "1_000_000",
    "0x7fffffffffffffff",
    "1979-05-27T07:32:00Z",
    "'",
    "\"",
    "\"\"\"",
    "\\",
    "#",
    "//",
    "\u{feff}",
    "\u{1b}[2J",
    "\u{0}",
    "\r",
];
/// Levels of nesting, about limits of parsers and of stacks.
const DEPTHS: [usize; 8] = [3, 50, 126, 127, 128, 129, 2_000, 50_000];
/// Lengths of strings.
const LENGTHS: [usize; 4] = [60, 300, 5_000, 200_000];

/// One to four edits, most often one.
pub fn mutated(seed: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(seed).into_owned();
    let other = String::from_utf8_lossy(other);
    let edits = [1, 1, 1, 2, 3, 4][draw.random_range(0..6)];
    for _ in 0..edits {
        text = edited(&text, &other, draw);
    }
    let mut bytes_ = text.into_bytes();
    if draw.random_ratio(1, 40) {
        bytes_ = bytes::mutated(&bytes_, &[], draw);
    }
    bytes_
}

fn edited(text: &str, other: &str, draw: &mut Draw) -> String {
    let tokens = tokens(text);
    let Some(at) = tokens.choose(draw).cloned() else { return value(draw) };
    let with =
        |range: Range<usize>, new: &str| [&text[..range.start], new, &text[range.end..]].concat();
    match draw.random_range(0..13) {
        // What has a value gets another.
        0..=3 => with(valued(text, &tokens, draw).unwrap_or(at), &value(draw)),
        4 | 5 => {
            let at = valued(text, &tokens, draw).unwrap_or(at);
            let near = near(&text[at.clone()], draw);
            with(at, &near)
        }
        // Tokens of another input, or of this one.
        6 => {
            let others = self::tokens(other);
            let Some(taken) = others.choose(draw).cloned() else { return text.to_owned() };
            with(at, &other[taken])
        }
        7 => with(at, ""),
        8 => with(at.end..at.end, &format!(" {}", value(draw))),
        // A range once more, or not at all: keys twice, sections twice, what is needed gone.
        9 => {
            let end = tokens.choose(draw).map_or(at.end, |other| other.end.max(at.end));
            let end = floor(text, end.min(at.start + 400));
            with(end..end, &text[at.start..end])
        }
        10 => {
            let line = line_about(text, at.start);
            if draw.random() { with(line, "") } else { with(line.start..line.start, &text[line]) }
        }
        11 => {
            let end = tokens.choose(draw).map_or(at.end, |other| other.end.max(at.end));
            with(at.start..floor(text, end.min(at.start + 200)), "")
        }
        _ => with(at, &nested(draw)),
    }
}

/// A token that stands for a value: not a key, no punctuation.
fn valued(text: &str, tokens: &[Range<usize>], draw: &mut Draw) -> Option<Range<usize>> {
    let values: Vec<&Range<usize>> = tokens
        .windows(2)
        .filter(|pair| !matches!(text[pair[1].clone()].as_bytes(), b":" | b"="))
        .map(|pair| &pair[0])
        .filter(|token| {
            text[(*token).clone()].starts_with(|c: char| c.is_alphanumeric() || "\"-'".contains(c))
        })
        .collect();
    values.choose(draw).map(|range| (*range).clone())
}

fn value(draw: &mut Draw) -> String {
    match draw.random_range(0..20) {
        0 => {
            let letter = ["a", "0", "\u{e9}", " ", "9"].choose(draw).expect("there are five");
            let length = LENGTHS[draw.random_range(0..LENGTHS.len())];
            format!("\"{}\"", letter.repeat(length))
        }
        1 => draw.random::<i64>().to_string(),
        2 => draw.random_range(0..100_000).to_string(),
        _ => (*VALUES.choose(draw).expect("there are many")).to_owned(),
    }
}

/// A number near another, or a text nearly like another.
fn near(token: &str, draw: &mut Draw) -> String {
    if let Ok(number) = token.parse::<i64>() {
        let changed = match draw.random_range(0..6) {
            0 => number.wrapping_add(1),
            1 => number.wrapping_sub(1),
            2 => number.wrapping_neg(),
            3 => number.wrapping_mul(2),
            4 => number.wrapping_mul(1 << draw.random_range(4..40)),
            _ => return format!("{token}{}", "0".repeat(draw.random_range(1..16))),
        };
        return changed.to_string();
    }
    if let Ok(number) = token.parse::<f64>() {
        let factor = 10_f64.powi(draw.random_range(-320..320));
        return format!("{:e}", number * factor);
    }
    let mut letters: Vec<char> = token.chars().collect();
    let at = draw.random_range(0..letters.len().max(1));
    match draw.random_range(0..3) {
        0 if at < letters.len() => drop(letters.remove(at)),
        1 if at < letters.len() => {
            letters[at] = ['\u{1b}', 'x', '\\', '\u{0}'][draw.random_range(0..4)]
        }
        _ => letters.insert(at.min(letters.len()), ['_', '.', '"', '\n'][draw.random_range(0..4)]),
    }
    letters.into_iter().collect()
}

fn nested(draw: &mut Draw) -> String {
    let depth = DEPTHS[draw.random_range(0..DEPTHS.len())];
    let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("{a=", "}"), ("a.", ""), ("[[", "]]")]
        [draw.random_range(0..5)];
    // Half of them are never closed.
    let close = if draw.random() { close.repeat(depth) } else { String::new() };
    format!("{}1{close}", open.repeat(depth))
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn line_about(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
    start..end
}

/// Strings, words with numbers, and signs; not what is between them.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let word = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.') || byte >= 0x80
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote && bytes[at] != b'\n' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                while !text.is_char_boundary(at) {
                    at += 1;
                }
            }
            byte if word(byte) => {
                while at < bytes.len() && word(bytes[at]) {
                    at += 1;
                }
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ => at += 1,
        }
        found.push(start..at);
    }
    found
}
