//! The view as a value: what it knows of a run, what its user has chosen, and what a key does to
//! them. It is drawn by [`frame`](super::frame).

use std::path::PathBuf;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::history::History;
use super::palette::Palette;
use crate::record::{Line, RunState};

/// Notes that are kept.
const NOTES: usize = 20;

/// What is known of a run before its record is read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What it is called.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What it computes on, where that is known.
    pub device: Option<String>,
    /// Where it is shown in a browser, if it is.
    pub browser: Option<String>,
    /// Its model in a few words.
    pub model: String,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps from one evaluation to the next.
    pub eval_every: u64,
    /// Whether its model has routed experts.
    pub has_experts: bool,
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The process that trains.
    Training,
    /// Anybody else.
    Watching,
}

/// What is known beside the record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Live {
    /// Steps made, as the training says it before its record does.
    pub made: u64,
    /// Batches of the evaluation that goes on: made, and all of them.
    pub evaluating: Option<(usize, usize)>,
    /// Whether there is something to lose: a signal asks the training to stop.
    pub guarded: bool,
    /// Whether the training was asked to stop.
    pub stopping: bool,
    /// The step after which the training stops, as it was when it was asked to.
    pub stops_after: Option<u64>,
    /// The step of the last checkpoint.
    pub saved_step: Option<u64>,
    /// How far a run is that is watched.
    pub state: Option<RunState>,
    /// Seconds since the last line of the record was written.
    pub age_seconds: Option<u64>,
    /// Whether the record has been read to its end once.
    pub read: bool,
    /// What the training has to tell beside its record, the newest at the end.
    pub notes: Vec<String>,
    /// Why the record cannot be read.
    pub problem: Option<String>,
}

/// A part of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    Losses,
    Experts,
    Balance,
    Step,
    Machine,
    Fp8,
    Ranks,
    Alerts,
    Sample,
}

impl Panel {
    /// Its title.
    pub fn name(self) -> &'static str {
        match self {
            Self::Losses => "Losses",
            Self::Experts => "Experts",
            Self::Balance => "Balance",
            Self::Step => "Step",
            Self::Machine => "Machine",
            Self::Fp8 => "FP8",
            Self::Ranks => "Ranks",
            Self::Alerts => "Alerts",
            Self::Sample => "Sample",
        }
    }
}

/// How much of its own past a training loss is averaged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Smoothing {
    None,
    Light,
    Strong,
}

impl Smoothing {
    /// The share of the points that is averaged.
    pub fn share(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Light => 0.02,
            Self::Strong => 0.08,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "not smoothed",
            Self::Light => "smoothed",
            Self::Strong => "smoothed much",
        }
    }
}

/// Which steps are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    All,
    Half,
    Tenth,
}

impl Span {
    /// The first of so many steps that is shown.
    pub fn from(self, steps: u64) -> f64 {
        let steps = steps as f64;
        match self {
            Self::All => 0.0,
            Self::Half => 0.5 * steps,
            Self::Tenth => 0.9 * steps,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::All => "whole run",
            Self::Half => "last half",
            Self::Tenth => "last tenth",
        }
    }
}

/// What the user has chosen.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    pub focus: Panel,
    /// The panel that has the place of those that take turns.
    pub turn: Panel,
    /// Whether the focus has all of the view.
    pub enlarged: bool,
    pub log_axis: bool,
    /// Whether the scale has the first steps in it.
    pub whole_scale: bool,
    pub smoothing: Smoothing,
    pub span: Span,
    /// Lines that the focus is scrolled by.
    pub scroll: usize,
    pub help: bool,
    /// Whether it is asked if the run is to be stopped.
    pub asking: bool,
}

/// What a key asks of whoever shows the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing beyond the view.
    Nothing,
    /// What Ctrl-C does.
    Interrupt,
    /// To leave a run that is watched.
    Leave,
    /// To stop the process until it is continued.
    Suspend,
    /// To draw everything anew.
    Redraw,
}

/// A run as it is shown.
#[derive(Debug)]
pub(super) struct View {
    pub facts: Facts,
    pub role: Role,
    pub palette: Palette,
    pub live: Live,
    pub history: History,
    pub choices: Choices,
}

impl View {
    /// A view of a run of which nothing has been read.
    pub fn new(facts: Facts, role: Role, palette: Palette) -> Self {
        let choices = Choices {
            focus: Panel::Losses,
            turn: if facts.has_experts { Panel::Balance } else { Panel::Step },
            enlarged: false,
            log_axis: false,
            whole_scale: false,
            smoothing: Smoothing::Light,
            span: Span::All,
            scroll: 0,
            help: false,
            asking: false,
        };
        let (live, history) = (Live::default(), History::default());
        Self { facts, role, palette, live, history, choices }
    }

    /// Takes the next line of the record. `false` where the record began again.
    pub fn take(&mut self, line: Line) -> bool {
        self.history.take(line)
    }

    /// Takes what the training has to tell beside its record.
    pub fn note(&mut self, notes: impl Iterator<Item = String>) {
        let all = &mut self.live.notes;
        all.extend(notes);
        let more = all.len().saturating_sub(NOTES);
        all.drain(..more);
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.history.steps().max(self.live.made)
    }

    /// Forgets the record.
    pub fn forget(&mut self) {
        self.history = History::default();
    }

    /// The panels that this run has, in the order of the tabs.
    pub fn panels(&self) -> Vec<Panel> {
        let mut panels = vec![Panel::Losses];
        if self.facts.has_experts {
            panels.extend([Panel::Experts, Panel::Balance]);
        }
        panels.extend([Panel::Step, Panel::Machine]);
        panels.extend(self.history.fp8.is_some().then_some(Panel::Fp8));
        panels.extend((!self.history.ranks.is_empty()).then_some(Panel::Ranks));
        panels.extend([Panel::Alerts, Panel::Sample]);
        panels
    }

    /// Says that the training was asked to stop, or no longer is.
    pub fn stopping(&mut self, stopping: bool) {
        if stopping && !self.live.stopping {
            let made = self.steps();
            let in_hand = self.live.evaluating.is_none() && made < self.facts.steps;
            self.live.stops_after = Some(made + u64::from(in_hand));
            self.choices.asking = false;
        }
        self.live.stopping = stopping;
    }

    /// What a key does.
    pub fn press(&mut self, key: KeyEvent) -> Asked {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => Asked::Interrupt,
            KeyCode::Char('z') if control => Asked::Suspend,
            KeyCode::Char('l') if control => Asked::Redraw,
            _ if control => Asked::Nothing,
            code if self.choices.asking => self.answer(code),
            code if self.choices.help => {
                // Whatever key it is, the help has been read.
                self.choices.help = false;
                match code {
                    KeyCode::Char('q') if self.role == Role::Watching => Asked::Leave,
                    _ => Asked::Nothing,
                }
            }
            code => self.choose(code),
        }
    }

    /// The answer to whether the run is to be stopped.
    fn answer(&mut self, code: KeyCode) -> Asked {
        match code {
            KeyCode::Char('y' | 'Y') => {
                self.choices.asking = false;
                Asked::Interrupt
            }
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
                self.choices.asking = false;
                Asked::Nothing
            }
            _ => Asked::Nothing,
        }
    }

    fn choose(&mut self, code: KeyCode) -> Asked {
        let choices = &mut self.choices;
        match code {
            KeyCode::Char('q') | KeyCode::Esc if self.role == Role::Watching => {
                if code == KeyCode::Esc && choices.enlarged {
                    choices.enlarged = false;
                } else {
                    return Asked::Leave;
                }
            }
            KeyCode::Char('q') if !self.live.stopping => choices.asking = true,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => choices.help = true,
            KeyCode::Esc => choices.enlarged = false,
            KeyCode::Enter | KeyCode::Char('e' | ' ') => choices.enlarged = !choices.enlarged,
            KeyCode::Char('l') => choices.log_axis = !choices.log_axis,
            KeyCode::Char('a') => choices.whole_scale = !choices.whole_scale,
            KeyCode::Char('s') => {
                choices.smoothing = match choices.smoothing {
                    Smoothing::None => Smoothing::Light,
                    Smoothing::Light => Smoothing::Strong,
                    Smoothing::Strong => Smoothing::None,
                };
            }
            KeyCode::Char('w') => {
                choices.span = match choices.span {
                    Span::All => Span::Half,
                    Span::Half => Span::Tenth,
                    Span::Tenth => Span::All,
                };
            }
            KeyCode::Tab | KeyCode::Right => self.go(1),
            KeyCode::BackTab | KeyCode::Left => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => choices.scroll = choices.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => choices.scroll = choices.scroll.saturating_sub(1),
            KeyCode::PageDown => choices.scroll = choices.scroll.saturating_add(10),
            KeyCode::PageUp => choices.scroll = choices.scroll.saturating_sub(10),
            KeyCode::Home => choices.scroll = 0,
            KeyCode::Char(digit @ '1'..='9') => {
                let index = digit as usize - '1' as usize;
                if let Some(&panel) = self.panels().get(index) {
                    self.focus(panel);
                }
            }
            _ => {}
        }
        Asked::Nothing
    }

    /// Moves the focus by so many panels.
    fn go(&mut self, by: isize) {
        let panels = self.panels();
        let here = panels.iter().position(|&panel| panel == self.choices.focus).unwrap_or(0);
        let there = (here as isize + by).rem_euclid(panels.len() as isize) as usize;
        self.focus(panels[there]);
    }

    fn focus(&mut self, panel: Panel) {
        self.choices.focus = panel;
        self.choices.scroll = 0;
        if !matches!(panel, Panel::Losses | Panel::Experts | Panel::Alerts | Panel::Sample) {
            self.choices.turn = panel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{step, view};
    use super::*;

    fn press(view: &mut View, code: KeyCode) -> Asked {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn control(view: &mut View, letter: char) -> Asked {
        view.press(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL))
    }

    /// A run is stopped by `q` and `y`, by nothing else but Ctrl-C.
    #[test]
    fn q_asks_before_it_stops_a_training() {
        let mut view = view(Role::Training);
        assert_eq!(press(&mut view, KeyCode::Char('y')), Asked::Nothing);
        for answer in [KeyCode::Char('n'), KeyCode::Esc, KeyCode::Char('q')] {
            assert_eq!(press(&mut view, KeyCode::Char('q')), Asked::Nothing);
            assert!(view.choices.asking);
            assert_eq!(press(&mut view, KeyCode::Char('x')), Asked::Nothing);
            assert!(view.choices.asking);
            assert_eq!(press(&mut view, answer), Asked::Nothing);
            assert!(!view.choices.asking);
        }
        press(&mut view, KeyCode::Char('q'));
        assert_eq!(press(&mut view, KeyCode::Char('y')), Asked::Interrupt);
        assert_eq!(control(&mut view, 'c'), Asked::Interrupt);
        view.stopping(true);
        assert_eq!(press(&mut view, KeyCode::Char('q')), Asked::Nothing);
        assert!(!view.choices.asking, "it is stopping already");
        press(&mut view, KeyCode::Char('?'));
        assert!(view.choices.help);
        assert_eq!(control(&mut view, 'c'), Asked::Interrupt);
    }

    #[test]
    fn a_watcher_leaves() {
        let mut view = view(Role::Watching);
        press(&mut view, KeyCode::Enter);
        assert_eq!(press(&mut view, KeyCode::Esc), Asked::Nothing);
        assert_eq!(press(&mut view, KeyCode::Esc), Asked::Leave);
        press(&mut view, KeyCode::Char('?'));
        assert_eq!(press(&mut view, KeyCode::Char('q')), Asked::Leave);
        assert_eq!(control(&mut view, 'z'), Asked::Suspend);
    }

    #[test]
    fn the_step_that_is_in_hand_is_the_last_one() {
        let mut view = view(Role::Training);
        view.take(step(7, 2.0));
        view.stopping(true);
        assert_eq!(view.live.stops_after, Some(8));
        view.take(step(8, 2.0));
        view.stopping(true);
        assert_eq!(view.live.stops_after, Some(8));
        view.stopping(false);
        view.live.evaluating = Some((1, 5));
        view.stopping(true);
        assert_eq!(view.live.stops_after, Some(8), "in an evaluation there is none");
    }

    #[test]
    fn tabs_go_round() {
        let mut view = view(Role::Training);
        let panels = view.panels();
        for expected in panels.iter().cycle().skip(1).take(2 * panels.len()) {
            press(&mut view, KeyCode::Tab);
            assert_eq!(view.choices.focus, *expected);
        }
        press(&mut view, KeyCode::Left);
        assert_eq!(view.choices.focus, panels[panels.len() - 1]);
        press(&mut view, KeyCode::Char('2'));
        assert_eq!(view.choices.focus, panels[1]);
        press(&mut view, KeyCode::Char('9'));
    }
}
