//! `dashboard`: what its server answers, whom it lets in, and what it costs.

mod answers;
mod attacks;
mod client;
mod doors;
mod events;
mod load;
mod microscope;
mod recorded;
mod training;
