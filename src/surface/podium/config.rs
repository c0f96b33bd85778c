//! Runtime configuration and models, as the Podium page prints them.
//!
//! A newcomer's usual mistake is to fail when Ensemble is away. Configuration is ours; the models in it are a courtesy, and
//! `models_status` says how good they are.
//!
//! *Knows:* the messages. *Does not know:* rules of settings, where models come from.

use std::sync::Arc;

use http::{HeaderName, header};
use portico_wire::podium::v1::{
    Config, ConfigService, GetConfigRequest, GetConfigResponse, ListModelsRequest, ListModelsResponse,
    UpdateConfigRequest, UpdateConfigResponse,
};
use serde_json::Value;

use super::{Podium, counted, say, tagged, timestamp};
use crate::{
    base::{Context, Result},
    domain::settings::{Current, Mode},
    surface::objects::{carried, object},
};

/// Says that a list is a stored copy because Ensemble does not answer.
const STALE: HeaderName = HeaderName::from_static("x-podium-stale");

impl ConfigService for Podium {
    async fn get_config(&self, cx: Context, _request: GetConfigRequest) -> Result<GetConfigResponse> {
        let config = self.config(&cx, &self.platform.settings.current()).await;
        Ok(GetConfigResponse { config: Some(config) })
    }

    async fn update_config(&self, cx: Context, request: UpdateConfigRequest) -> Result<UpdateConfigResponse> {
        let mode = Mode::parse(&request.mode)?;
        let current: Arc<Current> = self.platform.settings.update(&cx, object(request.patch), mode).await?;
        let config = self.config(&cx, &current).await;
        Ok(UpdateConfigResponse { config: Some(config) })
    }

    async fn list_models(&self, cx: Context, _request: ListModelsRequest) -> Result<ListModelsResponse> {
        let shown = self.platform.models.list().await?;
        if shown.stale {
            say(&cx, STALE, "true");
        }
        say(&cx, header::ETAG, &format!("\"{}\"", shown.list.tag));
        say(&cx, header::AGE, &shown.age.as_secs().to_string());
        Ok(ListModelsResponse {
            models: shown.list.models.iter().map(carried).collect(),
            document: shown.list.document.clone(),
            content_type: shown.list.content_type.clone(),
            stale: shown.stale,
        })
    }
}

impl Podium {
    async fn config(&self, cx: &Context, current: &Current) -> Config {
        tagged(cx, current.version);
        let (models, models_status) = match self.platform.models.list().await {
            Ok(shown) => (shown.list.models.iter().map(carried).collect(), if shown.stale { "stale" } else { "ok" }),
            Err(_said_by_status) => (Vec::new(), "unavailable"),
        };
        let updated_by = current.updated_by.as_ref().filter(|_| cx.caller.is_admin());
        let overrides = current.agent_types.iter().filter_map(|(name, value)| Some((name, value.as_object()?)));
        Config {
            version: counted(current.version),
            updated_at: current.updated_at.map(timestamp),
            updated_by: updated_by.cloned().unwrap_or_default(),
            environment: current.environment.clone(),
            defaults: Some(carried(&current.defaults)),
            agent_types: overrides.map(|(name, overrides)| (name.clone(), carried(overrides))).collect(),
            ensemble: Some(carried(&current.ensemble)),
            limits: Some(carried(&current.limits)),
            features: current
                .features
                .iter()
                .filter_map(|(name, on)| Some((name.clone(), Value::as_bool(on)?)))
                .collect(),
            models,
            models_status: models_status.to_owned(),
        }
    }
}
