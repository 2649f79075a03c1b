//! Whom the server lets in: names, origins, tokens; and what a browser may do with its answers.

use serde_json::json;

use super::client::Server;
use crate::workplace::Workplace;

fn with_runs() -> Workplace {
    let place = Workplace::new();
    std::fs::create_dir(place.path("runs")).unwrap();
    place
}

#[test]
fn only_its_own_names_are_answered() {
    let place = with_runs();
    let server = Server::of_runs(&place);
    let port = server.address.rsplit_once(':').unwrap().1;
    let status = |hosts: &[String]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        server.raw(format!("GET /api/runs HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).status
    };
    for name in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"] {
        assert_eq!(status(&[format!("{name}:{port}")]), 200, "{name}");
    }
    for host in [
        format!("evil.example:{port}"),
        "evil.example".into(),
        "127.0.0.1".into(),
        "127.0.0.1:1".into(),
        format!("localhost.evil.example:{port}"),
        format!("127.0.0.1:{port}.evil.example"),
        format!("user@127.0.0.1:{port}"),
        String::new(),
    ] {
        let status = status(std::slice::from_ref(&host));
        assert!([400, 421].contains(&status), "{host}: {status}");
    }
    let own = format!("127.0.0.1:{port}");
    assert!([400, 421].contains(&status(&[])));
    assert!([400, 421].contains(&status(&[own.clone(), own])));
}

#[test]
fn pages_of_others_are_refused() {
    let place = Workplace::trained();
    let server = Server::of_runs(&place);
    let labels = format!("/api/runs/{}/labels", server.id_of("tiny-001"));
    let own = format!("Origin: http://{}\r\n", server.address);
    let json = "Content-Type: application/json\r\n";
    let body = json!({"note": "x"}).to_string();
    let posted = |headers: &str| server.asked("POST", &labels, headers, &body).status;
    assert_eq!(posted(&format!("{own}{json}")), 200);
    assert_eq!(posted(json), 403, "without an origin");
    assert_eq!(posted(&format!("{own}Content-Type: text/plain\r\n")), 415);
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "file://", ""] {
        assert_eq!(posted(&format!("Origin: {origin}\r\n{json}")), 403, "{origin}");
        let read = server.asked("GET", "/api/runs", &format!("Origin: {origin}\r\n"), "");
        assert_eq!(read.status, 403, "{origin}");
        let events = server.asked("GET", "/api/events", &format!("Origin: {origin}\r\n"), "");
        assert_eq!(events.status, 403, "{origin}");
    }
    assert_eq!(posted(&format!("{own}{own}{json}")), 403, "two origins");
    let site = |site: &str, path: &str| {
        server.asked("GET", path, &format!("Sec-Fetch-Site: {site}\r\n"), "").status
    };
    assert_eq!([site("cross-site", "/api/runs"), site("same-site", "/api/runs")], [403, 403]);
    assert_eq!([site("same-origin", "/api/runs"), site("none", "/api/runs")], [200, 200]);
    assert_eq!(site("cross-site", "/"), 200, "a link from elsewhere may open the page");
}

#[test]
fn answers_say_what_a_browser_may_do() {
    let place = with_runs();
    let server = Server::of_runs(&place);
    for path in ["/", "/run/0123456789ab", "/api/runs", "/assets/plotly.min.js", "/api/none"] {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        let kept = if path.starts_with("/api") { "no-store" } else { "no-cache" };
        assert_eq!(answer.header("cache-control"), kept, "{path}");
        assert!(answer.header("access-control-allow-origin").is_empty());
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let place = with_runs();
    let server = Server::of_runs(&place);
    let gzip = "Accept-Encoding: gzip\r\n";
    let script = server.asked("GET", "/assets/plotly.min.js", gzip, "");
    assert_eq!((script.status, script.header("content-encoding")), (200, "gzip"));
    assert!((500_000..2_000_000).contains(&script.body.len()), "{}", script.body.len());
    assert_eq!(script.header("content-length"), script.body.len().to_string());
    let plain = server.get("/assets/plotly.min.js");
    assert!(plain.body.len() > 3_000_000 && plain.text().contains("plotly.js v"));
    for path in ["/assets/plotly.min.js", "/", "/assets/index.html"] {
        let tag = server.get(path).header("etag").to_owned();
        let again = server.asked("GET", path, &format!("If-None-Match: {tag}\r\n"), "");
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}: {tag}");
    }
    let runs = server.asked("GET", "/", gzip, "");
    assert_eq!(runs.header("content-encoding"), "gzip");
    for path in ["/assets/../mod.rs", "/assets/none.js", "/assets/%2e%2e/mod.rs", "/assets/"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_token_is_asked_for_and_becomes_a_cookie() {
    let place = Workplace::trained();
    place.write("token", "s3cret token+\n");
    let server = Server::start(&place, "runs --listen 127.0.0.1:0 --token-file token");
    let page = server.get("/run/0123456789ab");
    assert_eq!(page.status, 401);
    assert!(page.header("content-type").starts_with("text/html") && page.text().contains("<input"));
    let refused = server.get("/api/runs");
    assert_eq!(refused.status, 401);
    assert!(refused.json()["error"].as_str().unwrap().contains("token"));
    assert_eq!(server.get("/assets/plotly.min.js").status, 401);

    let wrong = "s3cret token".to_owned();
    let long = "x".repeat(4000);
    for token in ["", "x", "s3cret", &wrong.replace(' ', "%20"), "%", "%zz", "%00", &long] {
        assert_eq!(server.get(&format!("/?token={token}")).status, 401, "{token}");
        assert_eq!(server.get(&format!("/api/runs?token={token}")).status, 401, "{token}");
    }
    let bearer = |token: &str| {
        server.asked("GET", "/api/runs", &format!("Authorization: Bearer {token}\r\n"), "").status
    };
    assert_eq!([bearer("s3cret token+"), bearer("s3cret"), bearer("")], [200, 401, 401]);

    let entered = server.get("/run/0123456789ab?a=1&token=s3cret%20token%2B&b=2");
    assert_eq!((entered.status, entered.header("location")), (303, "/run/0123456789ab?a=1&b=2"));
    let cookie = entered.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("s3cret"), "{cookie}");
    assert_eq!(
        server.get("//evil.example/?token=s3cret+token%2B").header("location"),
        "/evil.example/"
    );
    let pair = cookie.split(';').next().unwrap();
    let with = |pair: &str| {
        server.asked("GET", "/api/runs", &format!("Cookie: a=b; {pair}\r\n"), "").status
    };
    assert_eq!(with(pair), 200);
    let (name, value) = pair.split_once('=').unwrap();
    let other = if value.starts_with('0') { "1" } else { "0" };
    for wrong in
        [format!("{name}={other}{}", &value[1..]), format!("{name}="), format!("x={value}")]
    {
        assert_eq!(with(&wrong), 401, "{wrong}");
    }
}

#[test]
fn other_addresses_take_a_token() {
    let place = with_runs();
    place
        .run("dashboard --listen 0.0.0.0:0")
        .failed(2, &["0.0.0.0:0", "--token-file or --token-env"]);
    place.run("dashboard --listen nowhere").failed(2, &["HOST:PORT"]);
    place.run("dashboard gone --listen 127.0.0.1:0").failed(2, &["gone: no such folder"]);
    place.run("dashboard --token-env NO_SUCH_VARIABLE").failed(2, &["NO_SUCH_VARIABLE"]);
    place.write("token", "t\n");
    let server = Server::start(&place, "--listen 0.0.0.0:0 --token-file token");
    let port = server.address.rsplit_once(':').unwrap().1.to_owned();
    // Whatever it is called there, the token is asked for.
    let named =
        format!("GET /api/runs HTTP/1.1\r\nHost: my.machine:{port}\r\nConnection: close\r\n");
    assert_eq!(server.raw(format!("{named}\r\n")).status, 401);
    assert_eq!(server.raw(format!("{named}Authorization: Bearer t\r\n\r\n")).status, 200);
    place.run(&format!("dashboard --listen 127.0.0.1:{port}")).failed(3, &["--listen 127.0.0.1"]);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it() {
    let place = with_runs();
    let server = Server::of_runs(&place);
    let _open = server.events("/api/events", "");
    assert_eq!(server.stop(), Some(0));
}
