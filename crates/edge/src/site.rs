//! What the gateway shows to people and tools besides its methods: documents, the API reference, metrics.
//!
//! A newcomer's usual mistake is to grow this list. What an API caller needs is a method in a proto file; here stand only
//! pages, and each is a constant of the build or derived from the schema.
//!
//! *Knows:* the embedded `docs/` tree, the OpenAPI document, the metrics. *Does not know:* methods, callers.

mod page;

use std::{
    io::Read,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, VARY,
    },
    request::Parts,
};
use include_dir::{Dir, include_dir};
use portico_base::{Error, Result};
use portico_gate::{Format, Metrics};
use portico_schema::Schema;

use crate::{
    accept,
    openapi::{self, Examples},
};

static DOCS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../docs");
static REFERENCE_SCRIPT: &[u8] = include_bytes!("../../../assets/api-reference/swagger-ui-bundle.js.gz");
static REFERENCE_STYLE: &[u8] = include_bytes!("../../../assets/api-reference/swagger-ui.css.gz");

/// Everything loads from this server, and nothing else is contacted. Swagger UI styles elements in place.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'";

/// The pages that are not methods.
pub struct Site {
    schema: Schema,
    /// Written when it is first asked for: most processes never are, and none waits for it to start.
    openapi: OnceLock<Bytes>,
    metrics: Arc<Metrics>,
}

impl Site {
    /// The site over this schema.
    pub fn new(schema: &Schema, metrics: Arc<Metrics>) -> Site {
        Site { schema: schema.clone(), openapi: OnceLock::new(), metrics }
    }

    /// The page at this path; `None` when there is none.
    pub fn answer(&self, head: &Parts) -> Option<Response<Bytes>> {
        let path = head.uri.path();
        let found = match path {
            "/" | "/docs/" => redirect("/docs"),
            "/docs/api/" => redirect("/docs/api"),
            "/openapi.json" => self.openapi(head),
            "/metrics" => self.metrics(head),
            "/docs/api" => content(head, page::HTML, Bytes::from_static(page::REFERENCE.as_bytes())),
            "/docs/api/start.js" => content(head, page::SCRIPT, Bytes::from_static(page::REFERENCE_START.as_bytes())),
            "/docs/api/reference.js" => packed(head, page::SCRIPT, REFERENCE_SCRIPT),
            "/docs/api/reference.css" => packed(head, "text/css", REFERENCE_STYLE),
            "/docs/style.css" => content(head, "text/css", Bytes::from_static(page::STYLE.as_bytes())),
            _ => document(head, path.strip_prefix("/docs")?)?,
        };
        Some(match head.method {
            Method::GET | Method::HEAD => found,
            _ => not_allowed(),
        })
    }

    fn openapi(&self, head: &Parts) -> Response<Bytes> {
        if let Some(document) = self.openapi.get() {
            return content(head, "application/json", document.clone());
        }
        match examples() {
            Ok(examples) => {
                let write = || openapi::document(&self.schema, &examples).to_string().into();
                content(head, "application/json", self.openapi.get_or_init(write).clone())
            }
            // They are part of the build, and a test reads them all.
            Err(error) => {
                tracing::error!(error = error.report(), "an embedded example cannot be read");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// In the format that is asked for; scrapers that name none read the older one.
    fn metrics(&self, head: &Parts) -> Response<Bytes> {
        let (format, media) = if accept::prefers(&head.headers, "application/openmetrics-text", "text/plain") {
            (Format::Open, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        } else {
            (Format::Classic, "text/plain; version=0.0.4; charset=utf-8")
        };
        let mut answer = match self.metrics.render(format) {
            Ok(text) => typed(media, text.into()),
            Err(_) => return status(StatusCode::INTERNAL_SERVER_ERROR),
        };
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        answer
    }
}

/// The embedded examples, by method.
///
/// # Errors
/// When one is not JSON.
pub fn examples() -> Result<Examples> {
    let mut examples = Examples::new();
    for file in DOCS.get_dir("examples").into_iter().flat_map(Dir::files) {
        let name = file.path().file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        if let Some(name) = name {
            examples.insert(name.to_owned(), serde_json::from_slice(file.contents()).map_err(Error::internal)?);
        }
    }
    Ok(examples)
}

/// A Markdown document as a page, or another embedded file as it is.
fn document(head: &Parts, path: &str) -> Option<Response<Bytes>> {
    let path = path.trim_start_matches('/');
    let (name, text) = ["README.md".to_owned(), path.to_owned(), format!("{path}.md"), format!("{path}/README.md")]
        .into_iter()
        .skip(usize::from(!path.is_empty()))
        .find_map(|name| DOCS.get_file(&name).map(|file| (name, file.contents())))?;
    if name.ends_with(".md") {
        let html = page::document(&String::from_utf8_lossy(text), &name);
        return Some(content(head, page::HTML, html.into()));
    }
    let media = if name.ends_with(".json") { "application/json" } else { "text/plain; charset=utf-8" };
    Some(content(head, media, Bytes::from_static(text)))
}

/// A page that a browser may keep, as long as it asks whether it changed.
fn content(head: &Parts, media: &'static str, body: Bytes) -> Response<Bytes> {
    let tag = format!("\"{:016x}\"", fingerprint(&body));
    if head.headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return status(StatusCode::NOT_MODIFIED);
    }
    let mut answer = typed(media, body);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

/// A file that is stored compressed; opened for the rare client that does not take gzip.
fn packed(head: &Parts, media: &'static str, stored: &'static [u8]) -> Response<Bytes> {
    if takes_gzip(&head.headers) {
        let mut answer = content(head, media, Bytes::from_static(stored));
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return answer;
    }
    let mut opened = Vec::new();
    match GzDecoder::new(stored).read_to_end(&mut opened) {
        Ok(_) => content(head, media, opened.into()),
        Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("gzip"))
}

fn typed(media: &'static str, body: Bytes) -> Response<Bytes> {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("content-security-policy", HeaderValue::from_static(CONTENT_POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer
}

fn redirect(to: &'static str) -> Response<Bytes> {
    // For whoever does not follow, a person or a suite that looks for content.
    let mut answer = typed(page::HTML, format!("<a href=\"{to}\">{to}</a>\n").into());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    answer
}

fn not_allowed() -> Response<Bytes> {
    let mut answer = status(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// FNV-1a: enough to notice that a build's page differs from another's.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
