//! What the command line takes and refuses, and that its help teaches.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    parse::command().debug_assert();
}

#[test]
fn every_command_s_help_gives_examples() {
    fn check(command: &clap::Command, path: &str) {
        let call = format!("{path} {}", command.get_name());
        let help = command.get_long_about().map(ToString::to_string).unwrap_or_default();
        assert!(help.matches(&format!("  {call}")).count() >= 2, "{call}: {help}");
        command.get_subcommands().for_each(|inner| check(inner, &call));
    }
    Cli::command().get_subcommands().for_each(|command| check(command, "deepseek"));
}

#[test]
fn resume_is_absent_bare_or_with_a_path() {
    let resume = |arguments: &[&str]| {
        let all = ["deepseek", "train"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Train(args) => args.resume,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(resume(&[]), None);
    assert_eq!(resume(&["--resume"]), Some(None));
    assert_eq!(resume(&["--resume", "runs/a"]), Some(Some(PathBuf::from("runs/a"))));
}

#[test]
fn mistakes_are_refused() {
    for arguments in [
        "train --steps 0",
        "train --steps 4 --tokens 4",
        "train --device gpu",
        "generate --checkpoint a --top-p 1.5",
        "generate --checkpoint a --temperature nan",
        "generate --checkpoint a --naive --absorbed",
        "check --preset tiny --config quickstart",
        "bench sleep",
        "bench kernels --set model.vocab_size=9",
        "bench train --scale cpu",
        "bench scale --axis seqs",
        "bench scale --axis seq --max 0",
        "bench scale --only seq",
        "bench generate --only fprop",
        "bench links --ranks 0",
        "bench links --only pack",
        "plan",
        "plan schedule --ranks 2",
        "plan schedule --kind gpipe --ranks 2 --chunks 4",
        "plan schedule --ranks 2 --chunks 4 --forward -1",
        "plan schedule --ranks 2 --chunks 4 --weight nan",
        "plan cluster --preset tiny --config quickstart",
        "plan cluster extra",
    ] {
        let all = std::iter::once("deepseek").chain(arguments.split(' '));
        assert!(Cli::try_parse_from(all).is_err(), "{arguments}");
    }
}
