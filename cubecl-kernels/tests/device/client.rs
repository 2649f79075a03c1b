//! The device under test and moving data to and from it.

use cubecl::prelude::*;
use cubecl::server::Handle;

/// The default device of the runtimes in this build.
pub fn client() -> Client {
    cubecl::Device::default().client()
}

pub fn upload(client: &Client, x: &[f32]) -> Handle {
    client.create_from_slice(f32::as_bytes(if x.is_empty() { &[0.0] } else { x }))
}

pub fn upload_words(client: &Client, x: &[u32]) -> Handle {
    client.create_from_slice(u32::as_bytes(if x.is_empty() { &[0] } else { x }))
}

/// The first `count` numbers of a buffer.
pub fn download(client: &Client, x: &Handle, count: usize) -> Vec<f32> {
    words(client, x, count).into_iter().map(f32::from_bits).collect()
}

/// The first `count` words of a buffer.
pub fn words(client: &Client, x: &Handle, count: usize) -> Vec<u32> {
    let bytes = client.read_one(x.clone()).unwrap();
    assert!(bytes.len() >= 4 * count, "{} bytes for {count} words", bytes.len());
    bytes.chunks_exact(4).take(count).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}
