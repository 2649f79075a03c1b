//! The built-in grammar: short stories about animals and people, with agreement across a distance.
//!
//! ```text
//! Ann feeds two old dogs. the cat that six owls hate (not the ram [or one elk]) hugs my pig.
//! she says "the hens nap here". so Ann seeks the bee.
//! ```
//! What a model must learn beyond spelling (each rule decides a byte that nothing near it decides):
//! - a subject's number decides its verb's ending, across a relative clause or a bracket with nouns
//!   of its own;
//! - the name in the first sentence decides the pronoun (she, he) of later ones, and returns in the
//!   last;
//! - a round bracket may hold a square one, a quotation may hold both, and each closes in its turn.
//!
//! All other choices are uniform, or nearly, over many short words: most of the entropy is in words
//! that no model can foresee, so the exact floor is neither near zero nor far from what a small
//! model reaches.

use super::grammar::{Grammar, RuleId, Symbol};

const SHE: [&str; 8] = ["Ann", "Eve", "Ida", "Joy", "Kim", "Mia", "Sue", "Zoe"];
const HE: [&str; 8] = ["Abe", "Ben", "Dan", "Jim", "Max", "Ned", "Sam", "Tom"];
const NOUNS: [&str; 40] = [
    "ant", "ape", "bat", "bear", "bee", "bird", "boy", "bug", "bull", "cat", "clam", "cow", "crab",
    "crow", "cub", "dog", "duck", "eel", "elk", "emu", "ewe", "frog", "girl", "gnat", "goat",
    "hare", "hawk", "hen", "hog", "jay", "kid", "king", "lamb", "lion", "mole", "owl", "pig",
    "ram", "rat", "yak",
];
const ADJECTIVES: [&str; 20] = [
    "big", "bold", "calm", "coy", "dark", "fat", "gray", "kind", "lean", "mad", "new", "odd",
    "old", "pale", "red", "sad", "shy", "tan", "weak", "wet",
];
const TRANSITIVE: [&str; 32] = [
    "aid", "beat", "bite", "call", "drag", "feed", "find", "free", "hate", "heal", "hear", "help",
    "hit", "hold", "hug", "join", "know", "lead", "lift", "like", "love", "meet", "need", "pet",
    "pull", "save", "see", "seek", "tell", "tug", "want", "warn",
];
const INTRANSITIVE: [&str; 16] = [
    "beg", "dig", "eat", "grin", "hide", "hop", "jump", "nap", "nod", "play", "rest", "run",
    "sing", "sit", "swim", "yawn",
];
const ADVERBS: [&str; 12] = [
    "again", "alone", "daily", "fast", "here", "late", "now", "often", "once", "soon", "too",
    "well",
];
const ONE: [&str; 5] = ["the", "my", "our", "one", "this"];
const MANY: [&str; 5] = ["the", "my", "our", "two", "six"];

/// A rule for each grammatical number.
#[derive(Clone, Copy)]
struct Number {
    one: RuleId,
    many: RuleId,
}

impl Grammar {
    /// Builds the built-in grammar of the `builtin` data source.
    pub fn english() -> Self {
        let mut grammar = Grammar::default();
        let adjective = grammar.words(&ADJECTIVES, " ");
        let maybe_adjective = grammar.rule(vec![(0.4, vec![adjective.into()]), (0.6, vec![])]);
        let adverb = grammar.words(&ADVERBS, "");
        let transitive = grammar.verbs(&TRANSITIVE);
        let intransitive = grammar.verbs(&INTRANSITIVE);
        let simple = Number {
            one: grammar.simple_phrase(&ONE, maybe_adjective, ""),
            many: grammar.simple_phrase(&MANY, maybe_adjective, "s"),
        };
        let any = grammar.either(simple.one, simple.many);
        let bracket = grammar.rule(vec![
            (0.7, vec![" (not ".into(), any.into(), ")".into()]),
            (0.3, vec![" (not ".into(), any.into(), " [or ".into(), any.into(), "])".into()]),
        ]);
        let clause = Number {
            one: grammar
                .rule(vec![(1.0, vec![simple.one.into(), " ".into(), transitive.one.into()])]),
            many: grammar
                .rule(vec![(1.0, vec![simple.many.into(), " ".into(), transitive.many.into()])]),
        };
        let any_clause = grammar.either(clause.one, clause.many);
        let subject = Number {
            one: grammar.subject(simple.one, transitive.one, any, any_clause, bracket),
            many: grammar.subject(simple.many, transitive.many, any, any_clause, bracket),
        };
        let predicate = Number {
            one: grammar.predicate(transitive.one, intransitive.one, any, adverb),
            many: grammar.predicate(transitive.many, intransitive.many, any, adverb),
        };
        let one =
            grammar.rule(vec![(1.0, vec![subject.one.into(), " ".into(), predicate.one.into()])]);
        let many =
            grammar.rule(vec![(1.0, vec![subject.many.into(), " ".into(), predicate.many.into()])]);
        let sentence = grammar.either(one, many);

        let opening =
            grammar.rule(vec![(1.0, vec![transitive.one.into(), " ".into(), any.into()])]);
        let mut stories = Vec::new();
        for (pronoun, names) in [("she", SHE), ("he", HE)] {
            let middle = grammar.middle(pronoun, sentence, predicate.one);
            for name in names {
                let start: Symbol = Symbol::Text(format!("{name} "));
                let end: Symbol = Symbol::Text(format!("so {name} "));
                stories.push((
                    1.0,
                    vec![
                        start,
                        opening.into(),
                        ". ".into(),
                        middle.into(),
                        end,
                        predicate.one.into(),
                        ".".into(),
                    ],
                ));
            }
        }
        grammar.rule(stories);
        grammar
    }

    fn either(&mut self, one: RuleId, many: RuleId) -> RuleId {
        self.rule(vec![(1.0, vec![one.into()]), (1.0, vec![many.into()])])
    }

    /// A verb: "runs" after one, "run" after many.
    fn verbs(&mut self, words: &[&str]) -> Number {
        Number { one: self.words(words, "s"), many: self.words(words, "") }
    }

    /// "the old dog", "two dogs".
    fn simple_phrase(
        &mut self,
        determiners: &[&str],
        maybe_adjective: RuleId,
        ending: &str,
    ) -> RuleId {
        let determiner = self.words(determiners, " ");
        let noun = self.words(&NOUNS, ending);
        self.rule(vec![(1.0, vec![determiner.into(), maybe_adjective.into(), noun.into()])])
    }

    /// A phrase, often with a relative clause or a bracket between it and its verb.
    fn subject(
        &mut self,
        phrase: RuleId,
        verb: RuleId,
        any: RuleId,
        any_clause: RuleId,
        bracket: RuleId,
    ) -> RuleId {
        self.rule(vec![
            (0.5, vec![phrase.into()]),
            (0.2, vec![phrase.into(), " that ".into(), verb.into(), " ".into(), any.into()]),
            (0.2, vec![phrase.into(), " that ".into(), any_clause.into()]),
            (0.1, vec![phrase.into(), bracket.into()]),
        ])
    }

    /// "hugs two dogs", "naps", "naps here".
    fn predicate(
        &mut self,
        transitive: RuleId,
        intransitive: RuleId,
        any: RuleId,
        adverb: RuleId,
    ) -> RuleId {
        self.rule(vec![
            (0.6, vec![transitive.into(), " ".into(), any.into()]),
            (0.2, vec![intransitive.into()]),
            (0.2, vec![intransitive.into(), " ".into(), adverb.into()]),
        ])
    }

    /// One to three sentences, each followed by a space.
    fn middle(&mut self, pronoun: &str, sentence: RuleId, predicate_one: RuleId) -> RuleId {
        let acts: Symbol = Symbol::Text(format!("{pronoun} "));
        let says: Symbol = Symbol::Text(format!("{pronoun} says \""));
        let one = self.rule(vec![
            (0.55, vec![sentence.into(), ". ".into()]),
            (0.3, vec![acts, predicate_one.into(), ". ".into()]),
            (0.15, vec![says, sentence.into(), "\". ".into()]),
        ]);
        self.rule(vec![
            (0.3, vec![one.into()]),
            (0.4, vec![one.into(), one.into()]),
            (0.3, vec![one.into(), one.into(), one.into()]),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stems() -> Vec<&'static str> {
        let lists: [&[&'static str]; 9] = [
            &SHE,
            &HE,
            &NOUNS,
            &ADJECTIVES,
            &TRANSITIVE,
            &INTRANSITIVE,
            &ADVERBS,
            &ONE,
            &MANY[3..],
        ];
        lists.concat()
    }

    /// Catches a word in two lists, or a stem that is another with an ending: both would blur what
    /// the text says.
    #[test]
    fn every_word_form_belongs_to_one_list() {
        let mut words = stems();
        words.sort_unstable();
        let count = words.len();
        words.dedup();
        assert_eq!(words.len(), count);
        assert!((100..=150).contains(&count), "{count}");
        for word in &words {
            assert!(!words.contains(&format!("{word}s").as_str()), "{word}");
        }
    }

    #[test]
    fn agreement_is_enforced() {
        let grammar = Grammar::english();
        let story =
            |middle: &str| format!("Ann feeds two old dogs. {middle} so Ann seeks the bee.");
        for right in [
            "the cat naps.",
            "the cats nap.",
            "the cat that six owls hate naps.",
            "the cats that hate one owl nap.",
            "the cat (not two rams [or six elks]) naps.",
            "she naps.",
            "she says \"the hens (not the ram) nap here\".",
        ] {
            assert!(grammar.log_prob(&story(right)).is_some(), "{right}");
            assert_eq!(grammar.parses(&story(right)), 1, "{right}");
        }
        for wrong in [
            "the cat nap.",
            "the cats naps.",
            "the cat that six owls hates naps.",
            "the cat that six owls hate nap.",
            "the cats that hates one owl nap.",
            "the cat (not two rams [or six elks)] naps.",
            "the cat (not two rams naps.",
            "he naps.",
            "she says \"the hens nap here.",
            "two cat nap.",
        ] {
            assert_eq!(grammar.log_prob(&story(wrong)), None, "{wrong}");
        }
        assert_eq!(
            grammar.log_prob("Ann feeds two old dogs. she naps. so Eve seeks the bee."),
            None
        );
        assert!(
            grammar.log_prob("Tom feeds two old dogs. he naps. so Tom seeks the bee.").is_some()
        );
    }
}
