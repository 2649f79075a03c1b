//! What to write instead, where an argument stands on its own that belongs to an option.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::embedded::{CLUSTERS, MODELS, RUNS, is_path};
use crate::shell_word::quoted;

/// Adds the right form to an error about an argument that stands on its own.
pub(super) fn add(mut error: clap::Error, arguments: &[String]) -> clap::Error {
    let stray = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(stray))) => stray.clone(),
        _ => return error,
    };
    if stray.starts_with('-') {
        return error;
    }
    let Some(at) = arguments.iter().position(|argument| *argument == stray) else { return error };
    let next = arguments.get(at + 1).filter(|next| !next.starts_with('-'));
    let commands: Vec<&str> = arguments
        .iter()
        .skip(1)
        .take_while(|word| !word.starts_with('-'))
        .map(String::as_str)
        .collect();
    if let Some(form) = form(&commands, &quoted(&stray), next.map(|next| quoted(next)).as_deref()) {
        let tip = StyledStr::from(format!("the right form is `deepseek {form}`"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// How a command takes what stands on its own, and what comes after that.
fn form(commands: &[&str], stray: &str, next: Option<&str>) -> Option<String> {
    let known = |list: &[(&str, &str)]| list.iter().any(|(name, _)| *name == stray);
    let second = commands.get(1).copied();
    Some(match commands.first().copied()? {
        "generate" => match next {
            Some(prompt) => format!("generate --checkpoint {stray} --prompt {prompt}"),
            None => format!("generate --checkpoint {stray}"),
        },
        "eval" => format!("eval --checkpoint {stray}"),
        "inspect" => match next {
            Some(prompt) => format!("inspect --checkpoint {stray} --prompt {prompt}"),
            None => format!("inspect --checkpoint {stray} --text FILE"),
        },
        "train" | "compare-precision" => {
            let command = commands[0];
            let config = known(RUNS) || stray.ends_with(".toml");
            let run =
                command == "train" && std::path::Path::new(stray).join("checkpoints").is_dir();
            if config {
                format!("{command} --config {stray}")
            } else if run {
                format!("train --resume {stray}")
            } else if known(MODELS) {
                format!("{command} --set model.preset={stray}")
            } else {
                format!("{command} --data {stray}")
            }
        }
        "check" if known(MODELS) => format!("check --preset {stray}"),
        "check" if known(RUNS) || stray.ends_with(".toml") => format!("check --config {stray}"),
        "check" if is_path(stray) => format!("check --hugging-face {stray}"),
        "worker" => format!("worker --listen {stray}"),
        "plan" if second == Some("cluster") => {
            if known(CLUSTERS) {
                format!("plan cluster --cluster {stray}")
            } else if known(MODELS) {
                format!("plan cluster --preset {stray}")
            } else {
                format!("plan cluster --config {stray}")
            }
        }
        "plan" if second == Some("experts") => format!("plan experts --loads {stray}"),
        "plan" if second == Some("schedule") => format!("plan schedule --kind {stray}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn what_stands_on_its_own_is_answered_by_the_right_form() {
        for (arguments, form) in [
            (
                &["generate", "runs/x", "Once upon"][..],
                "deepseek generate --checkpoint runs/x --prompt 'Once upon'",
            ),
            (&["generate", "runs/x", "--json"], "deepseek generate --checkpoint runs/x`"),
            (&["eval", "runs/x"], "deepseek eval --checkpoint runs/x"),
            (&["inspect", "runs/x", "a cat"], "inspect --checkpoint runs/x --prompt 'a cat'"),
            (&["train", "my-run.toml"], "deepseek train --config my-run.toml"),
            (&["train", "tiny-text"], "deepseek train --config tiny-text"),
            (&["train", "tiny"], "deepseek train --set model.preset=tiny"),
            (&["train", "book.txt"], "deepseek train --data book.txt"),
            (&["check", "deepseek-v3"], "deepseek check --config deepseek-v3"),
            (&["check", "tiny"], "deepseek check --preset tiny"),
            (&["plan", "cluster", "gpu-8"], "deepseek plan cluster --cluster gpu-8"),
            (&["plan", "experts", "loads.json"], "deepseek plan experts --loads loads.json"),
            (&["worker", "0.0.0.0:3000"], "deepseek worker --listen 0.0.0.0:3000"),
        ] {
            let all = std::iter::once("deepseek").chain(arguments.iter().copied());
            let message = parse(all).unwrap_err().error.to_string();
            assert!(message.contains(form), "{arguments:?}: {message}");
        }
    }

    #[test]
    fn a_mistyped_command_is_recognized() {
        assert!(parse(["deepseek", "trian"]).unwrap_err().problem.contains("'train'"));
    }
}
