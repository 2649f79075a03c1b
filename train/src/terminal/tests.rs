//! Records to draw, and every view of them in terminals of all sizes.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::frame;
use super::palette::Palette;
use super::view::{Facts, Panel, Role, View};
use crate::record::{
    AlertLevel, AlertLine, EvaluationLine, Experts, Fp8Casts, GradNorms, Line, SampleLine, Stamp,
    StepLine, SystemLine,
};

fn stamp(step: u64) -> Stamp {
    Stamp {
        version: crate::record::VERSION,
        time: "2026-01-02T03:04:05.678Z".into(),
        elapsed_seconds: 0.5 * step as f64,
        step,
        samples: 4 * step,
        tokens: 1024 * step,
    }
}

fn experts(step: u64) -> Experts {
    let loads = |layer: u64| (0..16).map(|expert| (step + layer * expert) % 40).collect();
    Experts {
        layers: vec![1, 2, 3],
        layer_violation: vec![0.1, 0.25, 1.5],
        expert_loads: (0..3).map(loads).collect(),
        max_violation: Some(1.5),
        dead_experts: 1,
    }
}

/// The line of a step that took half a second.
pub(super) fn step(number: u64, loss: f64) -> Line {
    Line::Step(StepLine {
        stamp: stamp(number),
        loss,
        mtp_loss: Some(loss + 1.0),
        mtp_losses: vec![loss + 1.0],
        grad_norm: 1.25,
        lr: 3e-4,
        global_batch: 4,
        batch_tokens: 1024,
        bias_update_speed: 1e-3,
        seq_aux_alpha: 1e-4,
        mtp_lambda: 0.3,
        tokens_per_second: 2000.0 + (number % 7) as f64,
        step_seconds: 0.5,
        data_seconds: 0.01,
        compute_seconds: 0.4,
        forward_seconds: 0.1,
        backward_seconds: 0.25,
        update_seconds: 0.08,
        average_seconds: 0.01,
        experts: experts(number),
        ..StepLine::default()
    })
}

/// The line of a step with what is measured in some steps only.
fn detailed(number: u64, loss: f64) -> Line {
    let Line::Step(line) = step(number, loss) else { unreachable!("a step") };
    Line::Step(StepLine {
        param_norm: Some(12.5),
        grad_norms: GradNorms {
            grad_norm_attention: Some(0.75),
            grad_norm_experts: Some(0.5),
            ..GradNorms::default()
        },
        gate_entropy: vec![2.7, 2.5, 2.1],
        fp8: Fp8Casts {
            fp8_activations_saturated: Some(0.0123),
            fp8_activations_underflowed: Some(4e-5),
            fp8_activations_scale_min: Some(1e-6),
            fp8_activations_scale_max: Some(2.5),
            ..Fp8Casts::default()
        },
        rank_busy_seconds: vec![0.3, 0.32, 0.34, 0.36],
        rank_waiting_seconds: vec![0.1; 4],
        rank_sent_bytes: vec![1 << 20; 4],
        exchange_fast_bytes: Some(1 << 20),
        exchange_slow_bytes: Some(0),
        ..line
    })
}

/// The line of an evaluation that took two seconds.
pub(super) fn evaluation(number: u64, loss: f64) -> Line {
    Line::Evaluation(EvaluationLine {
        stamp: stamp(number),
        valid_loss: loss,
        evaluation_seconds: 2.0,
        experts: experts(number),
        bias_min: vec![-0.001, -0.02, -0.003],
        bias_max: vec![0.001, 0.015, 0.004],
        bias_drift: vec![0.001, 0.002, 0.0005],
        ..EvaluationLine::default()
    })
}

/// A view of a run of which nothing has been read.
pub(super) fn view(role: Role) -> View {
    let facts = Facts {
        name: "quickstart-001".into(),
        folder: "runs/quickstart-001".into(),
        device: Some("Flex (CPU)".into()),
        browser: Some("http://127.0.0.1:6007".into()),
        model: "13,104 parameters, fp32".into(),
        steps: 2000,
        eval_every: 100,
        has_experts: true,
    };
    let mut view = View::new(facts, role, Palette::new(true));
    view.live.read = true;
    view.live.guarded = true;
    view
}

/// A view of a run in the middle, with all that there can be.
pub(super) fn full(role: Role) -> View {
    let mut view = view(role);
    for number in 1..=1234 {
        let loss = 2.0 + 4.0 * (-(number as f64) / 60.0).exp();
        view.take(if number % 10 == 0 { detailed(number, loss) } else { step(number, loss) });
        if number % 100 == 0 {
            view.take(evaluation(number, 2.1 + 1.0 / number as f64));
        }
    }
    for (level, rule) in [(AlertLevel::Warning, "loss_spike"), (AlertLevel::Error, "dead_experts")]
    {
        view.take(Line::Alert(AlertLine {
            stamp: stamp(1200),
            level,
            rule: rule.into(),
            message: format!("{rule}: seen \x1b[31mthere"),
            ..AlertLine::default()
        }));
    }
    view.take(Line::Sample(SampleLine {
        stamp: stamp(1200),
        prompt: "the ".into(),
        text: "the fox\nand \u{4e16}\u{754c} \x1b[2J".into(),
        mtp_acceptance: Some(0.45),
        ..SampleLine::default()
    }));
    view.take(Line::System(SystemLine {
        stamp: stamp(1230),
        resident_bytes: Some(123 << 20),
        available_bytes: Some(7 << 30),
        cpu_cores: Some(1.93),
        device_bytes: Some(3 << 30),
        disk_free_bytes: Some(50 << 30),
    }));
    view
}

fn drawn(view: &View, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|target| frame::draw(target, view)).unwrap();
    terminal.backend().buffer().clone()
}

/// The rows of what is drawn.
pub(super) fn rows(view: &View, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(view, width, height);
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(row).map(|row: String| row.trim_end().to_owned()).collect()
}

fn text(view: &View, width: u16, height: u16) -> String {
    rows(view, width, height).join("\n")
}

/// Every panel, popup and state in every size: nothing panics, and nothing that a terminal would
/// obey comes through.
#[test]
fn no_size_is_too_odd() {
    let sizes = [
        (1, 1),
        (20, 5),
        (60, 16),
        (61, 17),
        (80, 24),
        (110, 32),
        (120, 40),
        (150, 44),
        (160, 50),
        (200, 60),
        (400, 20),
        (70, 200),
        (0, 0),
    ];
    for role in [Role::Training, Role::Watching] {
        for mut view in [view(role), full(role)] {
            let panels = view.panels();
            for (width, height) in sizes {
                for &panel in &panels {
                    view.choices.focus = panel;
                    for enlarged in [false, true] {
                        view.choices.enlarged = enlarged;
                        let text = text(&view, width, height);
                        let raw = text.chars().any(|c| c.is_control() && c != '\n');
                        assert!(!raw, "{width}x{height}: {text}");
                    }
                }
                for (asking, help, scroll) in [(true, false, 0), (false, true, usize::MAX)] {
                    view.choices.asking = asking;
                    view.choices.help = help;
                    view.choices.scroll = scroll;
                    drawn(&view, width, height);
                }
                (view.choices.asking, view.choices.help) = (false, false);
                view.choices.log_axis ^= true;
                view.choices.whole_scale ^= true;
            }
        }
    }
}

#[test]
fn a_terminal_that_is_too_small_is_told() {
    let text = text(&full(Role::Training), 50, 10);
    assert!(text.contains("too small: it has 50 x 10"), "{text}");
    assert!(text.contains("Ctrl-C stops and"), "{text}");
}

/// What is always there, in the smallest size that the view is made for and in larger ones.
#[test]
fn the_head_says_how_far_the_run_is() {
    for (width, height) in [(80, 24), (120, 40), (160, 50), (200, 60)] {
        let rows = rows(&full(Role::Training), width, height);
        assert!(rows[0].starts_with(" quickstart-001  ● training"), "{}", rows[0]);
        assert!(rows[0].ends_with("13,104 parameters, fp32, Flex (CPU)"), "{}", rows[0]);
        assert!(rows[1].contains("━━━") && rows[1].contains("───"), "{}", rows[1]);
        // 766 steps of half a second, and 8 evaluations of two.
        assert!(rows[1].ends_with("step 1,234 of 2,000  61.7%  6m39s left"), "{}", rows[1]);
        assert!(
            rows[2].starts_with(" tokens 1.26M  trained 10m17s  tokens/s 2.00K"),
            "{}",
            rows[2]
        );
        assert!(rows[3].starts_with(" loss 2.0000  validation 2.1008"), "{}", rows[3]);
        let last = rows.last().unwrap();
        assert!(last.starts_with(" q stop  Tab panel"), "{last}");
        assert!(last.contains("? help"), "{last}");
    }
}

/// At 80 x 24 a panel at a time, at 120 x 40 several, and from 160 x 50 on all.
#[test]
fn larger_terminals_show_more() {
    let mut view = full(Role::Training);
    let all = view.panels();
    assert_eq!(all.len(), 9);
    let framed = |view: &View, size: (u16, u16)| {
        let rows = rows(view, size.0, size.1);
        let frames = all.iter().filter(|panel| {
            let title = format!("─ {} ─", panel.name());
            let title = [title.clone(), title.replacen('─', "╭", 1)];
            rows.iter().any(|row| title.iter().any(|title| row.contains(title)))
        });
        frames.count()
    };
    assert_eq!(framed(&view, (80, 24)), 1);
    assert_eq!(framed(&view, (120, 40)), 5);
    assert_eq!(framed(&view, (160, 50)), 9);
    assert_eq!(framed(&view, (200, 60)), 9);
    view.choices.enlarged = true;
    assert_eq!(framed(&view, (200, 60)), 1);
    view.choices.focus = Panel::Alerts;
    let text = text(&view, 80, 24);
    assert!(text.contains("error   step 1,200   dead_experts: seen \\u{1b}[31mthere"), "{text}");
}

#[test]
fn each_panel_shows_what_was_measured() {
    let mut view = full(Role::Training);
    for (panel, expected) in [
        (Panel::Losses, vec!["training 2.0000", "validation 2.1008", "MTP 3.0000", "1.23K"]),
        (Panel::Experts, vec!["step 1,234", "× none", "▄ even", "  1 ", "  3 "]),
        (Panel::Balance, vec!["max violation 1.50", "entropy", "-0.020..+0.015", "0.0020"]),
        (
            Panel::Step,
            vec![
                "gradient norm",
                "1.2500",
                "500 ms",
                "weights norm",
                "attention 0.7500",
                "forward 20%",
                "rest 10%",
                "4 x 256",
                "γ 0.001",
            ],
        ),
        (
            Panel::Machine,
            vec![
                "123 MiB taken",
                "7.00 GiB left",
                "3.00 GiB taken",
                "1.93 cores busy",
                "50.0 GiB left",
            ],
        ),
        (Panel::Fp8, vec!["activations", "1.2%", "0.004%", "1e-6..2e0"]),
        (Panel::Ranks, vec!["rank 0", "75% busy", "of 400 ms", "sent 1.00 MiB"]),
        (Panel::Sample, vec!["the fox", "45% of the MTP drafts taken", "\\u{1b}[2J"]),
    ] {
        view.choices.focus = panel;
        let text = text(&view, 80, 24);
        for part in expected {
            assert!(text.contains(part), "{}: {part:?} is not in\n{text}", panel.name());
        }
    }
}

#[test]
fn a_run_that_stops_says_what_a_second_signal_loses() {
    let mut view = full(Role::Training);
    assert!(!text(&view, 80, 24).contains("Ctrl-C again"));
    view.stopping(true);
    for (saved, made, expected) in [
        (
            Some(1200),
            1234,
            "stopping after step 1,235; the run will be saved. Ctrl-C again ends it \
                            at once and loses what was after step 1,200.",
        ),
        (
            None,
            1234,
            "stopping after step 1,235; the run will be saved. Ctrl-C again ends it at \
                      once and loses all of it: nothing has been saved.",
        ),
        (
            Some(1200),
            1235,
            "step 1,235 was the last; the run is being saved. Ctrl-C again ends it \
                            at once and loses what was after step 1,200.",
        ),
    ] {
        view.live.saved_step = saved;
        view.live.made = made;
        for (width, height) in [(80, 24), (60, 16), (160, 50), (40, 10)] {
            let text = text(&view, width, height);
            let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(joined.contains(expected), "{width}x{height}: {text}");
        }
    }
}

#[test]
fn the_question_and_the_help_are_seen() {
    let mut view = full(Role::Training);
    view.choices.asking = true;
    let asked = text(&view, 80, 24);
    assert!(asked.contains("Stop this run?") && asked.contains("after step 1,235"), "{asked}");
    view.live.guarded = false;
    assert!(text(&view, 80, 24).contains("nothing is lost"), "before the first step");
    view.choices.asking = false;
    view.choices.help = true;
    let help = text(&view, 80, 24);
    assert!(help.contains("stop after this step and save") && help.contains("log"), "{help}");
    assert!(help.contains("any key closes this") && help.contains(":6007"), "{help}");
    assert!(text(&view, 160, 50).contains("in a browser: http://127.0.0.1:6007"));
    let mut view = full(Role::Watching);
    view.choices.help = true;
    assert!(text(&view, 80, 24).contains("leave; the run goes on"));
}

/// Without colours the view says the same.
#[test]
fn no_colour_is_needed() {
    let mut view = full(Role::Training);
    let with: Vec<String> = rows(&view, 160, 50);
    view.palette = Palette::new(false);
    let without = drawn(&view, 160, 50);
    assert!(without.content().iter().all(|cell| {
        use ratatui::style::Color::Reset;
        cell.fg == Reset && cell.bg == Reset
    }));
    assert_eq!(rows(&view, 160, 50)[..4], with[..4]);
}
