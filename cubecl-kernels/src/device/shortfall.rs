//! Why a path of products does not serve a device.

/// Why a device does not multiply by a faster kernel.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Shortfall {
    /// The runtime reports no such instruction.
    #[error("the device reports no such matrix instruction")]
    NoInstruction,
    /// The compiler makes F16 products of it.
    #[error("the device has it for E4M3 in name only: it unpacks to F16")]
    Unpacks,
    /// The kernel's cube does not fit.
    #[error("the device's planes, cubes or shared memory are not what the kernel needs")]
    NoRoom,
    /// A trial product did not run.
    #[error("{0}")]
    Failed(String),
    /// A trial product came out wrong.
    #[error("{product} differs from the portable kernel's by calc_diff {calc_diff:e}")]
    Wrong {
        /// Which product.
        product: &'static str,
        /// By how much.
        calc_diff: f64,
    },
}
