//! The body of a request on its way into the engine.
//!
//! A newcomer's usual mistake is to answer with a body error alone: the engine calls any of them internal. What is wrong
//! with the bytes is kept as a [`Fault`], and whoever answers looks there first.
//!
//! *Knows:* base64, envelope flags, how long a caller may take. *Does not know:* messages.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use portico_base::{Code, Error, reason};
use portico_schema::Shape;

use super::{envelopes::Envelopes, patience::Patience, text::Decoder};
use crate::{
    Body, Protocol,
    ends::{revoked, too_slow},
};

pub(super) struct Inflow {
    body: Body,
    text: Option<Decoder>,
    envelopes: Option<Envelopes>,
    patience: Patience,
    fault: Fault,
}

/// What was wrong with the bytes, if anything was, and whether they reached the house all the same. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<Story>);

#[derive(Default)]
struct Story {
    wrong: OnceLock<Wrong>,
    reached: AtomicBool,
}

#[derive(Clone, Copy)]
enum Wrong {
    Flags(u8),
    Base64,
    Slow,
    Revoked,
    Unframed,
    Broken,
}

impl Fault {
    /// The error for it.
    pub(super) fn take(&self) -> Option<Error> {
        let text = match self.0.wrong.get()? {
            Wrong::Flags(flags) => format!("an envelope has the unknown flags {flags:#010b}"),
            Wrong::Base64 => "the body is not base64".to_owned(),
            Wrong::Slow => return Some(too_slow()),
            Wrong::Revoked => return Some(revoked()),
            Wrong::Unframed => "the request body is not framed as HTTP says".to_owned(),
            Wrong::Broken => return Some(Error::new(Code::Canceled, reason::CANCELED, "the request body ended early")),
        };
        Some(Error::new(Code::InvalidArgument, reason::INVALID_MESSAGE, text))
    }

    /// The engine has called the house. How the call ends is noted there from now on.
    pub(super) fn reached(&self) {
        self.0.reached.store(true, Ordering::Relaxed);
    }

    /// Whether the engine has called the house.
    pub(super) fn has_reached(&self) -> bool {
        self.0.reached.load(Ordering::Relaxed)
    }

    fn note(&self, wrong: Wrong) -> Error {
        // The first fault ends the body, so there is no second one.
        let _first = self.0.wrong.set(wrong);
        Error::new(Code::InvalidArgument, reason::INVALID_MESSAGE, "the body is malformed")
    }
}

impl Inflow {
    pub(super) fn new(body: Body, protocol: Protocol, shape: Shape, fault: Fault) -> Inflow {
        Inflow {
            body,
            text: (protocol == Protocol::GrpcWebText).then(Decoder::default),
            envelopes: protocol.is_enveloped().then(|| Envelopes::new(protocol)),
            patience: Patience::new(shape),
            fault,
        }
    }

    fn pass(&mut self, mut data: Bytes) -> Result<Bytes, Error> {
        if let Some(text) = &mut self.text {
            data = text.pass(&data).ok_or_else(|| self.fault.note(Wrong::Base64))?;
        }
        if let Some(envelopes) = &mut self.envelopes {
            envelopes.pass(&data).map_err(|flags| self.fault.note(Wrong::Flags(flags)))?;
        }
        Ok(data)
    }

    fn is_between_messages(&self) -> bool {
        self.envelopes.as_ref().is_some_and(Envelopes::is_between)
    }
}

impl http_body::Body for Inflow {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let passed = match frame.into_data() {
                    Ok(data) => this.pass(data).map(Frame::data),
                    Err(trailers) => Ok(trailers),
                };
                this.patience.heard(this.is_between_messages());
                Poll::Ready(Some(passed))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.fault.note(match error.code() {
                Code::Unauthenticated => Wrong::Revoked,
                Code::InvalidArgument => Wrong::Unframed,
                _ => Wrong::Broken,
            })))),
            Poll::Ready(None) if this.text.as_ref().is_some_and(|text| !text.is_complete()) => {
                this.text = None;
                Poll::Ready(Some(Err(this.fault.note(Wrong::Base64))))
            }
            Poll::Pending if this.patience.is_over(this.is_between_messages(), cx) => {
                Poll::Ready(Some(Err(this.fault.note(Wrong::Slow))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.text.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}
