//! Train, watch, evaluate and sample DeepSeek-V3 models on Burn: what owns files, processes, time
//! and seeds.
//!
//! The modules stand above one another, and none knows what stands above it:
//!
//! | floor | modules |
//! |---|---|
//! | commands | [`commands`] |
//! | runs in a browser | [`dashboard`] |
//! | what a command is made of | [`cli`], [`plan`], [`runs`], [`training`], [`microscope`], [`terminal`] |
//! | a model as it lies in a folder, and whether it fits | [`model_folder`], [`oversize`] |
//! | what computes, keeps and shows steps | [`dualpipe`], [`checkpoint`], [`metrics`] |
//! | what learns, and where; Ctrl-C; event files | [`learner`], [`device`], [`signals`], [`tensorboard`] |
//! | a run as a value, and how a command ends | [`config`], [`exit`] |
//! | what they are made of | [`data`], [`parallel`], [`record`], [`routing`], [`run_lock`], [`stdout`], [`durable`] |
//! | errors, text that fits and is visible, what changes in a run's course | [`failure`], [`fold`], [`visible`], [`schedule`] |
//! | where tests kill it; how much memory it has had | [`kill_point`], [`peak_memory`] |

pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dashboard;
pub mod data;
pub mod device;
pub mod digits;
pub mod dualpipe;
pub mod durable;
pub mod exit;
pub mod failure;
pub mod fold;
pub mod kill_point;
pub mod learner;
pub mod metrics;
pub mod microscope;
pub mod model_folder;
pub mod oversize;
pub mod parallel;
pub mod peak_memory;
pub mod plan;
pub mod process_status;
pub mod record;
pub mod routing;
pub mod run_lock;
pub mod runs;
pub mod schedule;
pub mod shell_word;
pub mod signals;
pub mod stdout;
pub mod tensorboard;
pub mod terminal;
pub mod training;
pub mod visible;
