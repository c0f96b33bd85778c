//! How a bundle is taken in.
//!
//! A newcomer's usual mistake is to expect the name before the file. Fields come in any order, so the bundle is staged,
//! hashed and checked while it arrives, and gets its key once everything is known. Nothing is visible before the last
//! step, and each step before it cleans up when it is dropped.
//!
//! *Knows:* the order of steps and what each failure leaves. *Does not know:* the form that brought the fields.

mod commit;
mod form;

use std::time::Duration;

use futures_util::StreamExt;
use portico_base::{Code, Context, Error, Incoming, Result, Retry, reason};
use portico_port::blobs::{Staged, Staging};
use tokio::time::{Instant, timeout_at};

pub use self::form::Piece;
use self::{commit::Committing, form::Form};
use super::{Deployment, Deployments, claim::Held, inspection::Inspection, name::Name};

/// How long an upload may be silent. Longer silence is an attack, or a caller that is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What a form may have beside the bundle: fields, boundaries, and parts that mean nothing here.
const FORM_BYTES_MAX: u64 = 1 << 20;

/// What came of an upload.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// The deployment.
    pub deployment: Deployment,
    /// Whether it had been stored before, with the same bytes.
    pub existing: bool,
    /// What the uploader should know.
    pub warnings: Vec<String>,
}

/// A bundle that has arrived and is in order.
struct Arrived {
    name: Name,
    staged: Box<dyn Staged>,
    warnings: Vec<String>,
}

/// A bundle that arrives.
struct Arriving {
    staging: Box<dyn Staging>,
    inspection: Inspection,
    bytes: u64,
}

impl Deployments {
    /// Whether a form of so many bytes can hold a bundle that is small enough. Asked before a byte of it is read.
    ///
    /// # Errors
    /// `bundle_too_large`.
    pub fn fits(&self, form_bytes: u64) -> Result<()> {
        let bytes_max = self.bundle_bytes_max();
        if form_bytes > bytes_max.saturating_add(FORM_BYTES_MAX) { Err(too_large(bytes_max)) } else { Ok(()) }
    }

    /// The largest bundle that is taken now: what the operator allows, or less where settings say so.
    fn bundle_bytes_max(&self) -> u64 {
        let allowed = self.0.config.bundle_bytes_max;
        self.0.ground.settings.current().limits().max_bundle_bytes.map_or(allowed, |max| max.min(allowed))
    }

    /// Takes a bundle in. Fields may come in any piece and any order, each once.
    ///
    /// # Errors
    /// The reasons of fields, limits, archive checks, ownership and stores; `version_conflict` when the version exists
    /// with other bytes, `upload_in_progress` when another call uploads it.
    pub async fn upload(&self, cx: &Context, pieces: Incoming<Piece>) -> Result<Uploaded> {
        let (mut form, mut claim) = (Form::default(), None);
        let outcome = match self.receive(cx, pieces, &mut form, &mut claim).await {
            Ok(arrived) => self.store(cx, arrived, &mut claim).await,
            Err(error) => Err(error),
        };
        if let Some(claim) = claim {
            Held::give_free(claim).await;
        }
        // What is written down is noted before a host is waited for.
        self.0.ground.audit.note(cx, "deployment.upload", &form.subject(), &outcome);
        let mut uploaded = outcome?;
        self.place(&mut uploaded).await;
        Ok(uploaded)
    }

    async fn receive(
        &self,
        cx: &Context,
        mut pieces: Incoming<Piece>,
        form: &mut Form,
        claim: &mut Option<Held>,
    ) -> Result<Arrived> {
        let upload_max = self.0.config.upload_max;
        let latest = Instant::now() + upload_max;
        let (mut named, mut arriving) = (None, None);
        while let Some(piece) = timeout_at(latest.min(Instant::now() + SILENCE_MAX), pieces.next())
            .await
            .map_err(|_| too_slow(upload_max))?
        {
            let file = form.take(piece?)?;
            if named.is_none()
                && let Some(name) = form.name()?
            {
                *claim = self.claim(cx, &name).await?;
                named = Some(name);
            }
            if !file.is_empty() {
                let taking = self.take(&mut arriving, named.as_ref(), file);
                match claim {
                    Some(claim) => claim.during(cx, taking).await?,
                    None => taking.await?,
                }
            }
            if let Some(claim) = claim {
                claim.keep(cx).await?;
            }
        }
        form.complete()?;
        let Some(name) = named else { return Err(Error::internal("a complete form has no name")) };
        let Some(Arriving { staging, inspection, .. }) = arriving else { return Err(empty()) };
        let sealing = async move {
            let contents = inspection.finish().await?;
            let staged = staging.seal().await?;
            Ok(Arrived { name, staged, warnings: contents.warnings })
        };
        match claim {
            Some(claim) => claim.during(cx, sealing).await,
            None => sealing.await,
        }
    }

    /// Stages and inspects the next bytes of the file.
    async fn take(&self, arriving: &mut Option<Arriving>, named: Option<&Name>, file: bytes::Bytes) -> Result<()> {
        let arriving = match arriving {
            Some(arriving) => arriving,
            None => {
                let key = named.map(|name| name.blob_key(&self.0.config.environment));
                let staging = self.0.ground.blobs.stage(key.as_deref()).await?;
                arriving.insert(Arriving { staging, inspection: Inspection::begin(), bytes: 0 })
            }
        };
        arriving.bytes += file.len() as u64;
        let bytes_max = self.bundle_bytes_max();
        if arriving.bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        arriving.staging.write(file.clone()).await?;
        arriving.inspection.feed(file).await
    }

    /// Claims the name for this upload, unless it is stored already: then only the bytes have to be compared.
    async fn claim(&self, cx: &Context, name: &Name) -> Result<Option<Held>> {
        self.owner(cx, name).await?;
        if self.0.table.get(&name.record_id()).await?.is_some() {
            return Ok(None);
        }
        let held = Held::take(self, cx, name).await?;
        // Another upload may have ended between the two questions.
        if self.0.table.get(&name.record_id()).await?.is_some() {
            held.give_free().await;
            return Ok(None);
        }
        Ok(Some(held))
    }

    async fn store(&self, cx: &Context, arrived: Arrived, claim: &mut Option<Held>) -> Result<Uploaded> {
        let mut uploaded = Committing { deployments: self, cx, arrived: &arrived }.run(claim).await?;
        uploaded.warnings.extend(arrived.warnings);
        Ok(uploaded)
    }
}

fn too_large(bytes_max: u64) -> Error {
    let message = format!("the bundle is larger than {bytes_max} bytes");
    Error::new(Code::ResourceExhausted, reason::BUNDLE_TOO_LARGE, message).with_fact("limit", bytes_max.to_string())
}

fn too_slow(upload_max: Duration) -> Error {
    let (silence, whole) = (SILENCE_MAX.as_secs(), upload_max.as_secs());
    let message = format!("no byte arrived for {silence} seconds, or the upload took more than {whole}");
    Error::new(Code::DeadlineExceeded, reason::UPLOAD_TIMEOUT, message).retry(Retry::Safe)
}

fn empty() -> Error {
    Error::new(Code::InvalidArgument, reason::EMPTY_BUNDLE, "the bundle is empty")
}
