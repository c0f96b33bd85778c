//! Handlers as functions from bytes to bytes.
//!
//! A newcomer's usual mistake is to decode in a door. Doors carry protobuf bytes; the closure made here decodes, calls
//! the typed function and encodes.
//!
//! *Knows:* the four shapes of a method. *Does not know:* protocols, access rules.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use portico_base::{Context, Incoming, Outgoing, Result};

use crate::Wire;

/// A boxed future that can move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

type Erased<Q, R> = Arc<dyn Fn(Context, Q) -> BoxFuture<Result<R>> + Send + Sync>;

/// A mounted method, by shape. Cheap to clone.
#[derive(Clone)]
pub enum Handler {
    /// One message in, one out.
    Unary(Erased<Bytes, Bytes>),
    /// One message in, many out.
    ServerStream(Erased<Bytes, Outgoing<Bytes>>),
    /// Many messages in, one out.
    ClientStream(Erased<Incoming<Bytes>, Bytes>),
    /// Many messages in, many out, at the same time.
    Bidi(Erased<Incoming<Bytes>, Outgoing<Bytes>>),
}

/// All mounted methods by path, for example `/podium.v1.KeysService/CreateKey`.
#[derive(Default)]
pub struct Handlers(HashMap<&'static str, Handler>);

impl Handlers {
    /// None yet.
    pub fn new() -> Handlers {
        Handlers::default()
    }

    /// The method at this path.
    pub fn get(&self, path: &str) -> Option<&Handler> {
        self.0.get(path)
    }

    /// The paths of all methods, in no order.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Mounts a unary method. For generated code, as are the next three.
    pub fn unary<Q, R, S, F>(
        &mut self,
        path: &'static str,
        service: &Arc<S>,
        call: impl Fn(Arc<S>, Context, Q) -> F + Send + Sync + Copy + 'static,
    ) where
        Q: Wire,
        R: Wire,
        S: Send + Sync + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let service = Arc::clone(service);
        let handler = Handler::Unary(Arc::new(move |cx, bytes| {
            let service = Arc::clone(&service);
            Box::pin(async move { Ok(call(service, cx, Q::from_wire(bytes)?).await?.to_wire()) })
        }));
        self.0.insert(path, handler);
    }

    /// Mounts a method that answers with a stream.
    pub fn server_stream<Q, R, S, F>(
        &mut self,
        path: &'static str,
        service: &Arc<S>,
        call: impl Fn(Arc<S>, Context, Q) -> F + Send + Sync + Copy + 'static,
    ) where
        Q: Wire,
        R: Wire,
        S: Send + Sync + 'static,
        F: Future<Output = Result<Outgoing<R>>> + Send + 'static,
    {
        let service = Arc::clone(service);
        let handler = Handler::ServerStream(Arc::new(move |cx, bytes| {
            let service = Arc::clone(&service);
            Box::pin(async move { Ok(encoded(call(service, cx, Q::from_wire(bytes)?).await?)) })
        }));
        self.0.insert(path, handler);
    }

    /// Mounts a method that takes a stream.
    pub fn client_stream<Q, R, S, F>(
        &mut self,
        path: &'static str,
        service: &Arc<S>,
        call: impl Fn(Arc<S>, Context, Incoming<Q>) -> F + Send + Sync + Copy + 'static,
    ) where
        Q: Wire,
        R: Wire,
        S: Send + Sync + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let service = Arc::clone(service);
        let handler = Handler::ClientStream(Arc::new(move |cx, messages| {
            let service = Arc::clone(&service);
            Box::pin(async move { Ok(call(service, cx, decoded(messages)).await?.to_wire()) })
        }));
        self.0.insert(path, handler);
    }

    /// Mounts a method that takes a stream and answers with one.
    pub fn bidi<Q, R, S, F>(
        &mut self,
        path: &'static str,
        service: &Arc<S>,
        call: impl Fn(Arc<S>, Context, Incoming<Q>) -> F + Send + Sync + Copy + 'static,
    ) where
        Q: Wire,
        R: Wire,
        S: Send + Sync + 'static,
        F: Future<Output = Result<Outgoing<R>>> + Send + 'static,
    {
        let service = Arc::clone(service);
        let handler = Handler::Bidi(Arc::new(move |cx, messages| {
            let service = Arc::clone(&service);
            Box::pin(async move { Ok(encoded(call(service, cx, decoded(messages)).await?)) })
        }));
        self.0.insert(path, handler);
    }
}

fn decoded<Q: Wire>(messages: Incoming<Bytes>) -> Incoming<Q> {
    Box::pin(messages.map(|message| message.and_then(Q::from_wire)))
}

fn encoded<R: Wire>(messages: Outgoing<R>) -> Outgoing<Bytes> {
    Box::pin(messages.map(|message| message.map(|message| message.to_wire())))
}
