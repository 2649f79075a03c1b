//! Exact probabilities of text under a grammar: whole documents, prefixes, single bytes.
//!
//! All derivations of the text are summed (the inside algorithm), so the probability is exact
//! without relying on the grammar being unambiguous. Probabilities are kept linear: the least
//! likely document of the built-in grammar is many orders above the smallest `f64` (tested).

use super::grammar::{Grammar, RuleId, Symbol};

/// A derivation's end in the text with the summed probability and number of the derivations that
/// end there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) end: usize,
    pub(super) probability: f64,
    parses: u64,
}

/// One parse of one text: the grammar, the text, and what each rule derives from each position.
pub(super) struct Chart<'a> {
    grammar: &'a Grammar,
    text: &'a [u8],
    spans: Vec<Option<Vec<Span>>>,
}

impl<'a> Chart<'a> {
    pub(super) fn new(grammar: &'a Grammar, text: &'a [u8]) -> Self {
        let cells = grammar.rule_count() * (text.len() + 1);
        Self { grammar, text, spans: vec![None; cells] }
    }

    /// Every end that `rule` can derive to from `start`.
    fn inside(&mut self, rule: RuleId, start: usize) -> Vec<Span> {
        let cell = rule.0 * (self.text.len() + 1) + start;
        if let Some(spans) = &self.spans[cell] {
            return spans.clone();
        }
        let grammar = self.grammar;
        let mut found: Vec<Span> = Vec::new();
        for alternative in &grammar.get(rule).alternatives {
            let first = Span { end: start, probability: alternative.probability, parses: 1 };
            let mut reached = vec![first];
            for symbol in &alternative.symbols {
                let mut next = Vec::new();
                for from in reached {
                    self.step(symbol, from, &mut next);
                }
                reached = next;
            }
            reached.into_iter().for_each(|span| add(&mut found, span));
        }
        self.spans[cell] = Some(found.clone());
        found
    }

    /// The derivations of a document that is the whole text.
    pub(super) fn whole(&mut self) -> Option<Span> {
        let end = self.text.len();
        self.inside(self.grammar.root(), 0).into_iter().find(|span| span.end == end)
    }

    /// Every end that a symbol can derive to from `start`.
    pub(super) fn after(&mut self, symbol: &Symbol, start: usize) -> Vec<Span> {
        let mut next = Vec::new();
        self.step(symbol, Span { end: start, probability: 1.0, parses: 1 }, &mut next);
        next
    }

    /// The probability that what a symbol derives has `text[start..limit]` as a prefix.
    pub(super) fn prefix_after(&mut self, symbol: &Symbol, start: usize, limit: usize) -> f64 {
        match symbol {
            Symbol::Text(fixed) => {
                f64::from(u8::from(fixed.as_bytes().starts_with(&self.text[start..limit])))
            }
            Symbol::Rule(rule) => self.prefix(*rule, start, limit),
        }
    }

    fn step(&mut self, symbol: &Symbol, from: Span, next: &mut Vec<Span>) {
        match symbol {
            Symbol::Text(fixed) => {
                if self.text[from.end..].starts_with(fixed.as_bytes()) {
                    add(next, Span { end: from.end + fixed.len(), ..from });
                }
            }
            Symbol::Rule(rule) => {
                for span in self.inside(*rule, from.end) {
                    let probability = from.probability * span.probability;
                    let parses = from.parses * span.parses;
                    add(next, Span { end: span.end, probability, parses });
                }
            }
        }
    }

    /// The probability that what `rule` derives has `text[start..limit]` as a prefix.
    pub(super) fn prefix(&mut self, rule: RuleId, start: usize, limit: usize) -> f64 {
        if start >= limit {
            return 1.0;
        }
        let grammar = self.grammar;
        let mut total = 0.0;
        for alternative in &grammar.get(rule).alternatives {
            let first = Span { end: start, probability: alternative.probability, parses: 1 };
            let mut reached = vec![first];
            for symbol in &alternative.symbols {
                let mut next = Vec::new();
                for from in reached {
                    let left = &self.text[from.end..limit];
                    match symbol {
                        Symbol::Text(fixed) if fixed.len() >= left.len() => {
                            if fixed.as_bytes().starts_with(left) {
                                total += from.probability;
                            }
                        }
                        Symbol::Text(_) => self.step(symbol, from, &mut next),
                        Symbol::Rule(rule) => {
                            total += from.probability * self.prefix(*rule, from.end, limit);
                            self.step(symbol, from, &mut next);
                        }
                    }
                }
                // What reached the limit was counted above; only derivations that ended before it
                // go on.
                next.retain(|span| span.end < limit);
                reached = next;
            }
        }
        total
    }
}

fn add(spans: &mut Vec<Span>, span: Span) {
    match spans.iter_mut().find(|known| known.end == span.end) {
        Some(known) => {
            known.probability += span.probability;
            known.parses += span.parses;
        }
        None => spans.push(span),
    }
}

impl Grammar {
    /// The exact natural logarithm of the probability of a whole document; `None` where it is
    /// ungrammatical.
    ///
    /// The end of the document is part of the event: a document cut short is `None`.
    pub fn log_prob(&self, document: &str) -> Option<f64> {
        self.whole(document.as_bytes()).map(|span| span.probability.ln())
    }

    /// The number of derivations of a document: 0 where it is ungrammatical, 1 where it is
    /// unambiguous.
    pub fn parses(&self, document: &str) -> u64 {
        self.whole(document.as_bytes()).map_or(0, |span| span.parses)
    }

    fn whole(&self, text: &[u8]) -> Option<Span> {
        if text.len() > self.entropy().max_bytes {
            return None;
        }
        Chart::new(self, text).whole()
    }

    /// How many bytes at the start of `text` some grammatical document begins with.
    ///
    /// Equal to `text.len()` for a sample that was cut off by a length limit but made no mistake;
    /// otherwise the offset of the first byte that no document could have there.
    pub fn valid_prefix_bytes(&self, text: &str) -> usize {
        let text = text.as_bytes();
        let text = &text[..text.len().min(self.entropy().max_bytes)];
        let mut chart = Chart::new(self, text);
        let (mut good, mut bad) = (0, text.len() + 1);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if chart.prefix(self.root(), 0, middle) > 0.0 {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good
    }

    /// The surprisal -ln p(byte | bytes before it) of each byte of a document and of its end, in
    /// nats.
    ///
    /// The last entry is the end of document's; the entries sum to the negated
    /// [`Grammar::log_prob`]. `None` where the document is ungrammatical. This is the loss that a
    /// perfect model has on each token.
    pub fn surprisals(&self, document: &str) -> Option<Vec<f64>> {
        let whole = self.whole(document.as_bytes())?.probability;
        let mut chart = Chart::new(self, document.as_bytes());
        let mut before = 1.0;
        let mut nats = Vec::with_capacity(document.len() + 1);
        for limit in 1..=document.len() {
            let now = chart.prefix(self.root(), 0, limit);
            nats.push(nonnegative(-(now / before).ln()));
            before = now;
        }
        nats.push(nonnegative(-(whole / before).ln()));
        Some(nats)
    }
}

/// Rounding can leave a certain byte at -1e-16 nats, or at -0.
pub(super) fn nonnegative(nats: f64) -> f64 {
    if nats > 0.0 { nats } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "a" or "ab" or "abc", then "d" with a third of the probability or nothing.
    fn small() -> Grammar {
        let mut grammar = Grammar::default();
        let word = grammar.words(&["a", "ab", "abc"], "");
        let tail = grammar.rule(vec![(1.0, vec!["d".into()]), (2.0, vec![])]);
        grammar.rule(vec![(1.0, vec![word.into(), tail.into()])]);
        grammar
    }

    #[test]
    fn probabilities_of_whole_documents_sum_to_one() {
        let grammar = small();
        let documents = ["a", "ab", "abc", "ad", "abd", "abcd"];
        let total: f64 = documents.iter().map(|d| grammar.log_prob(d).unwrap().exp()).sum();
        assert!((total - 1.0).abs() < 1e-12, "{total}");
        for wrong in ["", "b", "acd", "abcdd"] {
            assert_eq!(grammar.log_prob(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn surprisals_follow_the_chain_rule() {
        let grammar = small();
        let nats = grammar.surprisals("abd").unwrap();
        // a is certain; b follows in 2 of 3; then d (1/3 of "ab") against c (all of "abc") and the
        // end.
        let expected = [0.0, 1.5f64.ln(), 6f64.ln(), 0.0];
        for (found, wanted) in nats.iter().zip(expected) {
            assert!((found - wanted).abs() < 1e-12, "{nats:?}");
        }
        assert_eq!(grammar.surprisals("abdx"), None);
    }

    #[test]
    fn valid_prefix_points_at_the_first_wrong_byte() {
        let grammar = small();
        assert_eq!(grammar.valid_prefix_bytes("abcd"), 4);
        assert_eq!(grammar.valid_prefix_bytes("ab"), 2);
        assert_eq!(grammar.valid_prefix_bytes("abx"), 2);
        assert_eq!(grammar.valid_prefix_bytes("x"), 0);
        assert_eq!(grammar.valid_prefix_bytes(""), 0);
        assert_eq!(grammar.valid_prefix_bytes("abcdabcd"), 4);
    }

    /// Two derivations of one text must both count, or the floor would be too high.
    #[test]
    fn ambiguous_derivations_are_summed() {
        let mut grammar = Grammar::default();
        let word = grammar.words(&["a", "aa"], "");
        grammar.rule(vec![(1.0, vec![word.into(), word.into()])]);
        assert_eq!(grammar.parses("aaa"), 2);
        assert!((grammar.log_prob("aaa").unwrap() - 0.5f64.ln()).abs() < 1e-12);
    }
}
