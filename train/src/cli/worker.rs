//! Arguments of `worker`: where a worker listens and what it lends.

use clap::Args;

use super::TokenArgs;
use super::values::parse_device;
use crate::device::DeviceChoice;

/// Arguments of `worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Where to listen; port 0 takes a free one and says which. Anything but this machine's own
    /// loopback takes a token.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    pub listen: String,
    /// The devices to lend, all of one kind: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm;
    /// `cuda:0,cuda:1` are two.
    #[arg(long, value_name = "DEVICE,..", value_delimiter = ',', default_value = "auto")]
    #[arg(value_parser = parse_device)]
    pub device: Vec<DeviceChoice>,
    /// The token to ask for.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Print a JSON object with the address on standard output when listening, and one of results
    /// as the last line.
    #[arg(long)]
    pub json: bool,
}
