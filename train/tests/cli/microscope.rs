//! The desk of the microscope, as a server asks it: looks, their tokens, what an expert takes, and
//! what has no answer.

use std::path::PathBuf;

use deepseek_train::config::Format;
use deepseek_train::failure::Failure;
use deepseek_train::microscope::{
    BiasMove, Desk, ExpertOf, MicroscopeError, Question, TakenToken, WhatIf,
};

use crate::bounded::Bounded;
use crate::workplace::{Workplace, number};

fn run(place: &Workplace) -> PathBuf {
    place.path("runs/tiny-001")
}

fn question(place: &Workplace) -> Question {
    Question { checkpoint: run(place), text: "the small cat".into(), ..Question::default() }
}

fn problem(failure: &Failure) -> &MicroscopeError {
    failure.downcast_ref().unwrap_or_else(|| panic!("{failure:#}"))
}

#[test]
fn a_desk_answers_as_inspect_does() {
    let (place, desk) = (Workplace::trained(), Desk::on_cpu());
    let answer = desk.inspect(&question(&place)).unwrap();
    assert_eq!((answer.checkpoint, &answer.layers[..]), (Some(6), &[1, 2][..]));
    assert_eq!((answer.experts, answer.chosen, answer.mtp_depths), (4, 2, 1));
    let mut command = place.command("inspect --checkpoint runs/tiny-001 --json --prompt");
    let told = crate::workplace::Finished::of("inspect", command.arg("the small cat").ended());
    assert_eq!(answer.base.mean_loss, told.ok().json()["mean_loss"].as_f64());
    let tokens = &answer.base.tokens;
    assert_eq!(
        (tokens.len(), tokens[0].text.as_str(), tokens[1].text.as_str()),
        (14, "<end>", "t")
    );
    assert_eq!((answer.base.experts.len(), answer.base.experts[0].len()), (2, 14));
    assert!(answer.base.experts[1][13].is_empty(), "the MTP module does not see the last token");

    // The same again, from what is loaded; a what-if of nothing has the same bits.
    let nothing = Question { what_if: Some(WhatIf::default()), ..question(&place) };
    let again = desk.inspect(&nothing).unwrap();
    assert_eq!((&again.base, again.changed.as_ref()), (&answer.base, Some(&answer.base)));
    assert!(again.inspection != answer.inspection);

    let what_if = WhatIf {
        disabled: vec![ExpertOf { layer: 1, expert: 0 }],
        bias: vec![BiasMove { layer: 2, expert: 1, delta: 5.0 }],
        format: Some(Format::Fp8),
        ..WhatIf::default()
    };
    let changed = Question { what_if: Some(what_if), ..question(&place) };
    let changed = desk.inspect(&changed).unwrap();
    let experts = &changed.changed.as_ref().unwrap().experts;
    assert!(experts[0].iter().all(|chosen| chosen.len() == 2 && !chosen.contains(&0)));
    assert!(experts[1][..13].iter().all(|chosen| chosen.contains(&1)));

    // A token's way, before and after.
    let path = desk.token(&changed.inspection, 3).unwrap();
    assert_eq!(path.layers.iter().map(|of| of.layer).collect::<Vec<_>>(), [1, 2]);
    let first = &path.layers[0];
    assert_eq!((first.scores.len(), first.bias.len(), &first.kept_groups[..]), (4, 4, &[0][..]));
    assert_eq!(first.chosen, changed.base.experts[0][3]);
    assert_eq!(first.changed_chosen.as_ref(), Some(&experts[0][3]));
    assert_eq!(desk.token(&changed.inspection, 13).unwrap().layers.len(), 1);
    let beyond = desk.token(&changed.inspection, 14).unwrap_err();
    assert!(matches!(problem(&beyond), MicroscopeError::NoToken { token: 14, tokens: 14 }));
    let forgotten = desk.token("nothing", 0).unwrap_err();
    assert!(matches!(problem(&forgotten), MicroscopeError::Forgotten));
}

/// What the experts of a layer take together is every token, as often as experts are chosen.
#[test]
fn an_expert_s_tokens_add_up() {
    let (place, desk) = (Workplace::trained(), Desk::on_cpu());
    let eval =
        place.run("eval --checkpoint runs/tiny-001 --expert-loads loads.json --json").ok().json();
    let loads: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path("loads.json")).unwrap()).unwrap();
    for (at, layer) in [1, 2].into_iter().enumerate() {
        let of = |expert| desk.expert(&run(&place), layer, expert).unwrap();
        let taken: Vec<usize> = (0..4).map(|expert| of(expert).taken_tokens).collect();
        let seen = of(0).seen_tokens;
        assert_eq!(seen as f64, number(&eval, "tokens"), "the held-out text is short");
        let loads: Vec<usize> = loads["layer_loads"][at]["loads"]
            .as_array()
            .unwrap()
            .iter()
            .map(|load| load.as_u64().unwrap() as usize)
            .collect();
        assert_eq!(taken, loads, "as eval counts them");
        for expert in 0..4 {
            let tokens = of(expert).tokens;
            assert!(tokens.windows(2).all(|pair| pair[0].count >= pair[1].count));
            let right = |of: &TakenToken| of.share > 0.0 && of.share <= 1.0;
            assert!(tokens.iter().all(right), "{tokens:?}");
        }
    }
    for (layer, expert) in [(0, 0), (1, 4)] {
        let none = desk.expert(&run(&place), layer, expert).unwrap_err();
        assert!(matches!(problem(&none), MicroscopeError::NoExpert { .. }));
    }
}

/// A checkpoint that a run has saved since is the one that is asked.
#[test]
fn the_newest_checkpoint_is_asked() {
    let (place, desk) = (Workplace::trained(), Desk::on_cpu());
    let before = desk.inspect(&question(&place)).unwrap();
    place.run("train --resume runs/tiny-001 --steps 8").ok();
    let after = desk.inspect(&question(&place)).unwrap();
    assert_eq!((before.checkpoint, after.checkpoint), (Some(6), Some(8)));
    let earlier = Question {
        checkpoint: run(&place).join("checkpoints/step-00000006"),
        other: Some(run(&place)),
        ..question(&place)
    };
    let both = desk.inspect(&earlier).unwrap();
    assert_eq!((&both.base, both.other.as_ref()), (&before.base, Some(&after.base)));
}

#[test]
fn what_has_no_answer_is_a_sentence() {
    let (place, desk) = (Workplace::trained(), Desk::on_cpu());
    let refused = |question: Question| desk.inspect(&question).unwrap_err().to_string();
    let long = refused(Question { text: "x".repeat(500), ..question(&place) });
    assert!(long.contains("the text has 501 tokens; 128 are the most"), "{long}");
    let empty = refused(Question { text: String::new(), ..question(&place) });
    assert!(empty.contains("no token to predict"), "{empty}");
    let nowhere = refused(Question { checkpoint: place.path("nowhere"), ..question(&place) });
    assert!(nowhere.contains("nowhere"), "{nowhere}");
    let disabled = (0..3).map(|expert| ExpertOf { layer: 1, expert }).collect();
    let what_if = Some(WhatIf { disabled, ..WhatIf::default() });
    let few = refused(Question { what_if, ..question(&place) });
    assert!(few.contains("may find 1 of the 2"), "{few}");
}
