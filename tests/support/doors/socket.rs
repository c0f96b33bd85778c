//! A WebSocket client, over a connection of its own.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message as Frame, client::IntoClientRequest, protocol::CloseFrame},
};

use super::{super::gateway::PATIENCE, Behind, Call, Told, answer::http_code};

/// An open socket.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens a socket by this key; or the status and body of the refusal.
    pub(crate) async fn open(house: &impl Behind, path: &str, key: &str) -> Result<Socket, (StatusCode, String)> {
        Socket::at(house.address(), path, key).await
    }

    /// The same at the address of a process.
    pub(crate) async fn at(address: SocketAddr, path: &str, key: &str) -> Result<Socket, (StatusCode, String)> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if !key.is_empty() {
            request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        match tokio::time::timeout(PATIENCE, client_async(request, stream)).await.expect("a handshake in time") {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status(), String::from_utf8_lossy(&body).into_owned()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, frame: impl Into<Frame>) {
        self.0.send(frame.into()).await.unwrap();
    }

    /// Has the echo agent say this back. Whoever is attached hears what it says to others, too.
    pub(crate) async fn echo(&mut self, text: &str) {
        let said = json!({"type": "process_message", "content": {"text": text, "messages": []}});
        self.send(said.to_string()).await;
        loop {
            let frame: Value = serde_json::from_str(self.next().await.to_text().unwrap()).unwrap();
            if frame["type"] == "complete" && frame["content"]["text"] == text {
                return;
            }
        }
    }

    /// The next text or binary frame.
    pub(crate) async fn next(&mut self) -> Frame {
        match self.heard().await {
            Frame::Close(frame) => panic!("closed: {frame:?}"),
            frame => frame,
        }
    }

    /// The code that it is closed with, whatever else comes before.
    pub(crate) async fn closed(self) -> u16 {
        self.farewell().await.0
    }

    /// The code and the reason that it is closed with, whatever else comes before.
    pub(crate) async fn farewell(mut self) -> (u16, String) {
        loop {
            if let Frame::Close(frame) = self.heard().await {
                return frame
                    .map_or((1005, String::new()), |CloseFrame { code, reason }| (code.into(), reason.to_string()));
            }
        }
    }

    /// Closes with this code and reason.
    pub(crate) async fn leave(mut self, code: u16, reason: &str) {
        self.0.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.unwrap();
    }

    /// Sends as much of a frame as the other side takes; it may refuse it in the middle.
    pub(crate) async fn try_send(&mut self, frame: impl Into<Frame>) {
        let _refused =
            tokio::time::timeout(PATIENCE, self.0.send(frame.into())).await.expect("a word in time").is_err();
    }

    /// Closes in order.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.unwrap();
    }

    async fn heard(&mut self) -> Frame {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame in time");
            match next.expect("a close frame before the end").unwrap() {
                Frame::Ping(_) | Frame::Pong(_) => {}
                frame => return frame,
            }
        }
    }
}

/// Says the messages of a call as frames, and hears as many as are waited for.
pub(super) async fn call(house: &impl Behind, call: &Call<'_>) -> Told {
    let template = call.method.socket.as_ref().unwrap().template.to_string();
    let (before, name) = template.split_once('{').unwrap();
    let (name, after) = name.split_once('}').unwrap();
    let id = call.messages[0][name].as_str().unwrap_or("missing");
    let mut told = Told {
        code: "ok".to_owned(),
        messages: Vec::new(),
        status: StatusCode::SWITCHING_PROTOCOLS,
        headers: HeaderMap::new(),
        trailers: HeaderMap::new(),
        text: String::new(),
    };
    let mut socket = match Socket::open(house, &format!("{before}{id}{after}"), call.key).await {
        Ok(socket) => socket,
        Err((status, text)) => return Told { code: http_code(status), status, text, ..told },
    };
    for text in call.messages.iter().filter_map(|message| message["text"].as_str()) {
        socket.send(text).await;
    }
    while told.messages.len() < call.answers_max {
        told.messages.push(match socket.next().await {
            Frame::Text(text) => json!({"text": text.as_str()}),
            frame => Value::String(format!("{frame:?}")),
        });
    }
    socket.close().await;
    told
}
