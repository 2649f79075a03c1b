//! Runs in a browser: a server of pages and of the numbers that they show, within limits, on a
//! thread of its own.
//!
//! **Invariant.** No request has a path in it, and nothing outside the folders shown is read: a run
//! is asked for by a digest of its folder, and a link that leads out is refused.
//!
//! **Invariant.** What many pages watch costs as one: files are looked at once for all of them, and
//! what is new goes to each from there.

mod asked;
mod collection;
mod columns;
mod configured;
mod connection;
mod decimate;
mod door;
mod head;
mod house;
mod index;
mod news;
mod numbers;
mod offset;
mod place;
mod refusal;
mod routes;
mod row;
mod run;
mod server;

pub use server::{Address, Dashboard, Listening};
