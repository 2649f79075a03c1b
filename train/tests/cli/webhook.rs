//! Alerts posted to an address: the run is the same whether anybody listens.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

use crate::workplace::Workplace;

/// Raises an alert after nearly every step.
const ALERTS: &str = "--set alerts.window=2 --set alerts.loss_spike=0.001 --set \
                      alerts.loss_rise=0.001 --set schedule.lr=0.5 --set output.sample_tokens=0";

#[test]
fn alerts_are_posted_and_the_address_is_not_told() {
    let place = Workplace::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let (send, posted) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            // One object: what is read ends with the last brace of it.
            while !bytes.ends_with(b"}") {
                let mut some = [0; 4096];
                let count = stream.read(&mut some).unwrap();
                assert!(count > 0);
                bytes.extend_from_slice(&some[..count]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let body = text.split_once("\r\n\r\n").unwrap().1;
            send.send(serde_json::from_str::<Value>(body).unwrap()).unwrap();
        }
    });
    let address = format!("http://{host}/hook/s3cret");
    let trained = place.train(&format!("{ALERTS} --set alerts.webhook={address} --json")).ok();
    let record = place.record("runs/tiny-001");
    let alerts: Vec<&Value> = record.iter().filter(|line| line["kind"] == "alert").collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        let body = posted.recv_timeout(std::time::Duration::from_secs(5)).unwrap();
        for key in ["step", "level", "rule", "message", "value", "threshold"] {
            assert_eq!(body[key], alert[key], "{body}");
        }
        assert_eq!(body["run"], "tiny-001");
    }
    let shown = place.run("runs show runs/tiny-001").ok();
    place.train("--steps 1 --set output.sample_tokens=0").ok();
    let compared = place.run("runs compare runs/tiny-001 runs/tiny-002").ok();
    for said in [&trained, &shown, &compared] {
        let everything = format!("{}{}", said.stdout, said.stderr);
        assert!(!everything.contains("s3cret"), "{}", said.dump());
        assert!(everything.contains(&format!("http://{host}/...")), "{}", said.dump());
    }
}

#[test]
fn a_run_whose_alerts_cannot_be_posted_is_the_same() {
    let place = Workplace::new();
    place.train(&format!("{ALERTS} --run-dir straight")).ok();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = dead.local_addr().unwrap();
    drop(dead);
    let more = format!("{ALERTS} --set alerts.webhook=http://{host}/hook/s3cret");
    let said = place.train(&format!("{more} --run-dir unheard")).ok();
    assert_eq!(place.record("unheard"), place.record("straight"));
    let told = format!("webhook http://{host}: ");
    assert_eq!(said.stdout.matches(&told).count(), 1, "{}", said.dump());
    assert!(!said.stdout.contains("s3cret"), "{}", said.dump());
    for address in ["ftp://example.com/s3cret", "example.com/s3cret"] {
        let refused = place.train(&format!("--set alerts.webhook={address}"));
        assert!(!refused.stderr.contains("s3cret"), "{}", refused.dump());
        refused.failed(2, &["alerts.webhook must be an address"]);
    }
}
