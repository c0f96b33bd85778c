//! The native protocol between clients and the agents of this host, and its translation to and from the agents' socket.
//!
//! | Client sends (text, JSON) | Agent gets |
//! |---|---|
//! | `process_message` {`text`, `messages`, …} | `message` {`message_id`, `text`, `messages`, …} |
//! | `steer`, `interrupt`, `config_update`, `approval_response`, `answer` | the same |
//! | `ping` | nothing; the client gets `pong` |
//! | a binary frame | `binary` {`data`: base64} |
//! | anything else | nothing; the client gets `error` |
//!
//! | Agent sends | Clients get |
//! |---|---|
//! | (a message was handed to it) | `created` |
//! | `stream_update` {`message_id`, `event_type`?, `content`} | `update` |
//! | `state_delta`, `tool_request` | `update` with that event type |
//! | `complete` {`message_id`, `text`}, `error` {`message_id`, `message`} | the same |
//! | `binary` {`data`: base64} | a binary frame |
//!
//! A newcomer's usual mistake is to expect this translation in the gateway. It belongs to the host, as in every host of
//! this protocol; on its way through the gateway a frame is opaque.
//!
//! *Knows:* both vocabularies. *Does not know:* queues, processes.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use portico_base::Timestamp;
use portico_port::fleet::{FRAME_BYTES_MAX, Frame};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ipc;

/// What a client's frame asks for.
pub(super) enum Request {
    /// Work on a message.
    Message {
        /// The text, for the history.
        text: String,
        /// All that the client sent; the message id is still to be added.
        content: Map<String, Value>,
    },
    /// Hand this packet over.
    Pass(Bytes),
    /// Answer this client alone with a frame of this type and content.
    Answer(&'static str, Value),
}

#[derive(Deserialize)]
struct ClientFrame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: Value,
}

/// Reads a client's frame.
pub(super) fn read(frame: &Frame) -> Request {
    if frame.len() > FRAME_BYTES_MAX {
        return refused("frame_too_large", "the frame is larger than 16 MiB");
    }
    let text = match frame {
        Frame::Binary(bytes) => return Request::Pass(ipc::packet("binary", &json!({"data": STANDARD.encode(bytes)}))),
        Frame::Text(text) => text.as_str(),
        Frame::Close(_) => return refused("invalid_frame", "a stream that closes says nothing"),
    };
    let Ok(ClientFrame { kind, content }) = serde_json::from_str(text) else {
        return refused("invalid_frame", "the frame is not a JSON object with `type` and `content`");
    };
    match kind.as_str() {
        "process_message" => match content {
            Value::Object(content) if content.get("text").is_some_and(Value::is_string) => {
                let text = content.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
                Request::Message { text, content }
            }
            _ => refused("invalid_frame", "process_message needs content.text"),
        },
        "steer" | "interrupt" | "config_update" | "approval_response" | "answer" => {
            Request::Pass(ipc::packet(&kind, &content))
        }
        "ping" => Request::Answer("pong", content),
        _ => refused("unknown_type", "this type of frame is not known"),
    }
}

/// The packet that hands a message to the agent.
pub(super) fn message(id: &str, mut content: Map<String, Value>) -> Bytes {
    content.entry("messages").or_insert_with(|| json!([]));
    content.insert("message_id".to_owned(), id.into());
    ipc::packet("message", &content)
}

/// A frame for clients, but for what only the instance knows.
pub(super) struct Event<'a> {
    pub(super) kind: &'a str,
    pub(super) message_id: Option<&'a str>,
    pub(super) event_type: Option<&'a str>,
    pub(super) content: Value,
}

impl Event<'_> {
    /// The frame. The event type stands at the top and in the content, as clients look in both places. What goes to one
    /// client alone has no sequence number, so that the others see no gap.
    pub(super) fn frame(self, agent_id: &str, sequence: Option<u64>, at: Timestamp) -> Frame {
        let mut content = match self.content {
            Value::Object(content) => content,
            Value::Null => Map::new(),
            Value::String(text) => Map::from_iter([("text".to_owned(), text.into())]),
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        let mut frame = Map::new();
        frame.insert("type".to_owned(), self.kind.into());
        if let Some(event_type) = self.event_type {
            frame.insert("event_type".to_owned(), event_type.into());
            content.insert("event_type".to_owned(), event_type.into());
        }
        frame.insert("content".to_owned(), content.into());
        frame.insert("agent_id".to_owned(), agent_id.into());
        if let Some(id) = self.message_id {
            frame.insert("message_id".to_owned(), id.into());
        }
        if let Some(sequence) = sequence {
            frame.insert("seq".to_owned(), sequence.into());
        }
        frame.insert("timestamp".to_owned(), at.0.into());
        Frame::Text(Value::Object(frame).to_string().into())
    }
}

/// The content of an `error` frame.
pub(super) fn error(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// The bytes of a `binary` packet.
pub(super) fn binary(content: &Value) -> Option<Frame> {
    let data = content.get("data")?.as_str()?;
    Some(Frame::Binary(STANDARD.decode(data).ok()?.into()))
}

fn refused(code: &str, message: &str) -> Request {
    Request::Answer("error", error(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_type_stands_in_both_places() {
        let event = Event {
            kind: "update",
            message_id: Some("msg_1"),
            event_type: Some("tool.call_start"),
            content: json!({"tool_name": "search"}),
        };
        let Frame::Text(text) = event.frame("agent_1", Some(7), Timestamp(1)) else { panic!("not text") };
        assert_eq!(
            text.as_str(),
            r#"{"type":"update","event_type":"tool.call_start","content":{"tool_name":"search","event_type":"tool.call_start"},"agent_id":"agent_1","message_id":"msg_1","seq":7,"timestamp":1}"#
        );
    }

    #[test]
    fn what_is_not_understood_is_answered() {
        for frame in ["", "[]", r#"{"type":"dance"}"#, r#"{"type":"process_message","content":{}}"#] {
            let request = read(&Frame::Text(frame.to_owned().into()));
            assert!(matches!(request, Request::Answer("error", _)), "{frame}");
        }
    }
}
