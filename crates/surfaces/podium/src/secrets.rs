//! Secrets of agent types, as the Podium page prints them.
//!
//! A newcomer's usual mistake is to answer a change with what was stored. Names go back, values do not.
//!
//! *Knows:* the messages. *Does not know:* sealing, bounds.

use std::collections::BTreeMap;

use portico_base::{Code, Context, Error, Result, Secret, error::Detail, reason};
use portico_domain::secrets::{Change, Mode};
use portico_wire::{
    podium::v1::{GetSecretsRequest, GetSecretsResponse, SecretsService, SetSecretsRequest, SetSecretsResponse},
    well_known::{Struct, value::Kind},
};

use super::{Podium, counted, not_stored, tagged, timestamp};

impl SecretsService for Podium {
    async fn set_secrets(&self, cx: Context, request: SetSecretsRequest) -> Result<SetSecretsResponse> {
        not_stored(&cx);
        let mode = Mode::parse(&request.mode)?;
        let change = Change { values: values(request.secrets, mode)?, mode };
        let listing = self.platform.secrets.set(&cx, &request.agent_type, &request.tenant_id, change).await?;
        tagged(&cx, listing.version);
        Ok(SetSecretsResponse {
            agent_type: listing.agent_type,
            tenant_id: listing.tenant_id.as_str().to_owned(),
            names: listing.names,
            version: counted(listing.version),
            updated_at: Some(timestamp(listing.updated_at)),
        })
    }

    async fn get_secrets(&self, cx: Context, request: GetSecretsRequest) -> Result<GetSecretsResponse> {
        not_stored(&cx);
        let reveal = request.reveal.unwrap_or(true);
        let (listing, values) = self.platform.secrets.get(&cx, &request.agent_type, &request.tenant_id, reveal).await?;
        tagged(&cx, listing.version);
        let values = values.unwrap_or_default().into_iter();
        Ok(GetSecretsResponse {
            agent_type: listing.agent_type,
            tenant_id: listing.tenant_id.as_str().to_owned(),
            secrets: values.map(|(name, value)| (name, value.reveal().to_owned())).collect(),
            names: listing.names,
            version: counted(listing.version),
            updated_at: Some(timestamp(listing.updated_at)),
        })
    }
}

/// Names with their values. Null takes a name away, which only makes sense where the others stay.
fn values(carried: Option<Struct>, mode: Mode) -> Result<BTreeMap<String, Option<Secret>>> {
    let carried = carried.ok_or_else(|| {
        let detail = Detail::Field { path: "secrets".to_owned(), reason: "is required".to_owned() };
        Error::new(Code::InvalidArgument, reason::MISSING_FIELD, "secrets is required").with(detail)
    })?;
    let values = carried.fields.into_iter().map(|(name, value)| match value.kind {
        Some(Kind::StringValue(value)) => Ok((name, Some(Secret::new(value)))),
        Some(Kind::NullValue(_)) if mode == Mode::Merge => Ok((name, None)),
        Some(Kind::NullValue(_)) => Err(Error::invalid(field(&name), "must be a string; null deletes under `merge`")),
        _ => Err(Error::invalid(field(&name), "must be a string")),
    });
    values.collect()
}

/// The path of a name. Names are checked later, so a long one is cut here.
fn field(name: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 128;
    format!("secrets.{}", name.chars().take(SHOWN_CHARACTERS_MAX).collect::<String>())
}
