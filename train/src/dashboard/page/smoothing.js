// A mean over the steps on either side of each value, so that a smoothed curve does not lag behind.

/** Positions of the slider, 0 to 80, to steps: none, then ever wider. */
export const smoothedOver = (position) => (position <= 0 ? 0 : Math.round(1.09 ** position * 1.4));

/**
 * What one direction adds up to at each value: weights and weighted values, which fade over
 * `steps`.
 */
function faded(values, at, steps, order) {
  const sums = new Float64Array(values.length);
  const weights = new Float64Array(values.length);
  let [sum, weight, before] = [0, 0, null];
  for (const index of order) {
    if (values[index] === null) continue;
    const keeps = before === null ? 0 : Math.exp(-Math.abs(at[index] - before) / steps);
    before = at[index];
    sum = keeps * sum + values[index];
    weight = keeps * weight + 1;
    sums[index] = sum;
    weights[index] = weight;
  }
  return { sums, weights };
}

/**
 * `values` at steps `at`, each the mean of its neighbours with weights exp(-distance / steps);
 * null stays null.
 */
export function smooth(values, at, steps) {
  if (!steps) return values;
  const order = values.map((_, index) => index);
  const past = faded(values, at, steps, order);
  const future = faded(values, at, steps, order.reverse());
  return values.map((value, index) =>
    value === null
      ? null
      : (past.sums[index] + future.sums[index] - value) /
        (past.weights[index] + future.weights[index] - 1),
  );
}
