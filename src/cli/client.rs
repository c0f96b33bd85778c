//! A Connect client over protobuf.
//!
//! A newcomer's usual mistake is to look for retries. There are none: a command that failed says so, and whoever typed it
//! knows whether to type it again.
//!
//! *Knows:* the Connect protocol, unary and streams. *Does not know:* what methods mean.

mod answer;
mod call;
mod envelope;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use portico::base::Secret;

use self::{
    answer::{refusal_of_body, refusal_of_end},
    envelope::{Envelopes, enveloped},
    transport::{Body, Transport},
};
use super::Failure;

pub(crate) use call::{Call, Follow, Upload};

/// How long a single answer may take. Creating an instance includes starting it.
const UNARY_PATIENCE: Duration = Duration::from_secs(90);

/// What a stream of chunks may fail with before it reaches the gateway.
pub(crate) type ChunkError = std::io::Error;

/// A client of one gateway.
pub(crate) struct Client {
    base: String,
    key: Option<Secret>,
    transport: Transport,
}

impl Client {
    /// A client of the gateway at this URL.
    pub(crate) fn new(url: &str, key: Option<String>) -> Result<Client, Failure> {
        let refused =
            |problem: &str| Failure::usage(format!("{url:?} {problem}: name a gateway such as http://127.0.0.1:8080"));
        let uri: Uri = url.parse().map_err(|_| refused("is not a URL"))?;
        let transport = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(_)) => Transport::plain(),
            (Some("https"), Some(_)) => Transport::encrypted()?,
            _ => return Err(refused("is not an http or https URL")),
        };
        Ok(Client { base: url.trim_end_matches('/').to_owned(), key: key.map(Secret::new), transport })
    }

    /// One message there, one back.
    pub(crate) async fn call<Q: Call>(&self, request: Q) -> Result<Q::Answer, Failure> {
        self.call_with(request, &[]).await
    }

    /// The same with further headers.
    pub(crate) async fn call_with<Q: Call>(
        &self,
        request: Q,
        headers: &[(&'static str, String)],
    ) -> Result<Q::Answer, Failure> {
        let body = Full::new(Bytes::from(request.encode_to_vec())).map_err(|never| match never {}).boxed_unsync();
        let mut message = self.request(Q::PATH, "application/proto", body)?;
        let patience = UNARY_PATIENCE.as_millis().to_string();
        for (name, value) in headers.iter().chain(&[("connect-timeout-ms", patience)]) {
            let refused = |_| Failure::usage(format!("{name}: {value:?} cannot be sent in a header"));
            message.headers_mut().insert(*name, HeaderValue::from_str(value).map_err(refused)?);
        }
        let exchange = async {
            let response = self.transport.send(message, &self.base).await?;
            let bytes = whole(response).await?;
            decoded(bytes)
        };
        match tokio::time::timeout(UNARY_PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::other(format!("{} did not answer within {UNARY_PATIENCE:?}", self.base))),
        }
    }

    /// Many messages there, one back. A failing stream of messages ends the call.
    pub(crate) async fn upload<Q: Upload>(
        &self,
        messages: impl Stream<Item = Result<Q, ChunkError>> + Send + 'static,
    ) -> Result<Q::Answer, Failure> {
        let frames = messages.map(|message| message.map(|message| Frame::data(enveloped(&message.encode_to_vec()))));
        let body = StreamBody::new(frames.map_err(Into::into)).boxed_unsync();
        let response = self.transport.send(self.request(Q::PATH, STREAM, body)?, &self.base).await?;
        let mut envelopes = streamed(response).await?;
        let mut answer = None;
        // To the end: an error may follow the answer.
        while let Some(payload) = envelopes.next().await? {
            answer = Some(decoded(payload)?);
        }
        answer.ok_or_else(|| Failure::other("the gateway ended the call without an answer"))
    }

    /// One message there, many back.
    pub(crate) async fn follow<Q: Follow>(&self, request: Q) -> Result<Answers<Q::Answer>, Failure> {
        let body = Full::new(enveloped(&request.encode_to_vec())).map_err(|never| match never {}).boxed_unsync();
        let response = self.transport.send(self.request(Q::PATH, STREAM, body)?, &self.base).await?;
        Ok(Answers { envelopes: streamed(response).await?, answer: std::marker::PhantomData })
    }

    fn request(&self, path: &str, content_type: &'static str, body: Body) -> Result<Request<Body>, Failure> {
        let mut request = Request::post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, content_type)
            .header("connect-protocol-version", "1")
            .header(header::USER_AGENT, concat!("portico/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| Failure::usage(format!("{}: {error}", self.base)))?;
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal()))
                .map_err(|_| Failure::usage("PORTICO_KEY has characters that a header cannot carry"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

const STREAM: &str = "application/connect+proto";

/// The answers of a call that has many.
pub(crate) struct Answers<R> {
    envelopes: Envelopes,
    answer: std::marker::PhantomData<R>,
}

impl<R: prost::Message + Default> Answers<R> {
    /// The next answer, or none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<R>, Failure> {
        match self.envelopes.next().await? {
            Some(payload) => decoded(payload).map(Some),
            None => Ok(None),
        }
    }
}

/// The body of an answer that succeeded.
async fn whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let (head, body) = response.into_parts();
    let bytes = transport::collect(body).await?;
    match head.status.is_success() {
        true => Ok(bytes),
        false => Err(refusal_of_body(head.status, &head.headers, &bytes)),
    }
}

/// The envelopes of a stream that began.
async fn streamed(response: Response<Incoming>) -> Result<Envelopes, Failure> {
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        return Ok(Envelopes::new(body, head.headers));
    }
    let bytes = transport::collect(body).await?;
    Err(refusal_of_body(head.status, &head.headers, &bytes))
}

fn decoded<R: prost::Message + Default>(bytes: Bytes) -> Result<R, Failure> {
    R::decode(bytes).map_err(|error| Failure::other(format!("the gateway's answer cannot be decoded: {error}")))
}

#[cfg(test)]
mod tests;
