//! What the gateway shows to people and tools besides its methods: documents, the API reference, metrics.
//!
//! A newcomer's usual mistake is to grow this list. What an API caller needs is a method in a proto file; here stand only
//! pages, and each is a constant of the build or derived from the schema.
//!
//! *Knows:* the embedded `docs/` tree, the OpenAPI document, the metrics. *Does not know:* methods, callers.

mod made;
mod page;

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, VARY},
    request::Parts,
};
use include_dir::{Dir, include_dir};
use portico_base::{Error, Result};
use portico_gate::{Format, Metrics};
use portico_schema::Schema;

use self::made::{Made, Page};
use crate::{
    accept, known,
    openapi::{self, Examples},
};

static DOCS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../docs");
static REFERENCE_SCRIPT: Packed = Packed {
    name: "/docs/api/reference.js",
    packed_name: "/docs/api/reference.js.gz",
    bytes: include_bytes!("../../../assets/api-reference/swagger-ui-bundle.js.gz"),
};
static REFERENCE_STYLE: Packed = Packed {
    name: "/docs/api/reference.css",
    packed_name: "/docs/api/reference.css.gz",
    bytes: include_bytes!("../../../assets/api-reference/swagger-ui.css.gz"),
};

/// Everything loads from this server, and nothing else is contacted. Swagger UI styles elements in place.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'";

/// A file that is stored compressed with gzip.
struct Packed {
    /// What its page is called when it is opened, and when it is not.
    name: &'static str,
    packed_name: &'static str,
    bytes: &'static [u8],
}

/// The pages that are not methods.
pub struct Site {
    schema: Schema,
    /// Made when it is first asked for: most processes never are, and none waits for it to start.
    made: Made,
    metrics: Arc<Metrics>,
}

impl Site {
    /// The site over this schema.
    pub fn new(schema: &Schema, metrics: Arc<Metrics>) -> Site {
        Site { schema: schema.clone(), made: Made::default(), metrics }
    }

    /// The page at this path; `None` when there is none.
    pub fn answer(&self, head: &Parts) -> Option<Response<Bytes>> {
        let path = head.uri.path();
        let found = match path {
            "/" | "/docs/" => redirect("/docs"),
            "/docs/api/" => redirect("/docs/api"),
            "/openapi.json" => self.openapi(head),
            "/metrics" => self.metrics(head),
            "/docs/api" => self.fixed(head, page::HTML, "/docs/api", page::REFERENCE.as_bytes()),
            "/docs/api/start.js" => {
                self.fixed(head, page::SCRIPT, "/docs/api/start.js", page::REFERENCE_START.as_bytes())
            }
            "/docs/api/reference.js" => self.packed(head, page::SCRIPT, &REFERENCE_SCRIPT),
            "/docs/api/reference.css" => self.packed(head, "text/css", &REFERENCE_STYLE),
            "/docs/style.css" => self.fixed(head, "text/css", "/docs/style.css", page::STYLE.as_bytes()),
            _ => self.document(head, path.strip_prefix("/docs")?)?,
        };
        Some(match head.method {
            Method::GET | Method::HEAD => found,
            _ => not_allowed(),
        })
    }

    fn openapi(&self, head: &Parts) -> Response<Bytes> {
        let page = self.made.page("/openapi.json", || match examples() {
            Ok(examples) => Some(openapi::document(&self.schema, &examples).to_string().into()),
            // They are part of the build, and a test reads them all.
            Err(error) => {
                tracing::error!(error = error.report(), "an embedded example cannot be read");
                None
            }
        });
        content(head, "application/json", page)
    }

    /// A Markdown document as a page, or another embedded file as it is.
    fn document(&self, head: &Parts, path: &str) -> Option<Response<Bytes>> {
        let path = path.trim_start_matches('/');
        let file = match path {
            "" => DOCS.get_file("README.md"),
            _ => [path.to_owned(), format!("{path}.md"), format!("{path}/README.md")]
                .iter()
                .find_map(|name| DOCS.get_file(name)),
        }?;
        let (name, text) = (file.path().to_str()?, file.contents());
        if name.ends_with(".md") {
            let write = || Some(page::document(&String::from_utf8_lossy(text), name).into());
            return Some(content(head, page::HTML, self.made.page(name, write)));
        }
        let media = if name.ends_with(".json") { "application/json" } else { "text/plain; charset=utf-8" };
        Some(self.fixed(head, media, name, text))
    }

    /// A file as it is.
    fn fixed(&self, head: &Parts, media: &'static str, name: &'static str, file: &'static [u8]) -> Response<Bytes> {
        content(head, media, self.made.page(name, || Some(Bytes::from_static(file))))
    }

    /// A file that is stored compressed; opened for the rare client that does not take gzip.
    fn packed(&self, head: &Parts, media: &'static str, file: &Packed) -> Response<Bytes> {
        let mut answer = if accept::takes_coding(&head.headers, "gzip") {
            let mut answer = self.fixed(head, media, file.packed_name, file.bytes);
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        } else {
            content(head, media, self.made.page(file.name, || opened(file.bytes)))
        };
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
        answer
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

/// A page that a browser may keep, as long as it asks whether it changed.
fn content(head: &Parts, media: &'static str, page: Option<Page>) -> Response<Bytes> {
    let Some(Page { body, tag }) = page else { return status(StatusCode::INTERNAL_SERVER_ERROR) };
    let is_known = head.headers.get(IF_NONE_MATCH).is_some_and(|asked| known::means(asked, &tag));
    let mut answer = if is_known { typed(media, Bytes::new()) } else { typed(media, body) };
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    answer.headers_mut().insert(ETAG, tag);
    answer
}

/// What was compressed. It is part of the build, and a test opens it.
fn opened(packed: &[u8]) -> Option<Bytes> {
    let mut opened = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut opened).is_ok().then(|| opened.into())
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
