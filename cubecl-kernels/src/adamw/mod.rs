//! AdamW over a flat parameter on a device in one launch, and the sum of squares that clipping needs
//! (Loshchilov and Hutter, 2019, arXiv 1711.05101; 4.2).

mod kernel;
mod launch;
mod squares;

pub use launch::adamw;
pub use squares::sum_of_squares;
