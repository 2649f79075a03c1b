//! DeepSeekMoE: the router, the routed and shared experts, and what keeps their loads even (2.1.2).

mod balance;
mod layer;
mod router;
mod select;

pub use balance::{
    max_violation, mean_entropy, sequence_balance_loss, update_biases, update_known_biases,
    updated_bias,
};
pub use layer::{Experts, MixtureOfExperts};
pub use router::Router;
pub use select::ExpertSelection;
