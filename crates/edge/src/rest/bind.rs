//! Path, query and body become the bytes of a request message.
//!
//! A newcomer's usual mistake is to check what is set already. Fields are appended in the order body, query, path; in
//! protobuf the last one holds, so the path cannot be overruled.
//!
//! *Knows:* bindings, form encoding, JSON by the codec. *Does not know:* what a field means.

use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::percent_decode;
use portico_base::{Code, Error, Result, reason};
use portico_json::{FieldPath, JsonError, MessageType, Parse};
use portico_schema::Template;
use serde_json::value::RawValue;

use crate::route::Segments;

/// Room for what paths and queries say, so that writing it allocates once.
const BYTES_USUAL: usize = 128;

/// A request message in the making.
pub(crate) struct Message<'m> {
    input: &'m MessageType,
    bytes: Vec<u8>,
    /// The fields that the query named.
    queried: Vec<String>,
}

impl<'m> Message<'m> {
    /// An empty message.
    pub(crate) fn new(input: &'m MessageType) -> Message<'m> {
        Message { input, bytes: Vec::with_capacity(BYTES_USUAL), queried: Vec::new() }
    }

    /// Takes a JSON body as the whole message. An empty body is an empty message. An object without an object in its
    /// member `flat` is that member; the names of the message's fields are no members of it, since whoever writes
    /// `{"mode": "merge"}` means the mode.
    ///
    /// # Errors
    /// `invalid_json` or `validation_failed`.
    pub(crate) fn whole(&mut self, json: &[u8], flat: Option<&str>) -> Result<()> {
        if json.is_empty() {
            return Ok(());
        }
        if let Some(name) = flat
            && let Some(field) = self.input.path(name)
            && let Some(members) = flat_members(json, name)
        {
            if let Some(reserved) = members.into_iter().find(|member| self.names(member)) {
                let problem =
                    format!("has a meaning of its own in this body; put all names into `{name}`, as an object");
                return Err(Error::invalid(reserved, problem));
            }
            return self.field(&field, json);
        }
        let read = self.input.decode_into(json, Parse::default(), &mut self.bytes);
        read.map_err(|error| unfit(json, &error, ""))
    }

    /// Whether a member of a JSON object is a field of the message, by proto or JSON name.
    fn names(&self, member: &str) -> bool {
        !member.contains('.') && self.input.path(member).is_some()
    }

    /// Takes a JSON body as this field.
    ///
    /// # Errors
    /// `invalid_json` or `validation_failed`.
    pub(crate) fn field(&mut self, field: &FieldPath, json: &[u8]) -> Result<()> {
        let before = self.bytes.len();
        let read = field.append_json(json, Parse::default(), &mut self.bytes);
        read.map_err(|error| unfit(json, &error, &field.proto_path()))?;
        // Null is how JSON says nothing, and nothing was not asked for.
        if self.bytes.len() == before && json.trim_ascii() == b"null" {
            return Err(Error::invalid(field.proto_path(), "must not be null"));
        }
        Ok(())
    }

    /// Takes a value as this field.
    ///
    /// # Errors
    /// `validation_failed`.
    pub(crate) fn text(&mut self, field: &FieldPath, text: &str) -> Result<()> {
        field
            .append_text(text, &mut self.bytes)
            .map_err(|error| Error::invalid(field.proto_path(), error.message().to_owned()))
    }

    /// Takes the parameters of a query, by proto or JSON names. Unknown ones are ignored, and so is `reserved`, which is
    /// the field that the body is, by its proto name.
    ///
    /// # Errors
    /// `validation_failed` when a value does not fit, a field that takes one value gets several, or the body has said it.
    pub(crate) fn query(&mut self, query: Option<&str>, reserved: Option<&str>) -> Result<()> {
        self.queried_by(query, |_, path| reserved == Some(path))
    }

    /// The same of the first message of a socket, whose frames are the members of a oneof: those are sent, not asked for.
    ///
    /// # Errors
    /// As for [`Message::query`].
    pub(crate) fn query_of_socket(&mut self, query: Option<&str>) -> Result<()> {
        self.queried_by(query, |field, _| field.is_in_oneof())
    }

    fn queried_by(&mut self, query: Option<&str>, is_left: impl Fn(&FieldPath, &str) -> bool) -> Result<()> {
        let body = self.bytes.len();
        for (field, value) in parameters(self.input, query) {
            let path = field.proto_path();
            if is_left(&field, &path) {
                continue;
            }
            if field.is_said(&self.bytes[..body]) {
                return Err(Error::invalid(path, "is in the body, so it must not be in the query"));
            }
            let value = form_decoded(value).ok_or_else(|| Error::invalid(path.clone(), "must be UTF-8"))?;
            if !field.is_repeated() && self.has_queried(&path) {
                return Err(Error::invalid(path, "takes one value"));
            }
            self.text(&field, &value)?;
            self.queried.push(path);
        }
        Ok(())
    }

    /// Refuses a query that names a field: where the body is the whole message, the last word would be the query's.
    ///
    /// # Errors
    /// `validation_failed`.
    pub(crate) fn refuse_query(&self, query: Option<&str>) -> Result<()> {
        match parameters(self.input, query).next() {
            Some((field, _)) => Err(Error::invalid(field.proto_path(), "belongs into the body, not into the query")),
            None => Ok(()),
        }
    }

    /// Whether the query named this field.
    pub(crate) fn has_queried(&self, path: &str) -> bool {
        self.queried.iter().any(|queried| queried == path)
    }

    /// Takes what the path captures.
    ///
    /// # Errors
    /// `validation_failed` when a capture does not fit its field.
    pub(crate) fn captures(
        &mut self,
        template: &Template,
        fields: &[FieldPath],
        segments: &Segments<'_>,
    ) -> Result<()> {
        for (variable, field) in template.variables.iter().zip(fields) {
            let text = segments
                .capture(template, variable)
                .ok_or_else(|| Error::invalid(variable.field.clone(), "must be UTF-8"))?;
            self.text(field, &text)?;
        }
        Ok(())
    }

    /// Whether nothing was set.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes for a field that is appended elsewhere.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The finished message.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

/// The fields that a query names, with what it says of them, still encoded.
fn parameters<'q>(input: &'q MessageType, query: Option<&'q str>) -> impl Iterator<Item = (FieldPath, &'q str)> {
    query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((input.path(&form_decoded(name)?)?, value))
    })
}

/// The members of a JSON object, in order, that has no object in this member.
fn flat_members(json: &[u8], name: &str) -> Option<Vec<String>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
    let is_structured = members.get(name).is_some_and(|value| value.get().starts_with('{'));
    (!is_structured).then(|| members.into_keys().collect())
}

/// Tells text that is no JSON from JSON that is no such message. Looked at again only when it has failed, and then for its
/// shape alone: what is wrong within strings the codec has seen.
pub(crate) fn unfit(json: &[u8], error: &JsonError, below: &str) -> Error {
    if let Err(syntax) = serde_json::from_slice::<serde::de::IgnoredAny>(json) {
        return Error::new(Code::InvalidArgument, reason::INVALID_JSON, format!("the body is not JSON: {syntax}"));
    }
    if error.is_malformed() {
        return Error::new(Code::InvalidArgument, reason::INVALID_JSON, error.message().to_owned());
    }
    let path = match error.path() {
        "" if below.is_empty() => "body".to_owned(),
        "" => below.to_owned(),
        path => proto_names(path),
    };
    Error::invalid(path, error.message().to_owned())
}

/// The codec speaks JSON names and writes `secrets["API-KEY"]`; errors name fields as proto files do, and keys of maps with a dot, as
/// the domain does: `secrets.API-KEY`.
fn proto_names(path: &str) -> String {
    let mut names = String::with_capacity(path.len() + 4);
    let mut left = path;
    while let Some((fields, beyond)) = left.split_once("[\"") {
        push_fields(&mut names, fields);
        // A key ends where a field, an index, another key or nothing follows: it may hold a bracket itself.
        let is_end = |at: usize| matches!(beyond.as_bytes().get(at + 2), None | Some(b'.' | b'['));
        let end = beyond.match_indices("\"]").map(|(at, _)| at).find(|at| is_end(*at));
        let (key, after) = end.map_or((beyond, ""), |at| (&beyond[..at], &beyond[at + 2..]));
        names.push('.');
        names.push_str(key);
        left = after;
    }
    push_fields(&mut names, left);
    names
}

/// The names of fields as proto files have them: camelCase becomes snake_case.
fn push_fields(names: &mut String, fields: &str) {
    for letter in fields.chars() {
        if letter.is_ascii_uppercase() {
            names.push('_');
            names.push(letter.to_ascii_lowercase());
        } else {
            names.push(letter);
        }
    }
}

/// Decodes application/x-www-form-urlencoded; `None` when that is not UTF-8.
fn form_decoded(text: &str) -> Option<String> {
    let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portico_json::Style;

    use portico_schema::Schema;

    fn schema() -> Schema {
        Schema::read(portico_wire::SCHEMA).unwrap()
    }

    /// What a message holds after these steps, as JSON, or the error.
    fn bound(name: &str, steps: impl Fn(&mut Message<'_>) -> Result<()>) -> String {
        let input = schema().types().message(name).unwrap();
        let mut message = Message::new(&input);
        match steps(&mut message) {
            Ok(()) => {
                let mut json = Vec::new();
                input.encode(&message.into_bytes(), Style::CANONICAL, &mut json).unwrap();
                String::from_utf8(json).unwrap()
            }
            Err(error) => format!("{} {}", error.reason(), error.message()),
        }
    }

    #[test]
    fn queries_fill_fields_by_either_name() {
        let cases: &[(&str, &str, &str)] = &[
            ("podium.v1.ListKeysRequest", "tenant_id=a&limit=5", r#"{"tenantId":"a","limit":5}"#),
            (
                "podium.v1.ListKeysRequest",
                "tenantId=a+b%2Bc&includeRevoked=true",
                r#"{"tenantId":"a b+c","includeRevoked":true}"#,
            ),
            ("podium.v1.ListKeysRequest", "unknown=1&&limit=2", r#"{"limit":2}"#),
            ("podium.v1.ListKeysRequest", "tenant_id=a&tenantId=b", "validation_failed tenant_id: takes one value"),
            ("podium.v1.CreateKeyRequest", "permissions=a&permissions=b", r#"{"permissions":["a","b"]}"#),
            (
                "podium.v1.CreateKeyRequest",
                "expires_at=2026-01-02T03:04:05Z",
                r#"{"expiresAt":"2026-01-02T03:04:05Z"}"#,
            ),
            (
                "podium.v1.GetInstanceResponse",
                "instance.resource_usage.cpuPercent=1.5",
                r#"{"instance":{"resourceUsage":{"cpuPercent":1.5}}}"#,
            ),
        ];
        for (message, query, expected) in cases {
            assert_eq!(bound(message, |message| message.query(Some(query), None)), *expected, "{query}");
        }
        let refused = bound("podium.v1.ListKeysRequest", |message| message.query(Some("limit=many"), None));
        assert!(refused.starts_with("validation_failed limit: "), "{refused}");
    }

    #[test]
    fn frames_of_a_socket_are_not_asked_for() {
        let asked = Some("instance_id=a&since_seq=3&text=hello&close.code=4000");
        let first = bound("podium.v1.AttachRequest", |message| message.query_of_socket(asked));
        assert_eq!(first, r#"{"instanceId":"a","sinceSeq":"3"}"#);
    }

    #[test]
    fn paths_are_written_as_the_domain_writes_them() {
        for (codec, ours) in [
            ("agentType", "agent_type"),
            (r#"secrets["API-KEY"]"#, "secrets.API-KEY"),
            (r#"agentTypes["a"].maxTokens[3]"#, "agent_types.a.max_tokens[3]"),
            (r#"features["Odd"]Key"]"#, r#"features.Odd"]Key"#),
        ] {
            assert_eq!(proto_names(codec), ours);
        }
    }

    #[test]
    fn bodies_fill_messages_and_fields() {
        let whole = |json: &'static str, flat| {
            bound("podium.v1.SetSecretsRequest", move |message| message.whole(json.as_bytes(), flat))
        };
        assert_eq!(whole("", None), "{}");
        let patched = |json: &'static str| {
            let field = schema().types().message("podium.v1.UpdateConfigRequest").unwrap().path("patch").unwrap();
            bound("podium.v1.UpdateConfigRequest", move |message| message.field(&field, json.as_bytes()))
        };
        assert_eq!(patched("{}"), r#"{"patch":{}}"#);
        assert!(patched("").starts_with("invalid_json "), "{}", patched(""));
        assert!(patched(" null ").starts_with("validation_failed patch: "), "{}", patched(" null "));
        assert_eq!(whole(r#"{"agent_type":"a","x":1}"#, None), r#"{"agentType":"a"}"#);
        assert_eq!(whole(r#"{"K":"x"}"#, Some("secrets")), r#"{"secrets":{"K":"x"}}"#);
        assert_eq!(whole(r#"{"secrets.fields":"x"}"#, Some("secrets")), r#"{"secrets":{"secrets.fields":"x"}}"#);
        for (json, name) in [
            (r#"{"secrets":"x"}"#, "secrets"),
            (r#"{"K":"x","mode":"merge"}"#, "mode"),
            (r#"{"tenantId":"t"}"#, "tenantId"),
        ] {
            let refused = whole(json, Some("secrets"));
            assert!(refused.starts_with(&format!("validation_failed {name}: has a meaning of its own")), "{refused}");
        }
        assert_eq!(
            whole(r#"{"secrets":{"K":"x"},"mode":"merge"}"#, Some("secrets")),
            r#"{"secrets":{"K":"x"},"mode":"merge"}"#
        );
        assert!(whole("{", None).starts_with("invalid_json "), "{}", whole("{", None));
        assert!(
            whole(r#"{"mode":7}"#, None).starts_with("validation_failed mode: "),
            "{}",
            whole(r#"{"mode":7}"#, None)
        );
        assert!(whole(r#"{"agentType":7}"#, None).starts_with("validation_failed agent_type: "));
        assert!(whole("[]", None).starts_with("validation_failed body: "), "{}", whole("[]", None));
    }

    #[test]
    fn the_path_wins_over_the_body_and_the_query_over_nothing() {
        let json = bound("podium.v1.SetSecretsRequest", |message| {
            message.whole(br#"{"agent_type":"body","mode":"merge"}"#, None)?;
            let twice = message.query(Some("tenant_id=t&agentType=query"), None).unwrap_err();
            assert_eq!(twice.message(), "agent_type: is in the body, so it must not be in the query");
            let template = Template::parse("/s/{agent_type}").unwrap();
            let mut router = crate::route::Router::default();
            router.insert(crate::route::Verb::Socket, &template, ());
            let found = router.find(&crate::route::Verb::Socket, "/s/path");
            let crate::route::Match::Route((), segments) = found else { panic!("no route") };
            let field = schema().types().message("podium.v1.SetSecretsRequest").unwrap().path("agent_type").unwrap();
            message.captures(&template, &[field], &segments)
        });
        assert_eq!(json, r#"{"agentType":"path","mode":"merge","tenantId":"t"}"#);
    }
}
