//! Strangers at a worker's door: what they send is bounded, what they leave is cleared away, and a
//! training that runs meanwhile is not hurt.
#![cfg(all(target_os = "linux", feature = "remote"))]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::worker_kills::Held;
use crate::workers::{Lender, Training};
use crate::workplace::Workplace;

/// Longer than a worker waits for anybody to say who it is.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection to a worker, spoken to byte by byte.
struct Stranger(TcpStream);

impl Stranger {
    fn comes(lender: &Lender) -> Self {
        let stream = TcpStream::connect(lender.address.trim_start_matches("ws://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Asks for a WebSocket; the status of the answer.
    fn asks(&mut self, path: &str, host: &str, more: &str) -> String {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\
             {more}\r\n"
        );
        self.0.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        let answer = String::from_utf8(answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    /// Opens a session as far as its first message.
    fn at_session(lender: &Lender) -> Self {
        let mut stranger = Self::comes(lender);
        assert_eq!(stranger.asks("/session", "127.0.0.1", ""), "101");
        stranger
    }

    /// Sends a binary frame, whose mask is zero.
    fn sends(&mut self, message: &[u8]) {
        let mut frame = vec![0x82, 0xfe];
        frame.extend((message.len() as u16).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(message);
        self.0.write_all(&frame).unwrap();
    }

    /// Opens a session with a credential; the bytes of the answer's frame.
    fn says(&mut self, credential: &str) -> Vec<u8> {
        let mut message = [&[0x91, 0x81, 0xa4][..], b"Init", &[0x94, 2, 0x91, 7, 0]].concat();
        message.push(0xc5);
        message.extend((credential.len() as u16).to_be_bytes());
        message.extend(credential.as_bytes());
        self.sends(&message);
        let mut header = [0; 2];
        self.0.read_exact(&mut header).unwrap();
        let mut answer = match header[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                vec![0; u16::from_be_bytes(length).into()]
            }
            length => vec![0; length.into()],
        };
        self.0.read_exact(&mut answer).unwrap();
        answer
    }

    /// Opens a session as soon as no other training is served.
    fn served(lender: &Lender, credential: &str) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut stranger = Self::at_session(lender);
            let answer = stranger.says(credential);
            if !holds(&answer, "NoSuchDevice") {
                assert!(!holds(&answer, "Refused"), "{answer:?}");
                return stranger;
            }
            assert!(Instant::now() < deadline, "another training is served on and on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the worker ends the connection.
    fn is_shown_out(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match self.0.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn credential(token: &str, secret: char, workers: &[String]) -> String {
    let mut text = format!("{token}\nrank 0\ntraining {}", String::from(secret).repeat(32));
    for worker in workers {
        text += &format!("\nworker {worker}");
    }
    text
}

#[test]
fn requests_are_judged_by_their_headers() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    for (path, host, more, status) in [
        ("/session", "127.0.0.1:3000", "", "101"),
        ("/session", "LOCALHOST", "", "101"),
        ("/session", "[::1]:3000", "", "101"),
        ("/session", "127.0.0.1", "Origin: http://127.0.0.1\r\n", "403"),
        ("/session", "127.0.0.1", "Origin: null\r\n", "403"),
        ("/session", "attacker.example:3000", "", "403"),
        ("/session", "127.0.0.1", "Host: attacker.example\r\n", "403"),
        ("/session", "127.0.0.1.attacker.example", "", "403"),
        ("/data", "127.0.0.1", "", "404"),
        ("/", "127.0.0.1", "", "404"),
        ("/tensors", "127.0.0.1", "", "401"),
        ("/tensors", "127.0.0.1", "Authorization: Bearer 0123\r\n", "401"),
    ] {
        let answered = Stranger::comes(&lender).asks(path, host, more);
        assert_eq!(answered, status, "{path}, {host}, {more}");
    }
}

#[test]
fn a_wrong_token_opens_nothing() {
    let place = Workplace::new();
    place.write("token", "open sesame\n");
    let lender = Lender::new(&place, "--listen 127.0.0.1:0 --token-file token");
    for wrong in ["", "open barley", "open sesame ", "open sesam"] {
        let mut stranger = Stranger::at_session(&lender);
        let answer = stranger.says(&credential(wrong, 'a', &[]));
        assert!(holds(&answer, "Unauthorized"), "{answer:?}");
        assert!(stranger.is_shown_out());
    }
    let answer = Stranger::at_session(&lender).says(&credential("open sesame", 'a', &[]));
    assert!(!holds(&answer, "Refused") && holds(&answer, "Init"), "{answer:?}");
}

/// Tensors are asked for with a training's secret, and whoever has it and hangs up leaves nothing.
#[test]
fn whoever_asks_for_unknown_tensors_and_leaves_leaves_nothing() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let mut session = Stranger::at_session(&lender);
    assert!(holds(&session.says(&credential("", 'b', &[])), "Init"));
    let authorization = format!("Authorization: Bearer {}\r\n", "b".repeat(32));
    let before = Held::by(&lender);
    for _ in 0..300 {
        assert_eq!(Stranger::comes(&lender).asks("/data", "127.0.0.1", ""), "404");
        let mut fetcher = Stranger::comes(&lender);
        assert_eq!(fetcher.asks("/tensors", "127.0.0.1", &authorization), "101");
        fetcher.sends(&[9; 32]);
    }
    Held::is_back(&lender, before);
    // One that stays ends with its training.
    let mut fetcher = Stranger::comes(&lender);
    assert_eq!(fetcher.asks("/tensors", "127.0.0.1", &authorization), "101");
    fetcher.sends(&[9; 32]);
    drop(session);
    assert!(fetcher.is_shown_out());
    let answered = Stranger::comes(&lender).asks("/tensors", "127.0.0.1", &authorization);
    assert_eq!(answered, "401");
}

#[test]
fn a_frame_of_a_gibibyte_takes_no_memory() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let before = Held::by(&lender);
    let mut strangers: Vec<_> = (0..4).map(|_| Stranger::at_session(&lender)).collect();
    for stranger in &mut strangers {
        let header = [&[0x82, 0xff][..], &(1u64 << 30).to_be_bytes(), &[0; 4]].concat();
        stranger.0.write_all(&header).unwrap();
        let chunk = vec![0; 1 << 20];
        for _ in 0..64 {
            if stranger.0.write_all(&chunk).is_err() {
                break; // it is not listened to any more
            }
        }
        let now = Held::by(&lender);
        assert!(now.resident_mib < before.resident_mib + 16, "{before:?} -> {now:?}");
        assert!(stranger.is_shown_out());
    }
    // In pieces it is no different.
    let mut stranger = Stranger::at_session(&lender);
    let piece = [&[0x02, 0xfe, 0x7f, 0xff, 0, 0, 0, 0][..], &[0; 0x7fff]].concat();
    while stranger.0.write_all(&piece).is_ok() {}
    let now = Held::by(&lender);
    assert!(now.resident_mib < before.resident_mib + 16, "{before:?} -> {now:?}");
}

#[test]
fn whoever_does_not_say_who_it_is_is_shown_out() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let before = Held::by(&lender);
    let mut silent = Stranger::comes(&lender);
    let mut half = Stranger::comes(&lender);
    half.0.write_all(b"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\n").unwrap();
    let mut open = Stranger::at_session(&lender);
    let mut endless = Stranger::comes(&lender);
    endless.0.write_all(b"GET /session HTTP/1.1\r\n").unwrap();
    let line = format!("X: {}\r\n", "x".repeat(1000));
    let mut sent = 0;
    while endless.0.write_all(line.as_bytes()).is_ok() {
        sent += line.len();
        assert!(sent < 64 << 20, "headers without end are read");
    }
    for stranger in [&mut silent, &mut half, &mut open] {
        assert!(stranger.is_shown_out());
    }
    Held::is_back(&lender, before);
}

/// Whoever comes while a training is served gets no session, and so no memory.
#[test]
fn a_second_training_gets_nothing_while_the_first_is_served() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let first = Stranger::served(&lender, &credential("", 'e', &[]));
    let mut second = Stranger::at_session(&lender);
    let answer = second.says(&credential("", 'f', &[]));
    assert!(holds(&answer, "NoSuchDevice"), "{answer:?}");
    assert!(second.is_shown_out());
    let of_the_first = Stranger::at_session(&lender).says(&credential("", 'e', &[]));
    assert!(!holds(&of_the_first, "Refused"), "{of_the_first:?}");
    first.0.shutdown(std::net::Shutdown::Both).unwrap();
    Stranger::served(&lender, &credential("", 'f', &[]));
}

/// A crowd does not keep a training out.
#[test]
fn a_crowd_does_not_stop_a_worker() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let before = Held::by(&lender);
    let crowd: Vec<_> = (0..2000).map(|_| Stranger::comes(&lender)).collect();
    place.train(&format!("--device {} --run-dir there", lender.address)).ok();
    place.train("--device flex --run-dir here").ok();
    assert_eq!(place.metrics("there"), place.metrics("here"));
    drop(crowd);
    let now = Held::by(&lender);
    assert!(now.descriptors < before.descriptors + 100, "{before:?} -> {now:?}");
}

#[test]
fn a_worker_dials_only_workers_of_its_training() {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let port = target.local_addr().unwrap().port();
    // `[{"Task": {"RegisterTensorRemote": [[1], [capability, {"WebSocket": address}], [5]]}}]`.
    let mut fetch = [&[0x91, 0x81, 0xa4][..], b"Task", &[0x81, 0xb4]].concat();
    fetch.extend(b"RegisterTensorRemote");
    fetch.extend([0x93, 0x91, 1, 0x92, 0xdc, 0, 32]);
    fetch.extend([7; 32]);
    fetch.extend([&[0x81, 0xa9][..], b"WebSocket", &[0x93, 0xa2], b"ws", &[0xa9]].concat());
    fetch.extend(b"127.0.0.1");
    fetch.push(0xcd);
    fetch.extend(port.to_be_bytes());
    fetch.extend([0x91, 5]);
    let was_dialled = |within: Duration| {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if target.accept().is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    };
    let mut session = Stranger::at_session(&lender);
    let others = ["ws://127.0.0.1:1".to_owned(), format!("ws://127.0.0.2:{port}")];
    assert!(holds(&session.says(&credential("", 'c', &others)), "Init"));
    session.sends(&fetch);
    assert!(session.is_shown_out() && !was_dialled(Duration::from_secs(1)));
    let own = [format!("ws://127.0.0.1:{port}")];
    let mut session = Stranger::served(&lender, &credential("", 'd', &own));
    session.sends(&fetch);
    assert!(was_dialled(PATIENCE), "one of its own is");
}

/// Strangers of all kinds for so long while a training runs: it is unhurt, and the worker holds no
/// more than before.
fn besiege(time: Duration) {
    let place = Workplace::new();
    let lender = Lender::anywhere(&place);
    let settings = "--set schedule.lr=1e-3 --set train.eval_every=1000000 --set \
                    train.checkpoint_every=1000000";
    let arguments = format!(
        "train --config ./tiny.toml {settings} --device {} --steps 1000000 --run-dir run --plain",
        lender.address
    );
    let mut training = Training::begin(&place, &arguments);
    training.wait_for("step     10/");
    let before = Held::by(&lender);
    let end = Instant::now() + time;
    let (mut visits, mut random) = (0u64, 1u64);
    let mut staying = Vec::new();
    let mut most = before.resident_mib;
    while Instant::now() < end {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut stranger = Stranger::comes(&lender);
        let stream = &mut stranger.0;
        let noise: Vec<u8> = (0..(random >> 50) as usize % 4096)
            .map(|i| (random.rotate_left(i as u32 % 64) >> 32) as u8)
            .collect();
        // Whoever is shown out early cannot be written to.
        let _ = match (random >> 40) % 7 {
            0 => stream.write_all(b"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\n"),
            1 => stream.write_all(&noise),
            2 => stream.write_all(
                b"GET /data HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: \
                  Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                  MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
            ),
            kind => {
                let status = stranger.asks("/session", "127.0.0.1", "");
                assert_eq!(status, "101");
                let stream = &mut stranger.0;
                match kind {
                    3 => stream.write_all(
                        &[&[0x82, 0xff][..], &(1u64 << 30).to_be_bytes(), &[0; 4], &noise].concat(),
                    ),
                    4 => stream.write_all(&noise),
                    5 => stream
                        .write_all(&[&[0x82, 0xfe, 0x0f, 0xff, 0, 0, 0, 0][..], &noise].concat()),
                    _ => Ok(()),
                }
            }
        };
        visits += 1;
        if visits % 50 == 0 {
            staying.clear();
            most = most.max(Held::by(&lender).resident_mib);
        }
        staying.push(stranger);
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(staying);
    std::thread::sleep(Duration::from_secs(1));
    let after = Held::is_back(&lender, before);
    training.kill();
    // The last line may have been cut off.
    let text = std::fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let besieged: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    println!(
        "{visits} strangers in {time:?}, {} lines: {before:?} -> {after:?}, at most {most} MiB",
        besieged.len()
    );
    assert!(most < before.resident_mib + 64, "{before:?}, at most {most} MiB");
    place.train(&format!("{settings} --device flex --steps 100 --run-dir alone")).ok();
    let losses = |lines: Vec<Value>| -> Vec<_> {
        let steps = lines.iter().filter(|line| line["kind"] == "step").take(100);
        steps.map(|line| (line["step"].clone(), line["loss"].clone())).collect()
    };
    let (besieged, alone) = (losses(besieged), losses(place.metrics("alone")));
    assert!(besieged.len() >= 10 && besieged[0].1.is_number());
    assert_eq!(besieged, alone[..besieged.len()]);
}

#[test]
fn a_besieged_training_is_unhurt() {
    besiege(Duration::from_secs(5));
}

#[test]
#[ignore = "ten minutes of strangers; ./attack runs it"]
fn a_besieged_training_is_unhurt_for_ten_minutes() {
    besiege(Duration::from_secs(600));
}
