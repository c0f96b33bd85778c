//! The messages of protobuf's own conformance suite, and the answer to one of its requests.
//!
//! A newcomer would transcode JSON to JSON directly: every payload passes through the prost message type, as a handler's
//! would.
//!
//! *Knows:* the suite's protocol. *Does not know:* how the runner starts.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes,
    reason = "generated from the suite's protos"
)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use messages::conformance as protocol;
pub use messages::protobuf_test_messages::proto3;

use portico_json::{MessageType, Parse, Style, Types, Unknown};
use prost::Message;
use prost_reflect::DescriptorPool;
use proto3::TestAllTypesProto3;
use protocol::conformance_request::Payload;
use protocol::conformance_response::Result as Answer;
use protocol::{ConformanceRequest, ConformanceResponse, TestCategory, WireFormat};

/// The suite's descriptors, compiled at build time.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/conformance.bin"));

/// The one message type the proto3 suite is about.
pub const TEST_ALL_TYPES: &str = "protobuf_test_messages.proto3.TestAllTypesProto3";

/// The program under test.
pub struct Testee {
    all_types: MessageType,
}

impl Testee {
    /// Compiles the suite's descriptors.
    ///
    /// # Errors
    ///
    /// If they are not the suite's, which the build would have noticed.
    pub fn new() -> Result<Testee, String> {
        let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|error| error.to_string())?;
        let all_types = Types::new(&pool).message(TEST_ALL_TYPES);
        Ok(Testee { all_types: all_types.ok_or_else(|| format!("{TEST_ALL_TYPES} is not among the descriptors"))? })
    }

    /// The message type of the proto3 suite.
    pub fn all_types(&self) -> &MessageType {
        &self.all_types
    }

    /// Answers one request, given and returned as bytes.
    pub fn answer_bytes(&self, request: &[u8]) -> Vec<u8> {
        let answer = match ConformanceRequest::decode(request) {
            Ok(request) => self.answer(request),
            Err(error) => Answer::RuntimeError(error.to_string()),
        };
        ConformanceResponse { result: Some(answer) }.encode_to_vec()
    }

    /// Answers one request.
    pub fn answer(&self, request: ConformanceRequest) -> Answer {
        if request.message_type == "conformance.FailureSet" {
            return Answer::ProtobufPayload(Vec::new());
        }
        if request.message_type != TEST_ALL_TYPES {
            return Answer::Skipped("only proto3 is served".to_owned());
        }
        let format = request.requested_output_format();
        if !matches!(format, WireFormat::Protobuf | WireFormat::Json) {
            return Answer::Skipped("only binary and JSON are written".to_owned());
        }
        let parse = match request.test_category() {
            TestCategory::JsonIgnoreUnknownParsingTest => Parse { unknown_fields: Unknown::Ignore },
            _ => Parse { unknown_fields: Unknown::Refuse },
        };
        let wire = match request.payload {
            Some(Payload::ProtobufPayload(wire)) => wire,
            Some(Payload::JsonPayload(json)) => match self.all_types.decode(json.as_bytes(), parse) {
                Ok(wire) => wire,
                Err(error) => return Answer::ParseError(error.to_string()),
            },
            _ => return Answer::Skipped("only binary and JSON are read".to_owned()),
        };
        let message = match TestAllTypesProto3::decode(&*wire) {
            Ok(message) => message,
            Err(error) => return Answer::ParseError(error.to_string()),
        };
        let wire = message.encode_to_vec();
        if format == WireFormat::Protobuf {
            return Answer::ProtobufPayload(wire);
        }
        let mut json = Vec::new();
        if let Err(error) = self.all_types.encode(&wire, Style::default(), &mut json) {
            return Answer::SerializeError(error.to_string());
        }
        match String::from_utf8(json) {
            Ok(json) => Answer::JsonPayload(json),
            Err(error) => Answer::RuntimeError(error.to_string()),
        }
    }
}
