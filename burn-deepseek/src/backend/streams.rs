//! One stream of work a device, whichever thread asks for it.

/// CubeCL was configured before, with several streams a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "CubeCL runs {streams} streams a device, where a tensor that one thread hands to another can \
     be read before it is written; \
     ask for one before the first device is used, or set streaming.max_streams = 1 in cubecl.toml"
)]
pub struct SeveralStreams {
    /// How many.
    pub streams: u8,
}

/// Lets all threads of this process share one stream on each CubeCL device. A program whose threads
/// hand each other tensors must call it before it uses the first device; ranks in one process are
/// such a program. It stays so for the life of the process.
///
/// By itself CubeCL gives each thread a stream, and a stream waits for the one that *allocated* a
/// buffer. But Burn computes in place where a tensor has one holder, so a buffer can be written by
/// a thread that did not allocate it, and whoever then reads it waits for the wrong stream: it gets
/// the values of before, without an error (CubeCL 0.11.3). In one stream, work runs in the order in
/// which it was asked for.
///
/// Other settings, from `cubecl.toml` and CubeCL's environment variables, stay as they are. Without
/// a CubeCL runtime it does nothing.
///
/// # Errors
/// [`SeveralStreams`] where CubeCL has read its configuration already, and that has several.
pub fn share_streams() -> Result<(), SeveralStreams> {
    #[cfg(feature = "cube")]
    {
        use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

        static CONFIGURED: std::sync::Once = std::sync::Once::new();
        CONFIGURED.call_once(|| {
            let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
            config.streaming.max_streams = 1;
            // Where it is too late, what is there decides below.
            CubeClRuntimeConfig::try_set(config);
        });
        let streams = CubeClRuntimeConfig::get().streaming.max_streams;
        if streams != 1 {
            return Err(SeveralStreams { streams });
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use burn::tensor::Tensor;

    use crate::backend::test_gpu;

    /// Without [`super::share_streams`] this read 1, 2, 3: the tensor has one holder, and the other
    /// thread multiplies it in place.
    #[test]
    fn what_another_thread_has_changed_in_place_is_read_as_changed() {
        let x = Tensor::<1>::from_floats([1.0, 2.0, 3.0], &test_gpu());
        let x = std::thread::spawn(move || x * 8.0 - 0.5).join().unwrap();
        assert_eq!(x.into_data().try_to_vec::<f32>().unwrap(), [7.5, 15.5, 23.5]);
    }

    #[test]
    fn a_tensor_goes_round_three_threads() {
        let device = test_gpu();
        for round in 0..20 {
            let mut x = Tensor::<1>::full([1000], round, &device);
            for step in 0..3 {
                x = std::thread::spawn(move || x * 2.0 + step).join().unwrap();
            }
            let y = x.clone() - 1.0;
            let expected = 8.0 * f64::from(round) + 4.0;
            assert_eq!(
                (x + y).into_data().try_to_vec::<f32>().unwrap(),
                vec![2.0 * expected as f32 - 1.0; 1000],
                "round {round}"
            );
        }
    }
}
