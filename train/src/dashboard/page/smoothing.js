// A mean over the steps on either side of each value, so that a smoothed curve does not lag behind.

/** The last position of the slider. */
export const WIDEST = 80;

/** From a position of the slider to steps: none, then up to a tenth of a run of `total` steps. */
export const smoothedOver = (position, total) =>
  position <= 0 ? 0 : Math.max(1, Math.round(0.1 * total * (position / WIDEST) ** 3));

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
