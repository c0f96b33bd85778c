//! Blobs in an S3 bucket, of Amazon or any other maker.
//!
//! A newcomer's usual mistake is to look for a rename. S3 has none, and what is known only at the end (the digest, often the
//! key) has to be said at the beginning. A small object therefore waits in memory and is put whole; a large one is a
//! multipart upload under its own key, which nobody sees before it is completed, and what is known of it then lies beside
//! it. `docs/decisions/0006-staging-on-s3.md` has the reasons.
//!
//! ```text
//! {prefix}{key}               the object, with its SHA-256 in its metadata, or with the name of what tells of it
//! {prefix}.about/{key}/{id}   what is known of a large object, as JSON
//! {prefix}.staging/{id}       a large object whose key is not known yet
//! ```
//!
//! *Knows:* the blobs port, S3. *Does not know:* what an object means.

mod about;
mod commit;
mod failure;
mod read;
mod staging;
mod strays;
mod upload;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{Credentials, RequestChecksumCalculation, ResponseChecksumValidation},
    types::ServerSideEncryption,
};
use portico_base::{Clock, Error, Secret, health::Health, tasks::Tasks};
use portico_port::{
    Answer,
    blobs::{Blob, Blobs, Head, Listed, Range, Staging},
};
use tokio::{sync::Semaphore, time::timeout};

/// Most objects staged at the same time. Each holds up to three parts of 8 MiB in memory.
const STAGINGS_MAX: usize = 16;
/// How long a new object waits for a place among those.
const STAGE_WAIT: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long a small question may take with all its attempts, and how long one of them.
const QUESTION_WAIT: Duration = Duration::from_secs(5);
const QUESTION_ATTEMPT_WAIT: Duration = Duration::from_secs(2);
/// How long moving or joining bytes may take with all its attempts, and how long one of them: a part over a slow line.
const BULK_WAIT: Duration = Duration::from_secs(60);
const BULK_ATTEMPT_WAIT: Duration = Duration::from_secs(30);
/// How often a request is sent at most. Each can be repeated: parts and puts are the same each time.
const ATTEMPTS_MAX: u32 = 3;
/// How long a health question may take before the store counts as down.
const HEALTH_WAIT: Duration = Duration::from_secs(2);

/// Which bucket, and how it is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or ending with a slash.
    pub prefix: String,
    /// What keys begin with that this installation stores objects under; others may use the bucket too.
    pub own: String,
    /// Where the store answers, if it is not Amazon's. Keys then follow the bucket in the path.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Access key id and secret. Without them they come from where AWS programs look: variables, profiles, the machine.
    pub credentials: Option<(String, Secret)>,
    /// How the store encrypts objects, if it is to be told.
    pub encryption: Option<Encryption>,
}

/// How the store encrypts objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With a key of its own.
    Aes256,
    /// With a key of AWS KMS: this one, or the account's default.
    Kms(Option<String>),
}

/// Objects in a bucket. Cheap to clone.
#[derive(Clone)]
pub struct S3(Arc<Inner>);

struct Inner {
    /// For small questions.
    client: Client,
    /// For moving and joining bytes.
    bulk: Client,
    bucket: String,
    prefix: String,
    own: String,
    encryption: Option<Encryption>,
    stagings: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// Whether the store creates on condition. Some makers do not.
    is_conditional: AtomicBool,
}

impl S3 {
    /// Prepares to use the bucket and begins to abort strays. The store need not answer yet.
    pub async fn open(options: Options, clock: Arc<dyn Clock>, tasks: &Tasks) -> S3 {
        let s3 = S3::open_to_read(options, clock, tasks).await;
        let sweeping = s3.clone();
        tasks.spawn(async move {
            let closing = sweeping.0.tasks.closing_token();
            tokio::select! {
                () = closing.cancelled() => {}
                () = sweeping.sweep() => {}
            }
        });
        s3
    }

    /// The same for a process that stores nothing: what lies about is not its own.
    pub async fn open_to_read(options: Options, clock: Arc<dyn Clock>, tasks: &Tasks) -> S3 {
        let (client, bulk) = clients(&options).await;
        S3(Arc::new(Inner {
            client,
            bulk,
            bucket: options.bucket,
            prefix: options.prefix,
            own: options.own,
            encryption: options.encryption,
            stagings: Arc::new(Semaphore::new(STAGINGS_MAX)),
            clock,
            tasks: tasks.clone(),
            is_conditional: AtomicBool::new(true),
        }))
    }

    /// The name of a key in the bucket.
    fn at(&self, key: &str) -> String {
        format!("{}{key}", self.0.prefix)
    }

    /// The condition under which a key is created, where the store knows it.
    fn only_if_absent(&self) -> Option<String> {
        self.0.is_conditional.load(Ordering::Relaxed).then(|| "*".to_owned())
    }

    /// The store took without the condition what it had refused with it, as something that it does not implement. So the
    /// condition is not sent again: whether a key is taken is then only asked before, and the claim on a name does the rest.
    fn does_without_condition(&self) {
        if self.0.is_conditional.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "the blob store knows no conditional writes; whether a key is taken is asked before each write"
            );
        }
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.0.encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms(key_id)) => (Some(ServerSideEncryption::AwsKms), key_id.clone()),
        }
    }
}

impl Blobs for S3 {
    fn stage<'a>(&'a self, key: Option<&'a str>) -> Answer<'a, Box<dyn Staging>> {
        Box::pin(async move {
            let waited = timeout(STAGE_WAIT, Arc::clone(&self.0.stagings).acquire_owned());
            let place = waited.await.map_err(|_| failure::busy(STAGE_WAIT))?.map_err(Error::internal)?;
            Ok(Box::new(staging::Arriving::begin(self.clone(), key, place)?) as Box<dyn Staging>)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Head>> {
        Box::pin(self.look(key))
    }

    fn get<'a>(&'a self, key: &'a str, range: Range) -> Answer<'a, Option<Blob>> {
        Box::pin(self.read(key, range))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<Listed>> {
        Box::pin(self.keys(prefix, after, limit))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        Box::pin(self.remove(key))
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async move {
            let asked = timeout(HEALTH_WAIT, self.0.client.head_bucket().bucket(&self.0.bucket).send());
            Ok(match asked.await {
                Ok(Ok(_)) => Health::OK,
                Ok(Err(error)) => Health::down(failure::of("be asked", error).message().to_owned()),
                Err(_elapsed) => Health::down("the blob store does not answer in time"),
            })
        })
    }
}

/// One client for small questions and one for bytes. They share connections.
async fn clients(options: &Options) -> (Client, Client) {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(options.region.clone()))
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX));
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((id, secret)) = &options.credentials {
        let credentials = Credentials::new(id, secret.reveal(), None, None, "the configuration");
        loader = loader.credentials_provider(credentials);
    }
    let loaded = loader.load().await;
    let client = |attempt, whole| {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_WAIT).operation_attempt_timeout(attempt);
        // Requests are signed over their bytes, and objects carry their SHA-256; checksums of other kinds are known to few
        // makers and would be computed for nothing.
        let config = aws_sdk_s3::config::Builder::from(&loaded)
            .timeout_config(timeouts.operation_timeout(whole).build())
            .force_path_style(options.endpoint.is_some())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        Client::from_conf(config.build())
    };
    (client(QUESTION_ATTEMPT_WAIT, QUESTION_WAIT), client(BULK_ATTEMPT_WAIT, BULK_WAIT))
}
