//! The running mean of weights, the plain form.

/// Takes one step in place: `average = (1 - rate) average + rate value`.
pub fn average_into(average: &mut [f64], value: &[f64], rate: f64) {
    for (average, value) in average.iter_mut().zip(value) {
        *average = (1.0 - rate) * *average + rate * value;
    }
}
