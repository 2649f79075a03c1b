//! Parity with the reference implementation, over every fixture found.

mod hf;
