//! Parity with the reference implementation, over every fixture found.

mod e5m6;
mod fp8;
mod hf;
mod precision;
mod routing;
