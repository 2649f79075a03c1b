//! What was measured, as a cluster's file for `plan cluster`.

use super::exchange::Exchange;
use super::messages::Link;
use super::rates::Rates;
use crate::config::Format;
use crate::fold::fold;

/// The least share of a link that is written.
const LEAST: f64 = 0.01;

/// A machine, or several, as ranks find them.
pub(super) struct Machine<'a> {
    /// How it was measured.
    pub setting: &'a str,
    pub name: &'a str,
    /// Of a rank.
    pub memory_gib: f64,
    pub ranks_a_node: usize,
    pub nodes: usize,
    /// In a node and between nodes.
    pub links: [Option<Link>; 2],
    pub rates: Rates,
    /// What the run computes in.
    pub format: Format,
    pub exchanges: &'a [Exchange],
}

impl Machine<'_> {
    /// The share of the links that the largest exchange attains, all ranks at it at the same time.
    fn share_of_links(&self) -> f64 {
        let largest =
            self.exchanges.iter().rev().find(|exchange| exchange.two_hops == (self.nodes > 1));
        let Some(exchange) = largest else { return 1.0 };
        let [fast, slow] = self.links;
        let us =
            |bytes: f64, link: Option<Link>| link.map_or(0.0, |link| bytes / 1e3 / link.gb_per_s);
        let latency_us: f64 = [fast, slow].into_iter().flatten().map(|link| link.latency_us).sum();
        let bytes_us = us(exchange.fast_bytes, fast).max(us(exchange.slow_bytes, slow));
        let way_us = exchange.way_us() - 2.0 * latency_us; // there and back
        if way_us <= bytes_us { 1.0 } else { (bytes_us / way_us).max(LEAST) }
    }

    /// The file.
    pub fn toml(&self) -> String {
        let Self { setting, name, memory_gib, ranks_a_node, nodes, links, rates, .. } = self;
        let [fast, slow] = links;
        // A rank a node has no link inside of it, but a plan reckons with one.
        let fast = fast.or(*slow).unwrap_or(Link { latency_us: 0.0, gb_per_s: 1.0 });
        let link = |Link { latency_us, gb_per_s }: Link| {
            format!("gb_per_s = {}\nlatency_us = {latency_us:.3}\n", written(gb_per_s))
        };
        let slow = slow.map_or_else(String::new, |slow| format!("\n[link.slow]\n{}", link(slow)));
        let own = rates.products / rates.peak;
        let f32_peak = if self.format == Format::F32 { rates.peak } else { rates.f32_peak };
        let f32 = (rates.products / f32_peak).min(1.0);
        let [peak, f32_peak, own, f32, copy, memory, share] = [
            rates.peak,
            f32_peak,
            own,
            f32,
            rates.copy,
            rates.memory / rates.copy,
            self.share_of_links(),
        ]
        .map(written);
        let peaks = match self.format {
            Format::F32 => String::new(),
            Format::Bf16 => format!("bf16_tflops = {peak}\n"),
            Format::Fp8 => format!("fp8_tflops = {peak}\nbf16_tflops = {peak}\n"),
        };
        let comment = fold(&format!("# Measured: {setting}\n"), 100);
        format!(
            "{comment}\n\
             [gpu]\n\
             name = {name:?}\n\
             memory_gib = {memory_gib:.3} # of the machine, shared by its ranks\n\
             memory_gb_per_s = {copy} # a copy by every rank at once\n\
             f32_tflops = {f32_peak} # the instruction of products alone, every rank at once\n\
             {peaks}\
             # one sequence in a micro-batch takes {:.2} ms where all at once take {:.2}\n\
             layer_us = {:.3}\n\n\
             [node]\n\
             gpus = {ranks_a_node}\n\
             count = {nodes}\n\n\
             # messages of rank 0: the smallest, and what more bytes cost\n\
             [link.fast]\n{}{slow}\n\
             # so that a rank alone takes what it took\n\
             [rates]\n\
             linear_fp8 = {own}\n\
             linear_bf16 = {own}\n\
             linear_f32 = {f32}\n\
             attention_forward = {own}\n\
             attention_backward = {own}\n\
             memory = {memory} # the optimizer's update\n\
             link_fast = {share} # the exchange of a layer, all ranks at it\n\
             link_slow = {share}\n",
            rates.one_ms,
            rates.all_ms,
            rates.layer_us,
            link(fast),
        )
    }
}

/// A number above 0 that stays above 0, however small it is.
fn written(number: f64) -> String {
    if number < 1e-2 { format!("{number:.4e}") } else { format!("{number:.5}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates that come to what was measured, between 0 and 1, and links of both kinds.
    #[test]
    fn the_file_has_what_was_measured() {
        let rates = Rates {
            f32_peak: 0.2,
            peak: 0.4,
            products: 0.1,
            copy: 10.0,
            memory: 5.0,
            layer_us: 70.0,
            one_ms: 30.0,
            all_ms: 20.0,
            update_ms: 2.0,
        };
        let link = |gb_per_s| Some(Link { latency_us: 20.0, gb_per_s });
        let exchange = |two_hops| Exchange {
            tokens: 64,
            two_hops,
            us: 1200.0,
            alone_us: 720.0,
            fast_bytes: 4e5,
            slow_bytes: 2e5,
        };
        let mut machine = Machine {
            setting: "2 ranks",
            name: "flex",
            memory_gib: 4.0,
            ranks_a_node: 2,
            nodes: 2,
            links: [link(4.0), link(1.0)],
            rates,
            format: Format::Fp8,
            exchanges: &[exchange(false), exchange(true)],
        };
        // 480 us of the way, 80 of which are latencies; 200 KB at 1 GB/s are 200 us of the rest.
        let table: toml::Table = toml::from_str(&machine.toml()).unwrap();
        let number =
            |table: &toml::Table, section: &str, key: &str| table[section][key].as_float().unwrap();
        assert_eq!(number(&table, "rates", "link_fast"), 0.5);
        assert_eq!(written(1.25e-7).parse::<f64>().unwrap(), 1.25e-7);
        assert_eq!(number(&table, "rates", "linear_fp8"), 0.25);
        assert_eq!(number(&table, "rates", "linear_f32"), 0.5);
        assert_eq!(number(&table, "gpu", "fp8_tflops"), 0.4);
        assert_eq!(table["link"]["slow"]["gb_per_s"].as_float(), Some(1.0));
        // A machine of one node, in FP32.
        (machine.nodes, machine.links[1], machine.format) = (1, None, Format::F32);
        let table: toml::Table = toml::from_str(&machine.toml()).unwrap();
        assert!(table["link"].get("slow").is_none() && table["gpu"].get("fp8_tflops").is_none());
        assert_eq!(number(&table, "gpu", "f32_tflops"), 0.4);
    }
}
