//! The microscope over HTTP.

use serde_json::{Value, json};

use super::client::Server;
use crate::workplace::Workplace;

#[test]
fn a_text_is_looked_at() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    assert_eq!(server.json("/api/session")["microscope"], true);
    let id = server.id_of("tiny-001");
    let path = format!("/api/runs/{id}/microscope");
    let asked = json!({
        "checkpoint": null,
        "text": "the small cat",
        "format": null,
        "what_if": {
            "disabled": [{"layer": 1, "expert": 0}],
            "bias": [{"layer": 2, "expert": 1, "delta": 0.5}],
            "topk_group": null,
            "format": "fp8"
        },
        "other": {"run": id, "checkpoint": 4}
    });
    let answer = server.post(&format!("{path}/inspect"), &asked);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!((&answer["checkpoint"], &answer["layers"]), (&json!(6), &json!([1, 2])));
    for look in ["base", "changed", "other"] {
        let look = &answer[look];
        assert!(look["mean_loss"].as_f64().unwrap() > 0.0);
        assert_eq!(look["tokens"].as_array().unwrap().len(), 14);
        assert_eq!(look["experts"][0][3].as_array().unwrap().len(), 2);
        assert_eq!(look["gates"][0][3].as_array().unwrap().len(), 2);
        assert_eq!(look["tokens"][0]["loss"], Value::Null);
        assert_eq!(look["tokens"][5]["mtp_agrees"].as_array().unwrap().len(), 1);
    }
    let inspection = answer["inspection"].as_str().unwrap();
    let token = server.json(&format!("{path}/token?inspection={inspection}&token=3"));
    let layer = &token["layers"][0];
    assert_eq!(layer["chosen"], answer["base"]["experts"][0][3]);
    assert_eq!(layer["changed_chosen"], answer["changed"]["experts"][0][3]);
    assert_eq!(layer["scores"].as_array().unwrap().len(), 4);
    let taken = server.json(&format!("{path}/expert?layer=1&expert=2"));
    assert!(taken["seen_tokens"].as_u64().unwrap() > 100);
    assert!(taken["tokens"].as_array().is_some_and(|tokens| tokens[0]["count"].is_u64()));
}

#[test]
fn what_has_no_answer_is_a_sentence_and_a_status() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    let path = format!("/api/runs/{}/microscope", server.id_of("tiny-001"));
    let refused = |asked: Value, status: u16, part: &str| {
        let answer = server.post(&format!("{path}/inspect"), &asked);
        assert_eq!(answer.status, status, "{}", answer.text());
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{error}");
    };
    refused(json!({"text": ""}), 422, "no token to predict");
    refused(json!({"text": "x".repeat(300)}), 422, "301 tokens; 128 are the most");
    refused(json!({"text": "abc", "checkpoint": 5}), 404, "no checkpoint of step 5");
    let off = |expert: usize| json!({"disabled": [{"layer": 1, "expert": expert}]});
    refused(json!({"text": "abc", "what_if": off(9)}), 422, "there are 4");
    refused(json!({"text": "abc", "format": "fp4"}), 422, "fp4");
    refused(json!({"text": "abc", "other": {"run": "0123456789ab"}}), 404, "no such run");
    refused(json!({"text": "abc", "colour": 1}), 422, "colour");
    for (asked, status) in [
        ("token?inspection=none&token=0", 404),
        ("token?token=0", 400),
        ("expert?layer=0&expert=0", 404),
        ("expert?layer=1&expert=4", 404),
        ("expert?layer=1&expert=0&checkpoint=5", 404),
    ] {
        let answer = server.get(&format!("{path}/{asked}"));
        assert_eq!(answer.status, status, "{asked}: {}", answer.text());
        assert!(answer.json()["error"].is_string());
    }
}
