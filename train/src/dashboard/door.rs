//! Who is let in: the name of this server that a request has, where it comes from, and its token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION,
    ORIGIN, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::json;

use super::connection::{Answering, OfConnection};
use super::house::House;
use crate::device::Token;

/// What a page may load: its own files, and pictures that it has made.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";
/// The same of the page that asks for the token, whose style is in it.
const ASKING_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                             form-action 'self'; frame-ancestors 'none'";
/// How a browser says whether a request comes from a page of this server.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What stands before a token in a header.
const BEARER: &[u8] = b"Bearer ";
/// Bytes of an answer that a connection takes at once.
const AT_ONCE: u64 = 64 << 10;
/// Where the program's answers are.
const API: &str = "/api/";

/// Whom the server lets in.
#[derive(Debug)]
pub(super) struct Door {
    /// Digests: these compare in constant time.
    token: Option<Digests>,
    /// The names under which it is reached, where only this machine reaches it.
    own_names: Option<Vec<String>>,
    port: u16,
}

#[derive(Debug)]
struct Digests {
    token: blake3::Hash,
    /// What a browser keeps: the token cannot be had from it.
    cookie: blake3::Hash,
}

impl Door {
    /// The door of a server that listens at `address`, as `listen` named it.
    pub fn new(address: SocketAddr, listen: &str, token: Option<&Token>) -> Self {
        let token = token.map(|token| {
            let cookie = blake3::derive_key("deepseek dashboard cookie", token.reveal().as_bytes());
            Digests {
                token: blake3::hash(token.reveal().as_bytes()),
                cookie: blake3::Hash::from_bytes(cookie),
            }
        });
        let own_names = address.ip().is_loopback().then(|| {
            let listened = split_port(listen).0.to_ascii_lowercase();
            let mut names = vec![listened, "localhost".into(), "127.0.0.1".into(), "[::1]".into()];
            names.push(split_port(&address.to_string()).0.into());
            names
        });
        Self { token, own_names, port: address.port() }
    }

    /// The `Host` of a request, where it has one and that can be this server. On loopback another
    /// name would be one that was made to lead here; elsewhere a server may have any, and asks for
    /// a token.
    fn host<'r>(&self, headers: &'r HeaderMap) -> Option<&'r str> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next()?.to_str().ok()?;
        if hosts.next().is_some() || host.is_empty() {
            return None;
        }
        let Some(names) = &self.own_names else { return Some(host) };
        let (name, port) = split_port(host);
        let right_port = port.map_or(self.port == 80, |port| port == self.port.to_string());
        let named = names.iter().any(|own| own.eq_ignore_ascii_case(name));
        (right_port && named).then_some(host)
    }

    /// Why a request is not answered.
    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(host) = self.host(headers) else { return Err(Refused::Host) };
        let mut origins = headers.get_all(ORIGIN).iter();
        let own_origin = |origin: &HeaderValue| {
            let origin = origin.to_str().unwrap_or_default();
            let rest = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
        };
        let reads = [Method::GET, Method::HEAD].contains(method);
        match (origins.next(), origins.next()) {
            (None, _) if reads => {}
            (Some(origin), None) if own_origin(origin) => {}
            _ => return Err(Refused::Origin),
        }
        let from_elsewhere = headers
            .get(FETCH_SITE)
            .is_some_and(|site| !["same-origin", "none"].contains(&site.to_str().unwrap_or("")));
        if from_elsewhere && (is_api(uri) || !reads) {
            return Err(Refused::Origin);
        }
        if self.knows(headers) { Ok(()) } else { Err(Refused::Token) }
    }

    /// Whether a request shows the token, where one is asked for.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(digests) = &self.token else { return true };
        let shown =
            headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(BEARER));
        if shown.is_some_and(|shown| blake3::hash(shown) == digests.token) {
            return true;
        }
        let name = self.cookie_name();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut values = cookies.flat_map(|text| text.split(';')).filter_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        });
        values.any(|value| blake3::Hash::from_hex(value).is_ok_and(|shown| shown == digests.cookie))
    }

    /// The name has the port: browsers keep cookies of all ports of a host together.
    fn cookie_name(&self) -> String {
        format!("deepseek-{}", self.port)
    }

    /// The answer to a request that shows the token in its address: a cookie, and the address
    /// without it.
    fn enter(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
        let digests = self.token.as_ref()?;
        let shown = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
        self.host(headers)?;
        let right = blake3::hash(&decoded(shown)) == digests.token;
        if method != Method::GET || is_api(uri) || !right {
            return None;
        }
        let rest: Vec<&str> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.starts_with("token="))
            .collect();
        let gap = if rest.is_empty() { "" } else { "?" };
        // A path of two strokes would lead to another host.
        let path = format!("/{}", uri.path().trim_start_matches(['/', '\\']));
        let location = format!("{path}{gap}{}", rest.join("&"));
        let cookie = format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/",
            self.cookie_name(),
            digests.cookie.to_hex()
        );
        Some((StatusCode::SEE_OTHER, [(LOCATION, location), (SET_COOKIE, cookie)]).into_response())
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Host,
    Origin,
    Token,
}

impl Refused {
    fn response(self, uri: &Uri) -> Response {
        let (status, problem) = match self {
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "this server does not go by that name; use the address that it said when it was \
                 started",
            ),
            Self::Origin => {
                (StatusCode::FORBIDDEN, "the request comes from a page of another server")
            }
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "the request has no token, or a wrong one: open the address with ?token=...",
            ),
        };
        match self {
            Self::Token if !is_api(uri) => {
                let policy = [(CONTENT_SECURITY_POLICY, ASKING_POLICY)];
                (status, policy, Html(ASKING)).into_response()
            }
            _ => (status, Json(json!({ "error": problem }))).into_response(),
        }
    }
}

/// The page that asks for the token.
const ASKING: &str = include_str!("asking.html");

/// Lets a request through, or answers it here; says of every answer what a browser may do with it.
pub(super) async fn guard(
    State(house): State<Arc<House>>,
    ConnectInfo(connection): ConnectInfo<OfConnection>,
    request: Request,
    next: Next,
) -> Response {
    let answering = connection.answering();
    let (method, uri, headers) = (request.method(), request.uri().clone(), request.headers());
    let entered = house.door.enter(method, &uri, headers);
    let mut response = match (entered, house.door.judge(method, &uri, headers)) {
        (Some(entered), _) => entered,
        (None, Ok(())) => next.run(request).await,
        (None, Err(refused)) => refused.response(&uri),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_api(&uri) || !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    until_taken(response, answering)
}

/// An answer that counts as being given until the last of it has been taken.
fn until_taken(response: Response, answering: Answering) -> Response {
    let (mut head, body) = response.into_parts();
    let bytes = body.size_hint().exact();
    if bytes.is_some_and(|bytes| bytes <= AT_ONCE) {
        return Response::from_parts(head, body);
    }
    if let Some(bytes) = bytes {
        head.headers.entry(CONTENT_LENGTH).or_insert(bytes.into());
    }
    let pieces = body.into_data_stream().map(move |piece| {
        let _ = &answering;
        piece
    });
    Response::from_parts(head, Body::from_stream(pieces))
}

fn is_api(uri: &Uri) -> bool {
    uri.path().starts_with(API)
}

/// `[::1]:80` and `host:80` into host and port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Text of an address, `%20` and `+` read as what they stand for.
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => bytes.push(if *first == b'+' { b' ' } else { *first }),
        }
    }
    bytes
}
