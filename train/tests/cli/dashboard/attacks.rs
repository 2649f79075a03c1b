//! Odd requests: refused in words where there are words for it, bounded in any case, and nothing of
//! them is left.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Server;
use crate::workplace::Workplace;

/// Longer than a server waits for a request's head.
const PATIENCE: Duration = Duration::from_secs(13);

/// Whether a connection ends within a time; what had come before is dropped.
fn ends_within(stream: &mut TcpStream, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => return true,
        }
    }
}

#[test]
fn no_path_leads_out() {
    let place = Workplace::trained();
    place.write("secret", "the secret");
    fs::create_dir(place.path("outside")).unwrap();
    place.copy("runs/tiny-001", "outside/run");
    symlink(place.path("outside/run"), place.path("runs/linked")).unwrap();
    // Runs whose files are links that lead out.
    for (name, file) in
        [("out-record", "metrics.jsonl"), ("out-config", "run.toml"), ("out-labels", "labels.json")]
    {
        place.copy("runs/tiny-001", &format!("runs/{name}"));
        let link = place.path(&format!("runs/{name}/{file}"));
        let _ = fs::remove_file(&link);
        symlink(place.path("secret"), link).unwrap();
    }
    place.copy("runs/tiny-001", "runs/out-temporary");
    symlink(place.path("secret"), place.path("runs/out-temporary/labels.json.tmp")).unwrap();

    let server = Server::of_runs(&place);
    let rows = server.json("/api/runs");
    let rows = rows["runs"].as_array().unwrap();
    assert_eq!(rows.len(), 5, "a linked folder is none of the runs: {rows:?}");
    for row in rows.iter().filter(|row| row["name"].as_str().unwrap().starts_with("out-")) {
        let id = row["id"].as_str().unwrap();
        if row["name"] != "out-temporary" {
            let error = row["error"].as_str().unwrap();
            assert!(error.contains("link that leads out"), "{error}");
        }
        for of in ["", "/series", "/samples", "/alerts", "/experts", "/pipeline"] {
            let answer = server.get(&format!("/api/runs/{id}{of}"));
            assert!(!answer.text().contains("the secret"), "{of}");
        }
        let label = server.post(&format!("/api/runs/{id}/labels"), &json!({"note": "n"}));
        // Where the labels are the run's own they are written, whatever else leads out.
        let expected = match row["name"].as_str().unwrap() {
            "out-labels" => 500,
            "out-temporary" => 422,
            _ => 200,
        };
        assert_eq!(label.status, expected, "{}", row["name"]);
        assert!(!label.text().contains("the secret"), "{}", row["name"]);
    }
    assert_eq!(fs::read_to_string(place.path("secret")).unwrap(), "the secret");

    for path in [
        "/api/runs/../../secret",
        "/api/runs/..%2f..%2fsecret",
        "/api/runs/%2e%2e/%2e%2e/secret",
        "/api/runs/....//secret",
        "/api/runs/%00",
        "/api/runs/%ff%fe",
        "/api/runs/000000000000",
        "/api/runs/000000000000/series",
        "/api/runs//series",
        "/assets/../../../../secret",
        "/assets/%2e%2e%2f%2e%2e%2fsecret",
        "/assets//etc/passwd",
    ] {
        let answer = server.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("the secret") && !answer.text().contains("root:"));
    }
    let odd = server.raw("GET ../../secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(odd.status == 400 || odd.status == 0, "{}", odd.status);
}

#[test]
fn what_is_too_long_is_refused() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    let own = format!("Host: {}\r\nConnection: close\r\n", server.address);
    let before = server.held();
    for _ in 0..5 {
        let long = "x".repeat(1 << 20);
        let url = server.raw(format!("GET /api/runs?{long} HTTP/1.1\r\n{own}\r\n"));
        assert!([414, 431].contains(&url.status), "{}", url.status);
        let header = server.raw(format!("GET / HTTP/1.1\r\n{own}X-Long: {long}\r\n\r\n"));
        assert_eq!(header.status, 431);
        let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
        let many = server.raw(format!("GET / HTTP/1.1\r\n{own}{many}\r\n"));
        assert_eq!(many.status, 431);
        let endless = server.raw([b'x'; 1 << 20]);
        assert!([400, 414, 431].contains(&endless.status), "{}", endless.status);

        let labels = format!("/api/runs/{}/labels", server.id_of("tiny-001"));
        let body = json!({ "note": "n".repeat(70 << 10) });
        assert_eq!(server.post(&labels, &body).status, 413);
        let chunked = format!(
            "POST {labels} HTTP/1.1\r\n{own}Origin: http://{}\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            server.address
        );
        let piece = format!("10000\r\n{}\r\n", "1".repeat(1 << 16));
        let told = server.raw(format!("{chunked}{}", piece.repeat(20)));
        assert!([413, 0].contains(&told.status), "{}", told.status);
        let claimed = format!(
            "POST {labels} HTTP/1.1\r\n{own}Origin: http://{}\r\nContent-Type: application/json\r\n\
             Content-Length: 99999999999999\r\n\r\n",
            server.address
        );
        assert_eq!(server.raw(claimed).status, 413);
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        let headers =
            format!("Origin: http://{}\r\nContent-Type: application/json\r\n", server.address);
        let told = server.asked("POST", &labels, &headers, &deep).status;
        assert!([400, 422].contains(&told), "{told}");
    }
    assert_eq!(server.json("/api/runs")["runs"][0]["note"], "");
    settles(&server, before, 32 << 20);
}

/// Soon no descriptors are held that were not before, but for the one or two of this question.
pub fn lets_go(server: &Server, before: usize) {
    let begun = Instant::now();
    while server.held().1 > before + 2 {
        assert!(begun.elapsed() < PATIENCE, "descriptors: {before}, {:?}", server.held());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Soon nothing is held that was not before: descriptors, but for the one or two of this question,
/// and memory, but for so many bytes.
pub fn settles(server: &Server, before: (u64, usize), more_bytes: u64) {
    lets_go(server, before.1);
    assert!(server.held().0 < before.0 + more_bytes, "memory: {before:?}, {:?}", server.held());
}

#[test]
fn what_is_no_request_is_none() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    let own = format!("Host: {}\r\nConnection: close\r\n", server.address);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert!(ends_within(&mut stream, PATIENCE), "{:?}", String::from_utf8_lossy(bytes));
    }
    let id = server.id_of("tiny-001");
    for (method, path, statuses) in [
        ("DELETE", format!("/api/runs/{id}"), [405, 403]),
        ("PUT", format!("/api/runs/{id}/labels"), [405, 403]),
        ("TRACE", "/".into(), [405, 403]),
        ("OPTIONS", "/api/runs".into(), [405, 403]),
        ("CONNECT", "/".into(), [405, 403]),
    ] {
        let answer = server.raw(format!("{method} {path} HTTP/1.1\r\n{own}\r\n"));
        assert!(statuses.contains(&answer.status), "{method}: {}", answer.status);
    }
    let head = server.raw(format!("HEAD /api/runs HTTP/1.1\r\n{own}\r\n"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    for query in [
        "points=-1",
        "points=1e9",
        "points=99999999999999999999",
        "from_step=x",
        "points=",
        "points[]=3",
        "from_step=18446744073709551615&to_step=0",
        "points=0",
        "points=20000000",
    ] {
        let answer = server.get(&format!("/api/runs/{id}/series?{query}"));
        assert!([200, 400].contains(&answer.status), "{query}: {}", answer.status);
    }
    server.json("/api/runs");
}

/// Connections that say nothing, or a byte now and then, end within the time that a head may take;
/// meanwhile and afterwards others are answered.
#[test]
fn half_open_connections_end() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    server.json("/api/runs");
    let before = server.held();
    let labels = format!("/api/runs/{}/labels", server.id_of("tiny-001"));
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    let mut begins: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for stream in &mut begins {
        stream.write_all(b"GET /api/runs HTTP/1.1\r\nHost: ").unwrap();
    }
    let mut trickling = server.connect();
    let mut body = server.connect();
    let head = format!(
        "POST {labels} HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        server.address
    );
    body.write_all(head.as_bytes()).unwrap();
    // An answer, then nothing.
    let mut idle = server.connect();
    let asked = format!("GET /api/session HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    idle.write_all(asked.as_bytes()).unwrap();
    while begun.elapsed() < Duration::from_secs(9) {
        assert_eq!(server.get("/api/session").status, 200);
        let _ = trickling.write_all(b"G");
        std::thread::sleep(Duration::from_millis(300));
    }
    for stream in silent.iter_mut().chain(&mut begins) {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        assert!(ends_within(stream, left), "a connection without a request stays");
    }
    for (stream, what) in [(&mut trickling, "trickled"), (&mut body, "a body"), (&mut idle, "idle")]
    {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        assert!(ends_within(stream, left), "{what}");
    }
    assert!(begun.elapsed() > Duration::from_secs(9), "not before its time");
    assert_eq!(server.get("/api/session").status, 200);
    settles(&server, before, 16 << 20);
}

/// A crowd keeps nobody out: whoever has been idle longest makes room.
#[test]
fn a_crowd_makes_room() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    server.json("/api/runs");
    let before = server.held();
    let crowd: Vec<TcpStream> = (0..400).map(|_| server.connect()).collect();
    assert_eq!(server.get("/api/session").status, 200);
    // Sooner than any of them is closed for being idle.
    let begun = Instant::now();
    while server.held().1 > before.1 + 260 {
        assert!(begun.elapsed() < Duration::from_secs(4), "{before:?}, {:?}", server.held());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(crowd);

    let mut streams: Vec<_> = (0..64).map(|_| server.events("/api/events", "")).collect();
    let refused = server.get("/api/events");
    assert_eq!(refused.status, 503);
    assert!(refused.json()["error"].as_str().unwrap().contains("too many streams"));
    assert!(streams.iter_mut().all(|events| events.next().is_some()));
    drop(streams);
    settles(&server, before, 64 << 20);
    server.events("/api/events", "").next().unwrap();
}

/// A folder may hold what is no file.
#[test]
fn odd_files_do_not_hold_it_up() {
    let place = Workplace::trained();
    for (name, file) in
        [("a", "metrics.jsonl"), ("b", "labels.json"), ("c", "lock"), ("d", "timeline.json")]
    {
        place.copy("runs/tiny-001", &format!("runs/{name}"));
        let path = place.path(&format!("runs/{name}/{file}"));
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
    }
    place.copy("runs/tiny-001", "runs/e");
    place.write("runs/e/timeline.json", "{\"version\": 7}");
    place.copy("runs/tiny-001", "runs/f");
    place.write("runs/f/labels.json", "[".repeat(100_000));
    let server = Server::of_runs(&place);
    let rows = server.json("/api/runs");
    assert_eq!(rows["runs"].as_array().unwrap().len(), 7);
    for name in ["a", "b", "c", "d", "e", "f"] {
        let id = server.id_of(name);
        for of in ["", "/series", "/pipeline"] {
            let status = server.get(&format!("/api/runs/{id}{of}")).status;
            assert!([200, 422, 500].contains(&status), "{name}{of}: {status}");
        }
    }
    assert_eq!(server.get(&format!("/api/runs/{}/pipeline", server.id_of("e"))).status, 422);
}

/// Whoever does not take an answer loses it.
#[test]
#[ignore = "takes a minute; ./attack runs it"]
fn slow_readers_are_dropped() {
    let place = Workplace::trained();
    super::recorded::write_long(&place.path("runs/tiny-001"), 40_000, 5);
    let server = Server::of_runs(&place);
    let id = server.id_of("tiny-001");
    server.json(&format!("/api/runs/{id}/series?points=5000"));
    let before = server.held();
    let ask = format!(
        "GET /api/runs/{id}/series?points=5000 HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    );
    let mut slow: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut slow {
        for _ in 0..4 {
            stream.write_all(ask.as_bytes()).unwrap();
        }
    }
    let begun = Instant::now();
    while server.held().1 > before.1 + 2 {
        assert!(begun.elapsed() < Duration::from_secs(70), "{before:?}, {:?}", server.held());
        for stream in &mut slow {
            let _ = stream.read(&mut [0]);
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    println!("dropped after {:?}: {before:?}, {:?}", begun.elapsed(), server.held());
}
