//! A dashboard's server, and a client that speaks to it byte by byte.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bounded::outcome;
use crate::workplace::Workplace;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// `deepseek dashboard`, until this is dropped.
pub struct Server {
    /// None of a server in another process.
    child: Option<Child>,
    /// `127.0.0.1:40000`
    pub address: String,
}

impl Server {
    /// Serves with arguments that have no spaces in them, at a free port.
    pub fn start(place: &Workplace, arguments: &str) -> Self {
        let arguments = format!("dashboard {arguments} --json");
        let mut command = place.command(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let mut text = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
            panic!("{arguments}: {line}{text}")
        });
        let url = told["listening"].as_str().unwrap();
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self { child: Some(child), address }
    }

    /// Of the runs in `runs`.
    pub fn of_runs(place: &Workplace) -> Self {
        Self::start(place, "runs --listen 127.0.0.1:0")
    }

    /// One that another process has.
    pub fn elsewhere(address: String) -> Self {
        Self { child: None, address }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request's bytes, and reads the answer to the end of the connection.
    pub fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        // A server that refuses it may have closed before the last byte.
        let _ = stream.write_all(request.as_ref());
        Answer::read(stream)
    }

    /// What is answered to a request with these headers (lines with their ends) and this body.
    pub fn asked(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        self.raw(format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             {length}{headers}\r\n{body}",
            self.address
        ))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.asked("GET", path, "", "")
    }

    /// The JSON at an address, which must be there.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Sends JSON as a page of the server does.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let headers =
            format!("Origin: http://{}\r\nContent-Type: application/json\r\n", self.address);
        self.asked("POST", path, &headers, &body.to_string())
    }

    /// The id of a run by its name.
    pub fn id_of(&self, name: &str) -> String {
        let runs = self.json("/api/runs");
        let all = runs["runs"].as_array().unwrap();
        let run = all.iter().find(|run| run["name"] == name);
        let run = run.unwrap_or_else(|| panic!("no {name} in {runs}"));
        run["id"].as_str().unwrap().to_owned()
    }

    /// Follows events.
    pub fn events(&self, path: &str, headers: &str) -> Events {
        let mut stream = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut events = Events { reader: BufReader::new(stream), text: String::new() };
        let head = events.head();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
        assert!(!head.to_lowercase().contains("content-encoding"), "{head}");
        events
    }

    /// Resident bytes and open descriptors.
    #[cfg(target_os = "linux")]
    pub fn held(&self) -> (u64, usize) {
        held(self.id())
    }

    /// Asks it to end, and waits.
    #[cfg(unix)]
    pub fn stop(mut self) -> Option<i32> {
        std::process::Command::new("kill").args(["-INT", &self.id().to_string()]).status().unwrap();
        outcome(self.child.take().unwrap(), "serve").status.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended already needs no end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Resident bytes and open descriptors of a process.
#[cfg(target_os = "linux")]
pub fn held(process: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    (1024 * kib, std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count())
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// 0 where nothing came.
    pub status: u16,
    /// Lines, in small letters before the colon.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut piece = [0; 65536];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => bytes.extend(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("no end of the answer: {:?}", String::from_utf8_lossy(&bytes))
                }
                Err(_) => break, // the connection was reset
            }
        }
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            return Self { status: 0, headers: Vec::new(), body: Vec::new() };
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_lowercase(), value.trim().to_owned())
            })
            .collect();
        let rest = &bytes[end + 4..];
        let chunked =
            headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked { unchunked(rest) } else { rest.to_vec() };
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

/// A stream of events.
pub struct Events {
    reader: BufReader<TcpStream>,
    /// What has come and is no whole event yet.
    text: String,
}

/// An event.
#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

impl Events {
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        head
    }

    /// One piece of the body; none at its end.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.reader.read_line(&mut size).ok().filter(|&count| count > 0)?;
        let mut piece = vec![0; usize::from_str_radix(size.trim(), 16).unwrap() + 2];
        self.reader.read_exact(&mut piece).ok()?;
        piece.truncate(piece.len() - 2);
        Some(piece).filter(|piece| !piece.is_empty())
    }

    /// The next event; none where the stream has ended. (A stream without events is not silent: it
    /// says that it lives.)
    #[track_caller]
    pub fn next(&mut self) -> Option<Event> {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "no event in {PATIENCE:?}");
            if let Some(end) = self.text.find("\n\n") {
                let text: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| {
                    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
                    lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
                };
                let data = field("data:");
                if data.is_empty() {
                    continue; // a sign of life
                }
                let data = serde_json::from_str(&data).unwrap();
                return Some(Event { name: field("event:"), id: field("id:"), data });
            }
            let piece = self.piece()?;
            self.text += std::str::from_utf8(&piece).unwrap();
        }
    }

    /// The next event of a name, others passed.
    #[track_caller]
    pub fn named(&mut self, name: &str) -> Event {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended before {name}"));
            if event.name == name {
                return event;
            }
        }
        panic!("no {name}")
    }
}
