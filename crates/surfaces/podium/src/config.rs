//! Runtime configuration and models, as the Podium page prints them.
//!
//! A newcomer's usual mistake is to fail when Ensemble is away. Configuration is ours; the models in it are a courtesy, and
//! `models_status` says how good they are.
//!
//! *Knows:* the messages. *Does not know:* rules of settings, where models come from.

use std::sync::Arc;

use http::{HeaderName, header, uri::PathAndQuery};
use portico_base::{Context, Error, Result};
use portico_domain::settings::{Current, Mode};
use portico_wire::{
    podium::v1::{
        Config, ConfigService, GetConfigRequest, GetConfigResponse, ListModelsRequest, ListModelsResponse,
        UpdateConfigRequest, UpdateConfigResponse,
    },
    well_known::Struct,
};
use serde_json::{Map, Value};

use super::{Podium, counted, say, tagged, timestamp};
use portico_phrases::objects::{carried, object};

/// Says that a list is a stored copy because Ensemble does not answer.
const STALE: HeaderName = HeaderName::from_static("x-podium-stale");
/// Longest query that is handed on.
const QUERY_BYTES_MAX: usize = 1_024;

impl ConfigService for Podium {
    async fn get_config(&self, cx: Context, _request: GetConfigRequest) -> Result<GetConfigResponse> {
        let config = self.config(&cx, &self.platform.settings.current()).await;
        Ok(GetConfigResponse { config: Some(config) })
    }

    async fn update_config(&self, cx: Context, request: UpdateConfigRequest) -> Result<UpdateConfigResponse> {
        let mode = Mode::parse(&request.mode)?;
        let mut patch = object(request.patch);
        self.take_out_models(&cx, &mut patch).await;
        let current: Arc<Current> = self.platform.settings.update(&cx, patch, mode).await?;
        let config = self.config(&cx, &current).await;
        Ok(UpdateConfigResponse { config: Some(config) })
    }

    async fn list_models(&self, cx: Context, request: ListModelsRequest) -> Result<ListModelsResponse> {
        let shown = self.platform.models.list(&cx, query(&request.query)?).await?;
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

/// A query that can stand in a URL as it is.
fn query(text: &str) -> Result<&str> {
    let fits = text.len() <= QUERY_BYTES_MAX
        && !text.contains('#')
        && (text.is_empty() || PathAndQuery::try_from(format!("/?{text}")).is_ok());
    if fits { Ok(text) } else { Err(Error::invalid("query", "must be a query string of at most 1024 bytes")) }
}

impl Podium {
    /// The models that a configuration shows, and how good they are.
    async fn models(&self, cx: &Context) -> (Vec<Struct>, &'static str) {
        match self.platform.models.list(cx, "").await {
            Ok(shown) => (shown.list.models.iter().map(carried).collect(), if shown.stale { "stale" } else { "ok" }),
            Err(_said_by_status) => (Vec::new(), "unavailable"),
        }
    }

    /// Takes out of a patch what it says of models as they are shown: a caller may send back what it was given.
    async fn take_out_models(&self, cx: &Context, patch: &mut Map<String, Value>) {
        if !patch.contains_key("models") && !patch.contains_key("models_status") {
            return;
        }
        let (models, status) = self.models(cx).await;
        let models: Vec<Value> = models.into_iter().map(|model| Value::Object(object(Some(model)))).collect();
        for (name, shown) in [("models", Value::Array(models)), ("models_status", status.into())] {
            if patch.get(name) == Some(&shown) {
                patch.shift_remove(name);
            }
        }
    }

    async fn config(&self, cx: &Context, current: &Current) -> Config {
        tagged(cx, current.version);
        // Models come and go without a new version, and who is shown `updated_by` depends on the caller.
        cx.reply.tag_is_partial();
        let (models, models_status) = self.models(cx).await;
        let updated_by = current.updated_by.clone().filter(|_| cx.caller.is_admin());
        let overrides = current.agent_types.iter().filter_map(|(name, value)| Some((name, value.as_object()?)));
        Config {
            version: counted(current.version),
            updated_at: current.updated_at.map(timestamp),
            updated_by,
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
