//! The emulation against the rule that the hardware follows, and the hardware against it.

use super::{BLOCK, Block, Emulated, Promotion, STEP, STEP_WORDS, Segment, Sums, Tiles};
use crate::test_inputs::random;

/// One block of `steps`, and what it is promoted with.
struct Case {
    left: Vec<Step>,
    right: Vec<Step>,
    from: Vec<f32>,
    scales: [[f32; BLOCK]; 2],
}

/// A step of an operand, from the start of a cache line.
#[repr(align(64))]
struct Step([u32; BLOCK * STEP_WORDS]);

/// What numbers a case is made of.
#[derive(Debug, Clone, Copy)]
enum Numbers {
    Moderate,
    AnyFinite,
    MostlySubnormal,
    WithNanAndInfinity,
}

fn cases() -> impl Iterator<Item = (String, Case)> {
    use Numbers::*;
    let kinds = [Moderate, AnyFinite, MostlySubnormal, WithNanAndInfinity];
    kinds.into_iter().enumerate().flat_map(|(k, numbers)| {
        (0..12).map(move |round| {
            let steps = [1, 2, 3, 4, 5, 7, 8, 16][round % 8];
            let case = Case::new((k * 100 + round) as u64, steps, numbers);
            (format!("{numbers:?}, {steps} steps, round {round}"), case)
        })
    })
}

impl Case {
    fn new(seed: u64, steps: usize, numbers: Numbers) -> Self {
        let count = BLOCK * STEP;
        let values = random(seed, 2 * steps * count + count + BLOCK);
        let mut bits = values.iter().map(|x| {
            let x = ((x + 1.0) * 32_768.0) as u32 as u16;
            match numbers {
                Numbers::Moderate => (x & 0x83FF) | 0x3C00,
                Numbers::AnyFinite if x & 0x7F80 == 0x7F80 => x & 0xBFFF,
                Numbers::AnyFinite => x,
                Numbers::MostlySubnormal => x & 0x9FFF,
                Numbers::WithNanAndInfinity if x.is_multiple_of(997) => x | 0x7F80,
                Numbers::WithNanAndInfinity => (x & 0x8FFF) | 0x3000,
            }
        });
        let mut next = || u32::from(bits.next().unwrap());
        let mut operand = || -> Vec<Step> {
            let step = |_| Step(std::array::from_fn(|_| next() | next() << 16));
            (0..steps).map(step).collect()
        };
        let (left, right) = (operand(), operand());
        let from = (0..count).map(|_| f32::from_bits(next() << 16)).collect();
        let rows = std::array::from_fn(|_| f32::from_bits((next() & 0xFF | 0x3F00) << 16));
        Self { left, right, from, scales: [rows, [1.5; BLOCK]] }
    }

    /// The steps as segments of one, two and all others.
    fn segments(&self) -> Vec<Segment> {
        let ends = [1, 3, self.left.len()].map(|end| end.min(self.left.len()));
        let mut first = 0;
        let mut segments = Vec::new();
        for end in ends.into_iter().filter(|&end| end > 0) {
            if end > first {
                let [left, right] = [&self.left, &self.right].map(|x| x[first..].as_ptr().cast());
                segments.push(Segment { left, right, steps: end - first });
            }
            first = end;
        }
        segments.push(Segment::END);
        segments
    }

    fn block(segments: &[Segment], sums: &mut Sums) -> Block {
        let Segment { left, right, steps } = segments[0];
        Block { left, right, steps, next: &segments[1], sums }
    }

    /// Sums and promoted sums of a unit, apart and then woven: a block's product, in segments, beside
    /// the promotion of the sums before.
    fn run(&self, unit: &impl Tiles) -> [Vec<u32>; 4] {
        let (mut sums, mut other) = (Sums([[7.0; BLOCK]; BLOCK]), Sums([[8.0; BLOCK]; BLOCK]));
        let (mut to, mut woven) = (vec![9.0f32; BLOCK * BLOCK], vec![9.0f32; BLOCK * BLOCK]);
        let pitch = BLOCK * size_of::<f32>();
        let [left, right] = [&self.left, &self.right].map(|x| x.as_ptr().cast());
        let whole = [Segment { left, right, steps: self.left.len() }, Segment::END];
        let segments = self.segments();
        // SAFETY: blocks and promotions lie in the vectors of this case; the unit is this
        // machine's.
        unsafe {
            unit.run(Some(&Self::block(&whole, &mut sums)), None);
            let promotion = Promotion {
                sums: &sums,
                row_scales: &self.scales[0],
                column_scales: &self.scales[1],
                from: self.from.as_ptr(),
                from_pitch: pitch,
                to: to.as_mut_ptr(),
                to_pitch: pitch,
            };
            unit.run(None, Some(&promotion));
            let beside = Promotion { to: woven.as_mut_ptr(), ..promotion };
            unit.run(Some(&Self::block(&segments, &mut other)), Some(&beside));
        }
        [sums.0.as_flattened(), &to, other.0.as_flattened(), &woven].map(bits)
    }

    /// The sum of row and column by the rule, an entry at a time.
    fn sum(&self, row: usize, column: usize) -> f32 {
        let flush = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
        let number = |word: u32, odd: usize| {
            flush(f32::from_bits(if odd == 0 { word << 16 } else { word & 0xFFFF_0000 }))
        };
        let mut sum = 0.0f32;
        for (left, right) in self.left.iter().zip(&self.right) {
            let mut parts = [0.0f32; 2];
            for i in 0..STEP {
                let left = number(left.0[row * STEP_WORDS + i / 2], i % 2);
                let right = number(right.0[i / 2 * BLOCK + column], i % 2);
                parts[i % 2] = flush(left.mul_add(right, parts[i % 2]));
            }
            sum = flush(sum + flush(parts[0] + parts[1]));
        }
        sum
    }
}

/// Bits, of every NaN the same.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { 0x7FC0_0000 } else { x.to_bits() }).collect()
}

#[test]
fn the_emulation_follows_the_rule() {
    for (name, case) in cases() {
        let sums: Vec<f32> = (0..BLOCK * BLOCK).map(|i| case.sum(i / BLOCK, i % BLOCK)).collect();
        let scale = |i: usize| case.scales[0][i / BLOCK] * case.scales[1][i % BLOCK];
        let promoted: Vec<f32> =
            (0..BLOCK * BLOCK).map(|i| scale(i).mul_add(sums[i], case.from[i])).collect();
        let [plain, to, woven, beside] = case.run(&Emulated);
        assert!(plain == bits(&sums), "{name}: sums");
        assert!(to == bits(&promoted), "{name}: promoted");
        assert!(woven == plain && beside == to, "{name}: woven");
    }
}

#[test]
fn the_hardware_is_emulated_to_the_bit() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if super::permission().is_ok() {
        let unit = super::Amx::new();
        for (name, case) in cases() {
            assert!(case.run(&unit) == case.run(&Emulated), "{name}");
        }
        return;
    }
    println!("skipped: {}", super::permission().unwrap_err());
}
