//! The native stream of an agent, as the Podium page opens it.
//!
//! A newcomer's usual mistake is to look into a frame. Frames are opaque: their kind, order and boundaries are kept, and
//! nothing else of them is known here.

use futures_util::{StreamExt, stream};
use portico_base::{Code, Context, Error, Incoming, Outgoing, Result, error::Detail, reason};
use portico_domain::instances::{Farewell, Frame, Utf8};
use portico_wire::podium::v1::{AgentService, AttachRequest, AttachResponse, Close, attach_request, attach_response};

use super::Podium;

/// The close code of an ordinary end.
const NORMAL: u16 = 1000;

impl AgentService for Podium {
    async fn attach(&self, cx: Context, mut request: Incoming<AttachRequest>) -> Result<Outgoing<AttachResponse>> {
        let first = request.next().await.transpose()?.unwrap_or_default();
        if first.instance_id.is_empty() {
            let absent = Detail::Field { path: "instance_id".to_owned(), reason: "is missing".to_owned() };
            let message = "the first message must name the instance";
            return Err(Error::new(Code::InvalidArgument, reason::MISSING_FIELD, message).with(absent));
        }
        if let Some(bytes) = self.platform.settings.current().limits().ws_max_message_bytes {
            cx.reply.message_bytes_max(bytes);
        }
        let (instance, since) = (first.instance_id.clone(), first.since_seq);
        let frames = stream::once(std::future::ready(Ok(first))).chain(request);
        // A message without a frame, as the first one may be, says nothing to the agent.
        let frames = frames
            .filter_map(|message| std::future::ready(message.map(|message| message.frame.map(heard)).transpose()));
        let answered = self.platform.instances.attach(&cx, &instance, since, Box::pin(frames)).await?;
        Ok(Box::pin(answered.map(|frame| frame.map(|frame| AttachResponse { frame: Some(said(frame)) }))))
    }
}

fn heard(frame: attach_request::Frame) -> Frame {
    match frame {
        attach_request::Frame::Text(text) => Frame::Text(Utf8::from(text)),
        attach_request::Frame::Binary(bytes) => Frame::Binary(bytes),
        attach_request::Frame::Close(Close { code, reason }) => {
            // What is no code of a WebSocket is an ordinary end.
            Frame::Close(Farewell { code: u16::try_from(code).unwrap_or(NORMAL), reason })
        }
    }
}

fn said(frame: Frame) -> attach_response::Frame {
    match frame {
        Frame::Text(text) => attach_response::Frame::Text(text.into()),
        Frame::Binary(bytes) => attach_response::Frame::Binary(bytes),
        Frame::Close(Farewell { code, reason }) => attach_response::Frame::Close(Close { code: code.into(), reason }),
    }
}
