//! The view of a run in a real terminal, that of tmux: sizes, keys, signals, and what is left of
//! the terminal afterwards.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::workplace::{DEEPSEEK, Workplace};

/// How long something may take to be seen.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the shell says when it is ready.
const PROMPT: &str = "ready> ";
/// Steps of a second and more, of which there are enough.
const SLOW: &str = "--steps 500 --set schedule.global_batch=2400 --set train.eval_every=0 --set \
                    train.checkpoint_every=2 --set metrics.every=1";

/// A shell in a terminal of its own.
struct Terminal<'a> {
    place: &'a Workplace,
}

impl<'a> Terminal<'a> {
    /// A terminal of that size; none where there is no tmux, which is said.
    fn open(place: &'a Workplace, width: u16, height: u16) -> Option<Self> {
        let terminal = Self { place };
        place.write("shellrc", format!("PS1='{PROMPT}'"));
        if let Err(error) = Command::new("tmux").arg("-V").output() {
            println!("skipped: tmux cannot be had here ({error})");
            return None;
        }
        let size = [width.to_string(), height.to_string()];
        let begun = terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
            "sh -i",
        ]);
        assert!(begun.status.success(), "{begun:?}");
        terminal.until("a shell", |text| text.contains(PROMPT.trim_end()));
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command
            .arg("-S")
            .arg(self.place.path("tmux"))
            .args(arguments)
            .current_dir(self.place.path(""))
            .env("ENV", self.place.path("shellrc"))
            .env("DEEPSEEK", DEEPSEEK)
            .env("XDG_CACHE_HOME", self.place.path(".cache"))
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR");
        command.output().unwrap()
    }

    /// Presses keys, as tmux calls them.
    fn press(&self, keys: &[&str]) {
        let arguments: Vec<&str> = ["send-keys"].iter().chain(keys).copied().collect();
        assert!(self.tmux(&arguments).status.success());
    }

    /// Gives the shell a line.
    fn say(&self, line: &str) {
        assert!(self.tmux(&["send-keys", "-l", line]).status.success());
        self.press(&["Enter"]);
    }

    /// What is seen now, and with `more` the colours.
    fn text(&self, more: &[&str]) -> String {
        let arguments: Vec<&str> = ["capture-pane", "-p"].iter().chain(more).copied().collect();
        String::from_utf8(self.tmux(&arguments).stdout).unwrap()
    }

    /// What is seen once it is as it should be.
    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text(&[]);
            if is_so(&text) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} is not seen in {PATIENCE:?}:\n{text}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// What is seen once a part of it is.
    fn until_seen(&self, part: &str) -> String {
        self.until(part, |text| text.contains(part))
    }

    fn resize(&self, width: u16, height: u16) {
        let (width, height) = (width.to_string(), height.to_string());
        assert!(self.tmux(&["resize-window", "-x", &width, "-y", &height]).status.success());
    }

    /// The keys work as they do in a shell: they are shown, lines can be edited, Ctrl-C is a
    /// signal, and the cursor is seen.
    fn is_sane(&self) {
        self.say("clear; stty -a | tr ';' '\\n'; echo done");
        let text =
            self.until("the state of the terminal", |text| text.lines().any(|line| line == "done"));
        for mode in ["icanon", "echo", "isig", "icrnl", "opost"] {
            let is_set = text.split_whitespace().any(|word| word == mode);
            assert!(is_set, "{mode} is not set:\n{text}");
        }
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "0 1", "screen and cursor");
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// The view in three sizes, while a run goes on: what is seen, help, panels, and that Ctrl-C says
/// what it does, saves, and leaves the terminal as it was.
#[test]
fn a_training_is_seen_in_every_size_and_ctrl_c_saves_it() {
    let place = Workplace::new();
    let Some(terminal) = Terminal::open(&place, 80, 24) else { return };
    terminal.say(&format!(
        "$DEEPSEEK train --config ./tiny.toml --run-dir seen {SLOW}; echo \"code $?\""
    ));
    // Braille is a curve.
    let is_curve = |letter: char| ('\u{2801}'..='\u{28ff}').contains(&letter);
    let text = terminal.until("a curve", |text| {
        text.contains("● training")
            && text.contains("step 2 of 500")
            && text.lines().skip(6).any(|line| line.contains(is_curve))
    });
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    assert!(lines[0].starts_with(" seen  ● training"), "{text}");
    for part in ["left", "tokens/s", "loss", "Losses", "Experts", "Alerts", "? help"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(text.matches('╭').count(), 1, "one panel:\n{text}");
    assert!(terminal.text(&["-e"]).contains("\u{1b}[38;5;"), "colours");
    terminal.press(&["?"]);
    terminal.until_seen("any key closes this");
    terminal.press(&["x"]);
    terminal.until("no help", |text| !text.contains("any key closes this"));
    terminal.press(&["Tab"]);
    terminal.until_seen("× none");
    terminal.press(&["l", "s", "w", "w", "1"]);
    terminal.resize(120, 40);
    terminal.until("several panels", |text| text.matches('╭').count() == 5);
    terminal.resize(200, 60);
    terminal.until("all panels, as was chosen", |text| {
        let parts = ["MiB taken", "last tenth", "log axis"];
        text.matches('╭').count() >= 7 && parts.iter().all(|part| text.contains(part))
    });
    terminal.resize(30, 6);
    terminal.until_seen("too small");
    terminal.resize(80, 24);
    terminal.press(&["q"]);
    terminal.until_seen("Stop this run?");
    terminal.press(&["n"]);
    terminal.until("no question", |text| !text.contains("Stop this run?"));
    terminal.press(&["C-c"]);
    let text = terminal.until_seen("Ctrl-C again ends it");
    assert!(text.contains("the run will be saved") || text.contains("is being saved"), "{text}");
    assert!(text.contains("● stopping"), "{text}");
    let said = text.split_once("stopping after step ").map(|(_, rest)| rest);
    let said = said.and_then(|rest| rest.split_once(';')).map(|(step, _)| step.to_owned());
    let text = terminal.until_seen("code 130");
    assert!(text.contains("interrupted after step") && text.contains("checkpoint"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    terminal.is_sane();
    // What was said is what was done.
    let steps = place.metrics("seen").len();
    assert!(said.is_none_or(|said| said == steps.to_string()), "{steps}");
    assert_eq!(
        place.names("seen/checkpoints").last().unwrap(),
        &format!("step-{steps:08}"),
        "the last step is saved"
    );
}

/// A second Ctrl-C ends at once; a signal from elsewhere is what a key is; `q` is Ctrl-C after `y`.
#[test]
fn a_run_ends_as_it_is_asked_to_and_leaves_the_terminal_as_it_was() {
    let place = Workplace::new();
    let Some(terminal) = Terminal::open(&place, 100, 30) else { return };
    let train = |folder: &str, wait: bool| {
        terminal.say(&format!(
            "clear; sh -c 'echo $$ >pid; exec $DEEPSEEK train --config ./tiny.toml --run-dir \
             {folder} {SLOW}'; echo \"code $?\""
        ));
        if wait {
            terminal.until("a step", |text| text.contains("step 1 of 500"));
        }
    };
    train("twice", true);
    terminal.press(&["C-c"]);
    terminal.until("what would be lost", |text| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").contains("loses all of it: nothing has been saved")
    });
    terminal.press(&["C-c"]);
    let text = terminal.until_seen("code 130");
    assert!(text.contains("interrupted\n") && !text.contains("checkpoint "), "{text}");
    terminal.is_sane();

    train("asked", true);
    terminal.press(&["q"]);
    terminal.until_seen("Stop this run?");
    terminal.press(&["y"]);
    let text = terminal.until_seen("code 130");
    assert!(text.contains("interrupted after step"), "{text}");
    terminal.is_sane();

    train("told", true);
    terminal.say("");
    let pid = std::fs::read_to_string(place.path("pid")).unwrap();
    let kill = format!("kill -s TERM {}", pid.trim());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    terminal.until_seen("● stopping");
    terminal.until_seen("code 130");
    terminal.is_sane();
}

/// Ctrl-Z gives the terminal to the shell, and `fg` takes it again.
#[test]
fn a_training_is_suspended_and_goes_on() {
    let place = Workplace::new();
    let Some(terminal) = Terminal::open(&place, 90, 24) else { return };
    terminal.say(&format!(
        "$DEEPSEEK train --config ./tiny.toml --run-dir paused {SLOW}; echo \"code $?\""
    ));
    terminal.until_seen("step 1 of 500");
    terminal.press(&["C-z"]);
    terminal.until("the shell", |text| {
        !text.contains("● training") && text.trim_end().ends_with(PROMPT.trim_end())
    });
    terminal.is_sane();
    terminal.say("fg");
    terminal.until_seen("● training");
    terminal.press(&["C-c"]);
    terminal.until("the end", |text| text.contains("interrupted after step"));
    terminal.is_sane();
}

/// A terminal that is closed is a signal: the run is saved, and the program ends.
#[test]
fn a_terminal_that_goes_away_stops_the_run() {
    let place = Workplace::new();
    let Some(terminal) = Terminal::open(&place, 90, 24) else { return };
    terminal.say(&format!("$DEEPSEEK train --config ./tiny.toml --run-dir left {SLOW}"));
    terminal.until_seen("step 1 of 500");
    drop(terminal);
    let begun = Instant::now();
    // The lock of the folder ends with the program.
    while place.run("runs show left --json").ok().json()["state"] == "training" {
        assert!(begun.elapsed() < PATIENCE, "it goes on without its terminal");
        std::thread::sleep(Duration::from_millis(100));
    }
    let steps = place.metrics("left").len();
    assert_eq!(place.names("left/checkpoints").last().unwrap(), &format!("step-{steps:08}"));
}

/// Without colours, and in plain lines.
#[test]
fn colours_and_the_view_can_be_left_out() {
    let place = Workplace::new();
    let Some(terminal) = Terminal::open(&place, 80, 24) else { return };
    terminal
        .say("NO_COLOR=1 $DEEPSEEK train --config ./tiny.toml --steps 100000; echo \"code $?\"");
    terminal.until_seen("● training");
    assert!(!terminal.text(&["-e"]).contains("\u{1b}[38;5;"), "{}", terminal.text(&["-e"]));
    terminal.press(&["C-c"]);
    terminal.until_seen("code 130");
    terminal.say("clear; $DEEPSEEK train --config ./tiny.toml --plain; echo \"code $?\"");
    let text = terminal.until_seen("code 0");
    assert!(text.contains("step      6/6") && !text.contains('╭'), "{text}");
    terminal.is_sane();
}

/// A run that is over is looked at, and left with `q`.
#[test]
fn any_run_can_be_watched() {
    let place = Workplace::trained();
    let finished = place.run("runs watch runs/tiny-001 --json");
    assert_eq!(finished.code, Some(0), "{}", finished.dump());
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.dump());
    let results = finished.json();
    assert_eq!((&results["state"], &results["steps"]), (&"finished".into(), &6.into()));
    let lines = place.run("runs watch runs/tiny-001").ok().stdout;
    assert_eq!(lines.matches("validation loss").count(), 2, "{lines}");
    assert!(lines.contains("step      6/6 (100%)  loss "), "{lines}");
    place.run("runs watch nowhere").failed(2, &["nowhere: no run here"]);

    let Some(terminal) = Terminal::open(&place, 160, 50) else { return };
    terminal.say("$DEEPSEEK runs watch runs/tiny-001; echo \"code $?\"");
    terminal.until("all of a run that is finished", |text| {
        let parts = ["● finished", "step 6 of 6  100.0%", "validation", "Sample", "q leave"];
        parts.iter().all(|part| text.contains(part))
    });
    terminal.press(&["q"]);
    terminal.until_seen("code 0");
    terminal.is_sane();
}
