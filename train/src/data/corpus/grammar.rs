//! A probabilistic context-free grammar as a value: its rules, sampling from it, its exact entropy.
//!
//! A rule refers only to rules defined before it, so there is no recursion: every derivation ends,
//! parsing terminates, and the entropy is one pass over the rules.

use crate::data::seeded::Stream;

/// Names a rule of a [`Grammar`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RuleId(pub(super) usize);

/// One step of an alternative: fixed text, or another rule.
#[derive(Debug, Clone)]
pub(super) enum Symbol {
    Text(String),
    Rule(RuleId),
}

impl From<&str> for Symbol {
    fn from(text: &str) -> Self {
        Symbol::Text(text.to_string())
    }
}

impl From<RuleId> for Symbol {
    fn from(rule: RuleId) -> Self {
        Symbol::Rule(rule)
    }
}

/// One way to expand a rule, with its probability.
#[derive(Debug, Clone)]
pub(super) struct Alternative {
    pub(super) probability: f64,
    pub(super) symbols: Vec<Symbol>,
}

/// A choice among alternatives whose probabilities sum to one.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) alternatives: Vec<Alternative>,
}

/// A non-recursive probabilistic grammar over text; the last rule defined is the document.
#[derive(Debug, Clone, Default)]
pub struct Grammar {
    rules: Vec<Rule>,
}

/// What a grammar's documents cost on average, computed from its rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrammarEntropy {
    /// Mean of -ln p(document), in nats.
    pub nats_per_document: f64,
    /// Mean length of a document, in bytes.
    pub bytes_per_document: f64,
    /// The largest -ln p(document) that any document has, in nats.
    pub max_nats: f64,
    /// The length of the longest document, in bytes.
    pub max_bytes: usize,
}

impl GrammarEntropy {
    /// The entropy rate in nats a token where each byte and each end of document is one token.
    ///
    /// H = E\[-ln p(d)\] / E\[bytes(d) + 1\]
    pub fn nats_per_token(&self) -> f64 {
        self.nats_per_document / (self.bytes_per_document + 1.0)
    }
}

impl Grammar {
    /// Adds a rule from weighted alternatives; weights are divided by their sum.
    pub(super) fn rule(&mut self, alternatives: Vec<(f64, Vec<Symbol>)>) -> RuleId {
        let total: f64 = alternatives.iter().map(|(weight, _)| weight).sum();
        let id = RuleId(self.rules.len());
        let alternatives = alternatives
            .into_iter()
            .map(|(weight, symbols)| {
                for symbol in &symbols {
                    if let Symbol::Rule(rule) = symbol {
                        assert!(rule.0 < id.0, "invariant: a rule refers to earlier rules only");
                    }
                }
                Alternative { probability: weight / total, symbols }
            })
            .collect();
        self.rules.push(Rule { alternatives });
        id
    }

    /// Adds a rule that picks one of the words, each as likely as the others, with the same ending.
    pub(super) fn words(&mut self, words: &[&str], ending: &str) -> RuleId {
        let text = |word: &&str| (1.0, vec![Symbol::Text(format!("{word}{ending}"))]);
        self.rule(words.iter().map(text).collect())
    }

    pub(super) fn get(&self, id: RuleId) -> &Rule {
        &self.rules[id.0]
    }

    /// The rule that derives a whole document.
    pub(super) fn root(&self) -> RuleId {
        RuleId(self.rules.len() - 1)
    }

    pub(super) fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Draws one document; returns its text and the log-probability of the choices made.
    pub(super) fn sample(&self, stream: &mut Stream) -> (String, f64) {
        let mut text = String::new();
        let log_prob = self.sample_rule(self.root(), stream, &mut text);
        (text, log_prob)
    }

    fn sample_rule(&self, id: RuleId, stream: &mut Stream, text: &mut String) -> f64 {
        let alternatives = &self.get(id).alternatives;
        let mut left = stream.unit();
        let mut chosen = &alternatives[alternatives.len() - 1];
        for alternative in alternatives {
            left -= alternative.probability;
            if left < 0.0 {
                chosen = alternative;
                break;
            }
        }
        let mut log_prob = chosen.probability.ln();
        for symbol in &chosen.symbols {
            match symbol {
                Symbol::Text(fixed) => text.push_str(fixed),
                Symbol::Rule(rule) => log_prob += self.sample_rule(*rule, stream, text),
            }
        }
        log_prob
    }

    /// Computes the entropy and lengths of the grammar's documents exactly.
    ///
    /// For a rule with alternatives of probability p_a, H = sum_a p_a (-ln p_a + sum of H over the
    /// alternative's rules). That is the entropy of derivations; it is the entropy of documents
    /// because the grammar is unambiguous.
    pub fn entropy(&self) -> GrammarEntropy {
        let mut known: Vec<GrammarEntropy> = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let mut sum = GrammarEntropy {
                nats_per_document: 0.0,
                bytes_per_document: 0.0,
                max_nats: 0.0,
                max_bytes: 0,
            };
            for alternative in &rule.alternatives {
                let mut nats = -alternative.probability.ln();
                let mut bytes = 0.0;
                let mut max_nats = nats;
                let mut max_bytes = 0;
                for symbol in &alternative.symbols {
                    match symbol {
                        Symbol::Text(text) => {
                            bytes += text.len() as f64;
                            max_bytes += text.len();
                        }
                        Symbol::Rule(rule) => {
                            nats += known[rule.0].nats_per_document;
                            bytes += known[rule.0].bytes_per_document;
                            max_nats += known[rule.0].max_nats;
                            max_bytes += known[rule.0].max_bytes;
                        }
                    }
                }
                sum.nats_per_document += alternative.probability * nats;
                sum.bytes_per_document += alternative.probability * bytes;
                sum.max_nats = sum.max_nats.max(max_nats);
                sum.max_bytes = sum.max_bytes.max(max_bytes);
            }
            known.push(sum);
        }
        known[self.root().0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_a_coin_and_a_die() {
        let mut grammar = Grammar::default();
        let coin = grammar.words(&["h", "t"], "");
        let die = grammar.words(&["1", "2", "3", "4", "5", "6"], "!");
        grammar.rule(vec![(3.0, vec![coin.into(), die.into()]), (1.0, vec!["none".into()])]);
        let entropy = grammar.entropy();
        let branch = -(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        let expected = branch + 0.75 * (2f64.ln() + 6f64.ln());
        assert!((entropy.nats_per_document - expected).abs() < 1e-12);
        assert!((entropy.bytes_per_document - (0.75 * 3.0 + 0.25 * 4.0)).abs() < 1e-12);
        assert_eq!(entropy.max_bytes, 4);
        assert!((entropy.max_nats - 16f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn sampling_reports_the_probability_of_its_choices() {
        let mut grammar = Grammar::default();
        let die = grammar.words(&["1", "2", "3"], "");
        grammar.rule(vec![(1.0, vec![die.into(), die.into()])]);
        let (text, log_prob) = grammar.sample(&mut Stream::new(5));
        assert_eq!(text.len(), 2);
        assert!((log_prob + 9f64.ln()).abs() < 1e-12);
    }
}
