//! The page's own files, which the program carries, and the script that draws its charts.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

use crate::dashboard::house::{House, blocking};
use crate::dashboard::refusal::Refusal;

/// One document shows every page, by address.
const DOCUMENT: &str = "index.html";
/// The script that draws charts, out of the crate that carries it.
const PLOTLY: &str = "plotly.min.js";
/// Kept, and asked about each time: an answer of no bytes where nothing has changed.
const KEPT: &str = "no-cache";

/// The page's files.
#[derive(RustEmbed)]
#[folder = "src/dashboard/page/"]
struct Page;

pub(super) fn routes() -> Router<Arc<House>> {
    Router::new().route("/assets/plotly.min.js", get(plotly)).route(
        "/assets/{*name}",
        get(|Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers) }),
    )
}

/// The document, for every address that is none of a file or an answer of the program.
pub(super) async fn page(
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = uri.path();
    if path.starts_with("/api/") || path.starts_with("/assets/") {
        return Err(Refusal::not_found("address"));
    }
    match method {
        Method::GET | Method::HEAD => file(DOCUMENT, &headers),
        _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "pages are only read")),
    }
}

fn file(name: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
    let file = Page::get(name).ok_or_else(|| Refusal::not_found("file"))?;
    let tag = tag_of(&file.metadata.sha256_hash());
    if is_known(headers, &tag) {
        return Ok(unchanged(tag));
    }
    let kind = file.metadata.mimetype();
    let kind =
        if kind.starts_with("text/") { format!("{kind}; charset=utf-8") } else { kind.into() };
    let head = [(CONTENT_TYPE, kind), (ETAG, tag), (CACHE_CONTROL, KEPT.into())];
    Ok((head, Body::from(file.data.into_owned())).into_response())
}

/// Compressed once, and kept so.
struct Kept {
    gzip: Bytes,
    tag: String,
}

static KEPT_PLOTLY: LazyLock<Result<Kept, std::io::Error>> = LazyLock::new(|| {
    let script = script();
    let mut out = GzEncoder::new(Vec::new(), Compression::new(6));
    out.write_all(script.as_bytes())?;
    let tag = tag_of(blake3::hash(script.as_bytes()).as_bytes());
    Ok(Kept { gzip: out.finish()?.into(), tag })
});

async fn plotly(headers: HeaderMap) -> Result<Response, Refusal> {
    blocking(move || {
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{PLOTLY}: {error}"))
        };
        let Kept { gzip, tag } = KEPT_PLOTLY.as_ref().map_err(|error| failed(error))?;
        if is_known(&headers, tag) {
            return Ok(unchanged(tag.clone()));
        }
        let head = [
            (CONTENT_TYPE, "text/javascript; charset=utf-8"),
            (ETAG, tag.as_str()),
            (CACHE_CONTROL, KEPT),
            (VARY, "accept-encoding"),
        ];
        if takes_gzip(&headers) {
            return Ok((head, [(CONTENT_ENCODING, "gzip")], gzip.clone()).into_response());
        }
        let mut script = Vec::new();
        GzDecoder::new(&gzip[..]).read_to_end(&mut script).map_err(|error| failed(&error))?;
        Ok((head, script).into_response())
    })
    .await
}

/// The script alone: the crate gives it in an element of HTML, and another script in the next.
fn script() -> String {
    const BEGIN: &str = "<script type=\"text/javascript\">";
    let elements = plotly::Plot::offline_js_sources();
    let first = elements.rfind(BEGIN).map_or("", |second| &elements[..second]);
    let script = first.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix("</script>"));
    script.unwrap_or_default().to_owned()
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    encodings.flat_map(|value| value.split(',')).any(|encoding| {
        let (name, weight) = encoding.split_once(';').unwrap_or((encoding, ""));
        let none = weight.trim().strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !none
    })
}

fn tag_of(digest: &[u8]) -> String {
    let digits: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// Whether a browser has this already. (On the way a tag may have become a weak one.)
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|tags| {
        tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
    })
}

fn unchanged(tag: String) -> Response {
    let head = [(ETAG, tag), (CACHE_CONTROL, KEPT.into())];
    (StatusCode::NOT_MODIFIED, head).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_the_first_of_two_elements() {
        let script = script();
        assert!(script.len() > 3 << 20, "{}", script.len());
        assert!(!script.starts_with('<') && !script.contains("MathJax="));
        assert!(
            script.contains("plotly.js v") && script.trim_end().ends_with(['}', ';', ')', '/'])
        );
    }

    #[test]
    fn gzip_is_sent_to_whoever_takes_it() {
        let takes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            takes_gzip(&headers)
        };
        assert!(takes("gzip, deflate, br") && takes("br;q=1, GZIP;q=0.5"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes_gzip(&HeaderMap::new()));
    }
}
