//! How a new model's weights are drawn: on the host and from one seed, so that every device starts
//! from the same numbers.

use std::ops::Range;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Source of initial weights: `N(0, std)` from a seed, or zeros for a model whose weights are about
/// to be loaded.
#[derive(Debug)]
pub struct WeightInit {
    source: Source,
    device: Device,
    /// The routed experts that there are to be in each MoE layer; none where all are.
    experts: Option<Range<usize>>,
}

/// Where weights come from.
#[derive(Debug)]
enum Source {
    Zeros,
    /// Drawn one after the other.
    Drawn(Box<ChaCha8Rng>, f64),
    /// The same numbers, each weight's when it is first asked for.
    DrawnWhenAsked(Place),
}

/// A place in the stream of numbers that a model's weights are drawn from. The stream's generator
/// is a counter, so that what comes before need not be drawn.
#[derive(Clone, Copy, Debug)]
struct Place {
    seed: u64,
    std: f64,
    /// 32-bit words of the stream before it.
    words: u128,
}

impl WeightInit {
    /// Weights drawn from `N(0, std)`; parameters are drawn in the order in which the model is
    /// built.
    pub fn normal(seed: u64, std: f64, device: &Device) -> Self {
        Self::of(Source::Drawn(Box::new(ChaCha8Rng::seed_from_u64(seed)), std), device)
    }

    /// The weights that [`normal`](Self::normal) draws, each drawn when it is first asked for, and
    /// of the routed experts of each MoE layer those of a range alone: what is never asked for
    /// takes neither memory nor time, wherever in the model it is.
    pub fn part(seed: u64, std: f64, device: &Device, experts: Range<usize>) -> Self {
        let place = Place { seed, std, words: 0 };
        Self { experts: Some(experts), ..Self::of(Source::DrawnWhenAsked(place), device) }
    }

    /// All weights zero, to be overwritten.
    pub fn zeros(device: &Device) -> Self {
        Self::of(Source::Zeros, device)
    }

    fn of(source: Source, device: &Device) -> Self {
        Self { source, device: device.clone(), experts: None }
    }

    /// Where the weights are placed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A weight of the given shape.
    pub fn weight<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<D>> {
        let rows = 0..shape[0];
        self.rows(shape, rows)
    }

    /// A weight of routed experts, whose matrices lie one after the other: of all of them, or of
    /// those of the [part](Self::part).
    pub fn experts(&mut self, shape: [usize; 3]) -> Param<Tensor<3>> {
        let rows = self.experts.clone().unwrap_or(0..shape[0]);
        self.rows(shape, rows)
    }

    /// Some of a weight's first dim.
    fn rows<const D: usize>(&mut self, whole: [usize; D], rows: Range<usize>) -> Param<Tensor<D>> {
        let count: usize = whole.iter().product();
        let mut shape = whole;
        shape[0] = rows.len();
        match &mut self.source {
            // Made when it is first asked for: not at all where a checkpoint's is put there.
            Source::Zeros => lazy(shape, &self.device, move |device| Tensor::zeros(shape, device)),
            Source::Drawn(rng, std) => {
                let values = TensorData::new(normals(rng, *std, count), whole);
                Param::from_tensor(Tensor::from_data(values, &self.device))
            }
            Source::DrawnWhenAsked(place) => {
                let from = *place;
                place.words += WORDS_A_PAIR * count.div_ceil(2) as u128;
                let row = whole[1..].iter().product::<usize>();
                let range = rows.start * row..rows.end * row;
                lazy(shape, &self.device, move |device| {
                    Tensor::from_data(TensorData::new(from.normals(range), shape), device)
                })
            }
        }
    }

    /// A vector of ones (norms) as a trainable parameter.
    pub fn ones(&self, len: usize) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::ones([len], &self.device))
    }

    /// A vector of zeros (biases) as a trainable parameter.
    pub fn zero_bias(&self, len: usize) -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::zeros([len], &self.device))
    }
}

/// A parameter that is made when it is first asked for.
fn lazy<const D: usize>(
    shape: [usize; D],
    device: &Device,
    make: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    let made = move |device: &Device, require_grad| make(device).set_require_grad(require_grad);
    Param::uninitialized(ParamId::new(), made, device.clone(), true, shape.into())
}

/// A parameter with another value of its shape; one that has not been made is not made for that.
pub fn with_value<const D: usize>(param: Param<Tensor<D>>, value: Tensor<1>) -> Param<Tensor<D>> {
    if param.is_initialized() {
        return param.map(|old| value.reshape(old.dims()));
    }
    let value = value.reshape(param.lazy_shape().dims::<D>());
    Param::initialized(param.id, value).set_require_grad(true)
}

/// Words that two draws take: two numbers of 64 bits.
const WORDS_A_PAIR: u128 = 4;

impl Place {
    /// The draws of a range, counted from this place.
    fn normals(self, range: Range<usize>) -> Vec<f32> {
        let pairs_before = range.start / 2;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_word_pos(self.words + WORDS_A_PAIR * pairs_before as u128);
        let odd = range.start % 2;
        let mut values = normals(&mut rng, self.std, odd + range.len());
        values.drain(..odd);
        values
    }
}

/// `count` draws from `N(0, std)` by Box and Muller's transform.
fn normals(rng: &mut ChaCha8Rng, std: f64, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let (sin, cos) = (2.0 * std::f64::consts::PI * rng.random::<f64>()).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_the_asked_moments_and_repeat() {
        let draw = || normals(&mut ChaCha8Rng::seed_from_u64(7), 0.006, 20_001);
        let values = draw();
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let variance =
            values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 2e-4, "{mean}");
        assert!((variance.sqrt() / 0.006 - 1.0).abs() < 0.02, "{variance}");
        assert_eq!(values, draw());
    }

    /// What a part draws of a model is what the whole has there, whichever weights are asked for,
    /// and in whatever order; what is not asked for is not made.
    #[test]
    fn a_part_draws_what_the_whole_has_there() {
        let device = Device::flex();
        let values = |data: TensorData| data.try_into_vec_as::<f32>().unwrap();
        let (mut whole, mut part) =
            (WeightInit::normal(3, 0.1, &device), WeightInit::part(3, 0.1, &device, 1..3));
        // Odd counts: a draw of each pair is left over.
        let shapes = [[3, 5], [1, 1], [7, 3]];
        let all: Vec<_> = shapes.map(|shape| whole.weight(shape)).into();
        let some: Vec<_> = shapes.map(|shape| part.weight(shape)).into();
        let experts = [whole.experts([4, 3, 5]), part.experts([4, 3, 5])];
        let last = [whole.weight([2, 2]), part.weight([2, 2])].map(|p| values(p.val().into_data()));
        assert_eq!(last[0], last[1]);
        assert!(!some[0].is_initialized() && !experts[1].is_initialized());
        assert_eq!(experts[1].lazy_shape().dims::<3>(), [2, 3, 5]);
        let [of_whole, of_part] = experts.map(|experts| values(experts.val().into_data()));
        assert_eq!(of_part, of_whole[15..45]);
        for place in [2, 0, 1] {
            let [want, got] =
                [&all[place], &some[place]].map(|param| values(param.val().into_data()));
            assert_eq!(got, want, "weight {place}");
        }
    }
}
