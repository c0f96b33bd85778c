//! API keys, as the Podium page prints them.
//!
//! A newcomer's usual mistake is to log an answer. The first of them holds a key.
//!
//! *Knows:* the messages. *Does not know:* what makes a key valid.

use http::header;
use portico_base::{Context, Result, Timestamp, page::PageRequest};
use portico_domain::keys::{self, KeyRole, NewKey};
use portico_wire::podium::v1::{
    CreateKeyRequest, CreateKeyResponse, Key, KeysService, ListKeysRequest, ListKeysResponse, ListPeppersRequest,
    ListPeppersResponse, Pepper, RevokeKeyRequest, RevokeKeyResponse, RotatePepperRequest, RotatePepperResponse,
};

use super::{Podium, moment, not_stored, say, timestamp};

/// Keys of a page when the caller does not say.
const PAGE_KEYS: usize = 100;
/// Most keys of a page.
const PAGE_KEYS_MAX: usize = 500;

impl KeysService for Podium {
    async fn create_key(&self, cx: Context, request: CreateKeyRequest) -> Result<CreateKeyResponse> {
        not_stored(&cx);
        let new = NewKey {
            tenant_id: request.tenant_id,
            name: request.name,
            permissions: request.permissions,
            expires_at: request.expires_at.map(|at| moment("expires_at", &at)).transpose()?,
            role: KeyRole::parse(&request.role)?,
            rate_limit_rpm: request.rate_limit_rpm,
        };
        let (key, secret) = self.platform.keys.create(&cx, new).await?;
        say(&cx, header::LOCATION, &format!("/api/v1/keys/{}", key.key_id));
        let key = shown(key);
        Ok(CreateKeyResponse {
            key: secret.reveal().to_owned(),
            key_id: key.key_id,
            prefix: key.prefix,
            tenant_id: key.tenant_id,
            name: key.name,
            permissions: key.permissions,
            role: key.role,
            created_at: key.created_at,
            expires_at: key.expires_at,
        })
    }

    async fn list_keys(&self, cx: Context, request: ListKeysRequest) -> Result<ListKeysResponse> {
        not_stored(&cx);
        let list = format!("keys {} {}", request.include_revoked, request.tenant_id);
        let page = PageRequest::parse(&list, request.limit, &request.cursor, PAGE_KEYS, PAGE_KEYS_MAX)?;
        let page = self.platform.keys.list(&request.tenant_id, request.include_revoked, &page).await?.map(shown);
        let next_cursor = page.cursor(&list);
        Ok(ListKeysResponse { keys: page.items, next_cursor })
    }

    async fn revoke_key(&self, cx: Context, request: RevokeKeyRequest) -> Result<RevokeKeyResponse> {
        not_stored(&cx);
        self.platform.keys.revoke(&cx, &request.key_id).await?;
        Ok(RevokeKeyResponse {})
    }

    async fn list_peppers(&self, _: Context, _: ListPeppersRequest) -> Result<ListPeppersResponse> {
        Ok(ListPeppersResponse { peppers: self.platform.keys.peppers().await?.into_iter().map(pepper).collect() })
    }

    async fn rotate_pepper(&self, cx: Context, _: RotatePepperRequest) -> Result<RotatePepperResponse> {
        Ok(RotatePepperResponse { pepper: Some(pepper(self.platform.keys.rotate_pepper(&cx).await?)) })
    }
}

fn pepper(standing: keys::Standing) -> Pepper {
    Pepper {
        pepper_id: standing.pepper_id,
        // The first one has no birthday.
        created_at: (standing.created_at > Timestamp(0)).then(|| timestamp(standing.created_at)),
        current: standing.is_current,
        keys: i64::try_from(standing.keys).unwrap_or(i64::MAX),
    }
}

fn shown(key: keys::Key) -> Key {
    Key {
        key_id: key.key_id,
        prefix: key.prefix,
        tenant_id: key.tenant_id,
        name: key.name,
        permissions: key.permissions,
        role: key.role.as_str().to_owned(),
        // The bootstrap key has no birthday.
        created_at: (key.created_at > Timestamp(0)).then(|| timestamp(key.created_at)),
        expires_at: key.expires_at.map(timestamp),
        last_used_at: key.last_used_at.map(timestamp),
        revoked_at: key.revoked_at.map(timestamp),
        rate_limit_rpm: key.rate_limit_rpm.unwrap_or_default(),
        pepper_id: key.pepper_id,
    }
}
