//! AdamW, the plain form.

use crate::definition::AdamWConfig;

/// Takes one step in place, as PyTorch's AdamW does.
pub fn adamw(
    param: &mut [f64],
    gradient: &[f64],
    m: &mut [f64],
    v: &mut [f64],
    config: &AdamWConfig,
) {
    let (lr, beta1, beta2) =
        (f64::from(config.lr), f64::from(config.beta1), f64::from(config.beta2));
    for i in 0..param.len() {
        let g = f64::from(config.gradient_scale) * gradient[i];
        param[i] -= lr * f64::from(config.weight_decay) * param[i];
        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
        v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
        let m_hat = m[i] / (1.0 - beta1.powf(config.step as f64));
        let v_hat = v[i] / (1.0 - beta2.powf(config.step as f64));
        param[i] -= lr * m_hat / (v_hat.sqrt() + f64::from(config.eps));
    }
}
