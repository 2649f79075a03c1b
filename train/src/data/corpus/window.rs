//! The floor of windows: the exact loss of a perfect model that sees a window and not what came
//! before it.
//!
//! A window of a packed stream mostly begins inside a document, whose name, subject or word it
//! cannot know. Averaged over all windows even a perfect model therefore loses more than the
//! entropy of documents; how much depends on the window's length. Here a window's first document is
//! scored as text that begins at a uniformly random byte: with E(w) the expected number of places
//! in a document where w begins, p(b | w) = E(wb) / E(w).

use super::grammar::{Grammar, RuleId, Symbol};
use super::parse::{Chart, nonnegative};

impl Grammar {
    /// The mean loss in nats a predicted token of a perfect model on windows of byte tokens, where
    /// `eod` ends documents.
    ///
    /// The first token of each window is given and not predicted. It is the floor to compare a
    /// validation loss with; it is never below the entropy of documents by more than chance and
    /// approaches it as windows get long. `None` where there is nothing to predict, or a token that
    /// the grammar cannot make.
    pub fn window_floor<'a>(
        &self,
        windows: impl IntoIterator<Item = &'a [u32]>,
        eod: u32,
    ) -> Option<f64> {
        let (mut nats, mut predicted) = (0.0, 0);
        for window in windows {
            nats += self.window_nats(window, eod)?;
            predicted += window.len().saturating_sub(1);
        }
        (predicted > 0).then(|| nats / predicted as f64)
    }

    /// The summed loss of a perfect model on all tokens of a window but the first, in nats.
    fn window_nats(&self, window: &[u32], eod: u32) -> Option<f64> {
        let mut nats = 0.0;
        let mut parts = window.split(|&token| token == eod);
        let mut part = parts.next();
        let mut first = true;
        while let Some(tokens) = part {
            part = parts.next();
            let bytes: Vec<u8> =
                tokens.iter().map(|&token| u8::try_from(token).ok()).collect::<Option<_>>()?;
            let ends = part.is_some();
            // A window that begins with the end of a document knows nothing of it and need not
            // predict it.
            if !(first && bytes.is_empty()) {
                nats += if first {
                    self.infix_nats(&bytes, ends)?
                } else {
                    self.prefix_nats(&bytes, ends)?
                };
            }
            first = false;
        }
        Some(nats)
    }

    /// -ln p of text at the start of a document, of its end too where it `ends`.
    fn prefix_nats(&self, text: &[u8], ends: bool) -> Option<f64> {
        let mut chart = Chart::new(self, text);
        let probability = if ends {
            chart.whole().map_or(0.0, |span| span.probability)
        } else {
            chart.prefix(self.root(), 0, text.len())
        };
        (probability > 0.0).then(|| nonnegative(-probability.ln()))
    }

    /// -ln p of text, given its first byte, that begins at a random byte of a document; of its end
    /// too where it `ends`.
    fn infix_nats(&self, text: &[u8], ends: bool) -> Option<f64> {
        let mut places = Places::new(self, text);
        let first = places.begin(1);
        let all =
            if ends { places.tails[self.root().0][text.len()] } else { places.begin(text.len()) };
        (first > 0.0 && all > 0.0).then(|| nonnegative(-(all / first).ln()))
    }
}

/// The expected number of places in what each rule derives where a text, or a part of it, is found.
struct Places<'a> {
    grammar: &'a Grammar,
    chart: Chart<'a>,
    text: &'a [u8],
    /// By rule and length: places from which exactly the first `length` bytes of the text remain.
    tails: Vec<Vec<f64>>,
}

impl<'a> Places<'a> {
    fn new(grammar: &'a Grammar, text: &'a [u8]) -> Self {
        let mut places =
            Self { grammar, chart: Chart::new(grammar, text), text, tails: Vec::new() };
        for rule in 0..grammar.rule_count() {
            let mut tails = vec![0.0; text.len() + 1];
            for alternative in &grammar.get(RuleId(rule)).alternatives {
                let mut matched = vec![0.0; text.len() + 1];
                for symbol in &alternative.symbols {
                    matched = places.extend(&matched, symbol);
                }
                tails
                    .iter_mut()
                    .zip(matched)
                    .for_each(|(sum, count)| *sum += alternative.probability * count);
            }
            places.tails.push(tails);
        }
        places
    }

    /// Carries matches that reach a symbol over it, and adds those that begin inside it and reach
    /// its end.
    fn extend(&mut self, matched: &[f64], symbol: &Symbol) -> Vec<f64> {
        let mut next = match symbol {
            Symbol::Rule(rule) => self.tails[rule.0].clone(),
            Symbol::Text(fixed) => {
                let mut tails = vec![0.0; self.text.len() + 1];
                for tail in (0..fixed.len()).map(|place| &fixed.as_bytes()[place..]) {
                    if self.text.starts_with(tail) {
                        tails[tail.len()] += 1.0;
                    }
                }
                tails
            }
        };
        for (from, &count) in matched.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            for span in self.chart.after(symbol, from) {
                next[span.end] += count * span.probability;
            }
        }
        next
    }

    /// The expected number of places in a document where the first `limit` bytes of the text begin.
    fn begin(&mut self, limit: usize) -> f64 {
        let grammar = self.grammar;
        let mut begins: Vec<f64> = Vec::with_capacity(grammar.rule_count());
        for rule in 0..grammar.rule_count() {
            let mut sum = 0.0;
            for alternative in &grammar.get(RuleId(rule)).alternatives {
                let mut matched = vec![0.0; self.text.len() + 1];
                for symbol in &alternative.symbols {
                    let mut found = self.begin_inside(symbol, limit, &begins);
                    for (from, &count) in
                        matched.iter().enumerate().take(limit).filter(|(_, count)| **count > 0.0)
                    {
                        found += count * self.chart.prefix_after(symbol, from, limit);
                    }
                    sum += alternative.probability * found;
                    matched = self.extend(&matched, symbol);
                    // What reached the limit has been counted.
                    matched[limit..].fill(0.0);
                }
            }
            begins.push(sum);
        }
        begins[grammar.root().0]
    }

    /// Places inside one symbol from which the symbol's own text covers the limit.
    fn begin_inside(&self, symbol: &Symbol, limit: usize, begins: &[f64]) -> f64 {
        match symbol {
            Symbol::Rule(rule) => begins[rule.0],
            Symbol::Text(fixed) => {
                let wanted = &self.text[..limit];
                fixed.as_bytes().windows(limit).filter(|found| *found == wanted).count() as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents "ab" and "cab", each half of the time.
    fn small() -> Grammar {
        let mut grammar = Grammar::default();
        let start = grammar.words(&["", "c"], "");
        grammar.rule(vec![(1.0, vec![start.into(), "a".into(), "b".into()])]);
        grammar
    }

    const EOD: u32 = 256;
    const A: u32 = b'a' as u32;
    const B: u32 = b'b' as u32;
    const C: u32 = b'c' as u32;

    #[test]
    fn windows_of_a_small_grammar() {
        let grammar = small();
        let nats = |window: &[u32]| grammar.window_nats(window, EOD);
        // b always follows a, and the end follows b; then the next document begins with a or c.
        assert_eq!(nats(&[A, B, EOD]), Some(0.0));
        let half = 2f64.ln();
        assert!((nats(&[B, EOD, C, A, B, EOD, A]).unwrap() - 2.0 * half).abs() < 1e-12);
        assert!((nats(&[EOD, A]).unwrap() - half).abs() < 1e-12);
        assert_eq!(nats(&[A, A]), None);
        assert_eq!(nats(&[A, B, EOD, B]), None);
        assert_eq!(nats(&[A, 300]), None);
        assert_eq!(grammar.window_floor([&[A][..]], EOD), None);
        assert!(
            (grammar.window_floor([&[B, EOD, A][..], &[A, B, EOD]], EOD).unwrap() - half / 4.0)
                .abs()
                < 1e-12
        );
    }

    /// Places counted by the rules equal places counted in documents.
    #[test]
    fn places_match_a_count_in_samples() {
        let grammar = Grammar::english();
        let documents = grammar.generate(11, 1_000_000);
        for text in ["s the ", "ed the b", "that", "w", ". so Ann "] {
            let found: usize = documents.iter().map(|d| d.text.matches(text).count()).sum();
            let expected =
                Places::new(&grammar, text.as_bytes()).begin(text.len()) * documents.len() as f64;
            let error = (found as f64 - expected).abs() / expected.sqrt();
            assert!(error < 5.0, "{text:?}: {found} found, {expected} expected");
            let ends = Places::new(&grammar, text.as_bytes()).tails[grammar.root().0][text.len()];
            assert_eq!(ends, 0.0, "no document ends in {text:?}");
        }
    }

    /// The loss of windows exceeds the entropy of documents, the less the longer they are.
    #[test]
    fn floor_falls_towards_the_entropy_with_the_length() {
        let grammar = Grammar::english();
        let documents = grammar.generate(12, 25_000);
        let mut tokens = Vec::new();
        for document in &documents {
            tokens.extend(document.text.bytes().map(u32::from));
            tokens.push(EOD);
        }
        let entropy = crate::data::corpus::entropy_floor(&documents).unwrap();
        let over = [64, 128, 256, 512].map(|seq_len: usize| {
            let windows = tokens.windows(seq_len + 1).step_by(seq_len);
            grammar.window_floor(windows, EOD).unwrap() / entropy
        });
        println!("windows of 64, 128, 256, 512 tokens: {over:?} of {entropy}");
        assert!(over.windows(2).all(|pair| pair[1] < pair[0]), "{over:?}");
        assert!(over[3] < 1.04 && over[3] > 1.0, "{over:?}");
    }
}
