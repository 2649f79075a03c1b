//! Seeded, version-independent randomness: what a seed gives today it gives after every upgrade.
//!
//! Everything the data pipeline draws at random (documents, splits, fill-in-the-middle, the order
//! of windows) comes from here and not from the `rand` crate, whose streams may change between
//! releases: a run resumed with a newer build must see the same data.

/// Mixes 64 bits into 64 bits, a bijection (the finalizer of SplitMix64, Steele et al. 2014).
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Derives an independent seed from a seed and a number (an epoch, a document's index, a purpose).
pub(crate) fn derive(seed: u64, number: u64) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN)) ^ number.wrapping_mul(GOLDEN))
}

/// A seeded 64-bit hash of bytes (FNV-1a, then [`mix`]), the same on every machine, whatever the
/// pieces in which they are given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BytesHash(u64);

impl BytesHash {
    /// The hash of no bytes yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self(0xCBF2_9CE4_8422_2325 ^ mix(seed))
    }

    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
    }

    /// The hash of all bytes so far.
    pub(crate) fn value(self) -> u64 {
        mix(self.0)
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A SplitMix64 stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    state: u64,
}

impl Stream {
    /// Starts the stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// The next number in [0, 1), with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next number in 0..bound; 0 where `bound` is 0. The bias is below bound / 2^64.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a changed constant: it would silently give resumed runs other data.
    #[test]
    fn stream_is_splitmix64() {
        let mut stream = Stream::new(1_234_567);
        assert_eq!(stream.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(stream.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn numbers_stay_in_range_and_spread() {
        let mut stream = Stream::new(3);
        let mut counts = [0usize; 7];
        for _ in 0..7_000 {
            counts[stream.below(7)] += 1;
        }
        assert!(counts.iter().all(|&c| (850..1150).contains(&c)), "{counts:?}");
        assert_eq!(stream.below(0), 0);
        let mean = (0..10_000).map(|_| stream.unit()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn hash_depends_on_seed_and_bytes() {
        let hash = |seed, pieces: &[&[u8]]| {
            let mut hash = BytesHash::new(seed);
            pieces.iter().for_each(|piece| hash.add(piece));
            hash.value()
        };
        assert_eq!(hash(1, &[b"abc"]), hash(1, &[b"a", b"", b"bc"]));
        assert_ne!(hash(1, &[b"abc"]), hash(2, &[b"abc"]));
        assert_ne!(hash(1, &[b"abc"]), hash(1, &[b"abd"]));
        // A changed constant would divide the documents of a resumed run in another way.
        assert_eq!(hash(0, &[b"a"]), 0x02c0bdbf481420f8);
        assert_ne!(derive(1, 2), derive(2, 1));
    }
}
