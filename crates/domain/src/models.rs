//! The models that agents can use: asked for once a minute, shown to everybody.
//!
//! A newcomer's usual mistake is to ask for every caller. A question is under way once at a time; whoever has the same one
//! meanwhile gets its answer, good or bad, and while the catalog is away the last good answer is shown for ten minutes,
//! marked as stale.
//!
//! *Knows:* how long a list is good, the three shapes it comes in. *Does not know:* Ensemble, the fields of a model.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use portico_base::{Code, Context, Error, Reason, Result, Retry, reason, tasks::Tasks};
use portico_port::catalog::{Catalog, Document};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};

/// How long a list is shown without asking again.
const FRESH: Duration = Duration::from_secs(60);
/// How old a list may be that is shown because the catalog does not answer.
const STALE_MAX: Duration = Duration::from_secs(600);
/// How long a caller waits for the catalog when there is a good list, though no fresh one. The catalog is waited for all the same.
const STALE_WAIT: Duration = Duration::from_secs(1);
/// How long a failure is the answer to everybody, so that a catalog in trouble is not pressed.
const FAILURE_KEPT: Duration = Duration::from_secs(2);
/// Most questions whose answers are kept besides that for all models, which is: an answer may take megabytes, and callers
/// choose what they ask.
const QUERIES_MAX: usize = 16;

/// The models. Cheap to clone.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

struct Inner {
    catalog: Option<Arc<dyn Catalog>>,
    tasks: Tasks,
    all: Arc<Question>,
    /// By query, with when it was last asked.
    others: Mutex<HashMap<String, (Arc<Question>, Instant)>>,
}

/// What is known of the answer to one question.
#[derive(Default)]
struct Question {
    known: Mutex<Known>,
    /// Held while the catalog is asked.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    list: Option<(Arc<List>, Instant)>,
    failure: Option<(Failure, Instant)>,
}

/// The parts of an error that can be shown to several callers.
#[derive(Clone)]
struct Failure {
    code: Code,
    reason: Reason,
    message: String,
    retry: Retry,
    report: String,
}

/// The models of one answer.
#[derive(Debug, PartialEq)]
pub struct List {
    /// The models with all their fields.
    pub models: Vec<Map<String, Value>>,
    /// The answer, an object with the models in it.
    pub document: Bytes,
    /// Its media type.
    pub content_type: String,
    /// Differs when the document does.
    pub tag: String,
}

/// What is known of the models at this moment.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The models.
    pub list: Arc<List>,
    /// How old the list is.
    pub age: Duration,
    /// Whether it is shown because the catalog does not answer.
    pub stale: bool,
}

impl Models {
    /// The models of this catalog; none if there is none.
    pub fn new(catalog: Option<Arc<dyn Catalog>>, tasks: Tasks) -> Models {
        Models(Arc::new(Inner { catalog, tasks, all: Arc::default(), others: Mutex::default() }))
    }

    /// The models that this query string asks for; all of them when it is empty.
    ///
    /// # Errors
    /// `ensemble_not_configured`, or what the catalog says, when nothing good enough is known.
    pub async fn list(&self, cx: &Context, query: &str) -> Result<Shown> {
        let Some(catalog) = &self.0.catalog else {
            let message = "no Ensemble address is configured";
            return Err(Error::new(Code::Unavailable, reason::ENSEMBLE_NOT_CONFIGURED, message));
        };
        let question = self.0.question(query);
        if let Some(shown) = question.fresh() {
            return Ok(shown);
        }
        let Some(stale) = question.stale() else {
            return question.asked(&**catalog, cx, query).await;
        };
        if question.asking.try_lock().is_err() {
            // Somebody has it asked already.
            return timeout(STALE_WAIT, question.asked(&**catalog, cx, query)).await.unwrap_or(Ok(stale));
        }
        let (catalog, cx, query) = (Arc::clone(catalog), cx.clone(), query.to_owned());
        let asked = self.0.tasks.spawn(async move { question.asked(&*catalog, &cx, &query).await });
        match timeout(STALE_WAIT, asked).await {
            Ok(Ok(shown)) => shown,
            // Not yet, or never because the house closes.
            Err(_) | Ok(Err(_)) => Ok(stale),
        }
    }
}

impl Inner {
    /// The question that this query is. The one that was asked longest ago makes room.
    fn question(&self, query: &str) -> Arc<Question> {
        if query.is_empty() {
            return Arc::clone(&self.all);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if !others.contains_key(query)
            && others.len() >= QUERIES_MAX
            && let Some(oldest) = others.iter().min_by_key(|(_, (_, at))| *at).map(|(query, _)| query.clone())
        {
            others.remove(&oldest);
        }
        let (question, at) = others.entry(query.to_owned()).or_insert_with(|| (Arc::default(), Instant::now()));
        *at = Instant::now();
        Arc::clone(question)
    }
}

impl Question {
    /// The list, asked for if it is not fresh by then. Who comes meanwhile waits for the same answer.
    async fn asked(&self, catalog: &dyn Catalog, cx: &Context, query: &str) -> Result<Shown> {
        let _asking = self.asking.lock().await;
        // Somebody may have asked while this caller waited, or a moment before.
        if let Some(shown) = self.fresh() {
            return Ok(shown);
        }
        if let Some(failure) = self.failure() {
            return self.stale().ok_or_else(|| failure.again());
        }
        match catalog.models(cx, query).await.and_then(read) {
            Ok(list) => Ok(self.learned(list)),
            Err(error) => {
                self.failed(&error);
                self.stale().ok_or(error)
            }
        }
    }

    fn fresh(&self) -> Option<Shown> {
        self.shown(FRESH, false)
    }

    fn stale(&self) -> Option<Shown> {
        self.shown(STALE_MAX, true)
    }

    fn shown(&self, age_max: Duration, stale: bool) -> Option<Shown> {
        let (list, at) = self.known(|known| known.list.clone())?;
        let age = at.elapsed();
        (age < age_max).then_some(Shown { list, age, stale })
    }

    fn failure(&self) -> Option<Failure> {
        let (failure, at) = self.known(|known| known.failure.clone())?;
        (at.elapsed() < FAILURE_KEPT).then_some(failure)
    }

    fn learned(&self, list: List) -> Shown {
        let list = Arc::new(list);
        self.known(|known| *known = Known { list: Some((Arc::clone(&list), Instant::now())), failure: None });
        Shown { list, age: Duration::ZERO, stale: false }
    }

    fn failed(&self, error: &Error) {
        let failure = Failure {
            code: error.code(),
            reason: error.reason(),
            message: error.message().to_owned(),
            retry: error.retry_hint(),
            report: error.report(),
        };
        self.known(|known| known.failure = Some((failure, Instant::now())));
    }

    /// What this lock guards is whole after every statement, so a poisoned lock is still good.
    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Failure {
    fn again(self) -> Error {
        Error::new(self.code, self.reason, self.message).retry(self.retry).caused_by(self.report)
    }
}

/// Half of a SHA-256 as hex: no two lists that differ ever share it by chance.
fn tag(document: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, document);
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `{"models": […]}`, `{"data": […]}` or a bare array, which becomes the first form.
fn read(document: Document) -> Result<List> {
    let unreadable = |why: String| {
        let message = "Ensemble's answer is not a list of models";
        Error::new(Code::Unavailable, reason::ENSEMBLE_BAD_RESPONSE, message).caused_by(why)
    };
    let value: Value = serde_json::from_slice(&document.body).map_err(|error| unreadable(error.to_string()))?;
    let (models, body) = match value {
        Value::Array(models) => {
            let body = Bytes::from([b"{\"models\":", &document.body[..], b"}"].concat());
            (models, body)
        }
        Value::Object(mut object) => match object.remove("models").or_else(|| object.remove("data")) {
            Some(Value::Array(models)) => (models, document.body),
            _ => return Err(unreadable("neither models nor data".to_owned())),
        },
        _ => return Err(unreadable("neither an object nor an array".to_owned())),
    };
    let models = models.into_iter().map(|model| match model {
        Value::Object(model) => Ok(model),
        _ => Err(unreadable("a model is not an object".to_owned())),
    });
    let models = models.collect::<Result<_>>()?;
    Ok(List { models, tag: tag(&body), document: body, content_type: document.content_type })
}
