//! One method and its rules.

use portico_json::{Defaults, MessageType, Style};

use super::{Binding, Surface, Template};

/// What is known of a method before any request arrives. Shared by every call.
pub struct Method {
    /// The path of the call, for example `/podium.v1.KeysService/CreateKey`.
    pub path: &'static str,
    /// The same under the service's aliases.
    pub aliases: Vec<&'static str>,
    /// The full name of the service, for example `podium.v1.KeysService`.
    pub service: &'static str,
    /// The name within the service, for example `CreateKey`.
    pub name: &'static str,
    /// How many messages go each way.
    pub shape: Shape,
    /// What repeating a call means.
    pub idempotency: Idempotency,
    /// The page that it belongs to.
    pub surface: &'static Surface,
    /// Who may call.
    pub access: Access,
    /// Its REST routes.
    pub bindings: Vec<Binding>,
    /// How REST renders it.
    pub rest: Rest,
    /// Its WebSocket form.
    pub socket: Option<Socket>,
    /// The rate limit bucket that it draws from, besides the one of the key.
    pub bucket: Option<&'static str>,
    /// Whether it is served while the registry is out of reach, even if it may change something.
    pub without_registry: bool,
    /// The request message.
    pub input: MessageType,
    /// The response message.
    pub output: MessageType,
    /// The comment in the proto file, without markers.
    pub comment: String,
}

impl Method {
    /// The paths that name it, its own first.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.path).chain(self.aliases.iter().copied())
    }

    /// How REST prints its answer.
    pub fn style(&self) -> Style {
        let page = self.surface.json;
        if self.rest.sparse { Style { defaults: Defaults::Omit, ..page } } else { page }
    }

    /// Whether it is refused while the registry is out of reach: what changes then, others would not hear of.
    pub fn needs_registry(&self) -> bool {
        self.idempotency != Idempotency::NoSideEffects && !self.without_registry
    }
}

/// How many messages go each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One in, one out.
    Unary,
    /// One in, many out.
    ServerStream,
    /// Many in, one out.
    ClientStream,
    /// Many in, many out.
    Bidi,
}

impl Shape {
    /// Whether the request is a stream.
    pub fn streams_in(self) -> bool {
        matches!(self, Shape::ClientStream | Shape::Bidi)
    }

    /// Whether the response is a stream.
    pub fn streams_out(self) -> bool {
        matches!(self, Shape::ServerStream | Shape::Bidi)
    }
}

/// What repeating a call means. Decides Connect GET, retries, and whether a call outlives its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// May change something each time.
    Unknown,
    /// Repeating changes nothing more.
    Idempotent,
    /// Changes nothing.
    NoSideEffects,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, with or without a credential.
    Public,
    /// Any caller with a valid credential.
    Authenticated,
    /// A caller with this permission, or an administrator.
    Permission(&'static str),
    /// Administrators.
    Admin,
}

/// How REST renders a method.
#[derive(Clone, Debug, Default)]
pub struct Rest {
    /// The status of success.
    pub success: u16,
    /// The status when what was asked for existed already.
    pub existing: u16,
    /// The status when the answer says that the thing is out of service.
    pub out_of_service: u16,
    /// The body is multipart/form-data.
    pub multipart: bool,
    /// The bytes field that is the HTTP body itself.
    pub raw: Option<&'static str>,
    /// The field that takes the whole body when the body has no member of that name.
    pub flat: Option<&'static str>,
    /// What is not set is left out of the answer, although the page prints defaults.
    pub sparse: bool,
    /// The field that takes the query as it came.
    pub query: Option<&'static str>,
    /// The request headers that the method reads.
    pub headers: Vec<&'static str>,
    /// The headers that a success has beside those of every answer.
    pub answer_headers: Vec<AnswerHeader>,
}

/// A header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHeader {
    /// Its name.
    pub name: &'static str,
    /// What it says, and when it is there.
    pub meaning: &'static str,
}

/// The WebSocket form of a streaming method.
#[derive(Clone, Debug)]
pub struct Socket {
    /// The path of the upgrade request.
    pub template: Template,
    /// Frames pass as they are.
    pub raw: bool,
}
