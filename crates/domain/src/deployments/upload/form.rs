//! The fields of an upload, each once, in any order.
//!
//! A newcomer's usual mistake is to take an absent file for an empty one. A piece in which nothing is set is an empty
//! piece of the file, for nothing else can be empty.
//!
//! *Knows:* which fields there are. *Does not know:* what becomes of the file.

use bytes::Bytes;
use portico_base::{Code, Error, Result, error::Detail, reason};

use crate::deployments::name::Name;

/// A part of an upload. Empty texts say nothing.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// The agent type.
    pub agent_type: String,
    /// The version.
    pub version: String,
    /// The next bytes of the file.
    pub file: Bytes,
}

/// What was said so far.
#[derive(Default)]
pub(super) struct Form {
    agent_type: String,
    version: String,
    has_file: bool,
}

impl Form {
    /// Takes what a piece says and hands its part of the file back.
    ///
    /// # Errors
    /// `duplicate_field`.
    pub(super) fn take(&mut self, piece: Piece) -> Result<Bytes> {
        self.has_file |= !piece.file.is_empty() || (piece.agent_type.is_empty() && piece.version.is_empty());
        once(&mut self.agent_type, piece.agent_type, "agent_type")?;
        once(&mut self.version, piece.version, "version")?;
        Ok(piece.file)
    }

    /// The name, once both of its parts are known.
    ///
    /// # Errors
    /// `invalid_agent_type` or `invalid_version`.
    pub(super) fn name(&self) -> Result<Option<Name>> {
        if self.agent_type.is_empty() || self.version.is_empty() {
            return Ok(None);
        }
        Name::parse(&self.agent_type, &self.version).map(Some)
    }

    /// Whether everything required was said.
    ///
    /// # Errors
    /// `missing_field`, with every field that is missing.
    pub(super) fn complete(&self) -> Result<()> {
        let required = [
            ("agent_type", !self.agent_type.is_empty()),
            ("version", !self.version.is_empty()),
            ("file", self.has_file),
        ];
        let missing: Vec<&str> = required.iter().filter(|(_, is_there)| !is_there).map(|(field, _)| *field).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let error = Error::new(
            Code::InvalidArgument,
            reason::MISSING_FIELD,
            format!("required and missing: {}", missing.join(", ")),
        );
        let field = |field: &&str| Detail::Field { path: (*field).to_owned(), reason: "is required".to_owned() };
        Err(missing.iter().map(field).fold(error, Error::with))
    }

    /// What the trail calls it.
    pub(super) fn subject(&self) -> String {
        match self.name() {
            Ok(Some(name)) => format!("{}:{}", name.agent_type, name.version),
            // Nothing that a stranger made up gets into the trail.
            _ => "unnamed".to_owned(),
        }
    }
}

fn once(known: &mut String, said: String, field: &'static str) -> Result<()> {
    match (known.is_empty(), said.is_empty()) {
        (_, true) => Ok(()),
        (true, false) => {
            *known = said;
            Ok(())
        }
        (false, false) => {
            Err(Error::new(Code::InvalidArgument, reason::DUPLICATE_FIELD, format!("{field} may be given once"))
                .with(Detail::Field { path: field.to_owned(), reason: "is given twice".to_owned() }))
        }
    }
}
