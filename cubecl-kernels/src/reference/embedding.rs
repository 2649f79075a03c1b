//! Embedding and the gradient of its table, the plain form.

/// Looks up rows, `out[i] = table[ids[i]]`.
///
/// # Shapes
/// - `table [vocab, width]`, `ids [n]` -> `[n, width]`
pub fn embedding(table: &[f64], ids: &[i64], width: usize) -> Vec<f64> {
    ids.iter().flat_map(|&id| &table[id as usize * width..][..width]).copied().collect()
}

/// Computes the gradient of the table, `dtable[ids[i]] += dy[i]`.
///
/// # Shapes
/// - `dy [n, width]`, `ids [n]` -> `[vocab, width]`
pub fn embedding_backward(dy: &[f64], ids: &[i64], vocab: usize, width: usize) -> Vec<f64> {
    let mut gradient = vec![0.0; vocab * width];
    for (i, &id) in ids.iter().enumerate() {
        for d in 0..width {
            gradient[id as usize * width + d] += dy[i * width + d];
        }
    }
    gradient
}
