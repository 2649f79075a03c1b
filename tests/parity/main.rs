//! Parity with the reference implementation, over every fixture found.

mod fp8;
mod hf;
mod precision;
