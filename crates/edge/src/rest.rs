//! REST: a verb and a path become a call of a method, its answer becomes JSON.
//!
//! A newcomer's usual mistake is to add a route. Routes come from the proto files; this door reads them from the schema
//! and calls the same handlers as every other door, in process.
//!
//! ```text
//!   find the route          404 405 426 leave here
//!   ask the gate            400 401 403 429 503 leave here, before a byte of the body is read
//!   bind the request        400 413 415 422 leave here      bind.rs  multipart.rs  raw.rs
//!   call the handler        call.rs
//!   render the answer       render.rs  ../sse.rs  ../ndjson.rs      errors: ../dialect.rs
//! ```
//!
//! *Knows:* the order of these steps. *Does not know:* any method.

mod bind;
mod call;
mod inlet;
mod multipart;
mod plan;
mod raw;
mod render;

pub(super) use bind::{Message, unfit};
pub(super) use render::beside;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use portico_base::{Code, Deadline, Error, RequestId, Result, reason, tasks::Tasks};
use portico_gate::{Admission, Admit, Door, Head, Peer, Refusal, Stray};
use portico_schema::{Defect, Dialect, Schema, Surface};
use portico_wire::{BoxFuture, Handlers};

use self::{inlet::Inlet, plan::Plan};
use super::{
    Body, Web, dialect,
    route::{Match, Others, Router, Segments, Verb},
    socket::{self, Sockets},
    stack::recorded,
};

/// The REST door, with event streams and sockets. Cheap to clone.
#[derive(Clone)]
pub struct Rest(Arc<Doors>);

struct Doors {
    router: Router<Target>,
    admit: Arc<dyn Admit>,
    tasks: Tasks,
    stranger: &'static Surface,
}

enum Target {
    Call(Plan),
    Socket(socket::Plan),
}

impl Rest {
    /// The door to these methods. What belongs to no page is printed as `stranger` prints.
    ///
    /// # Errors
    /// When a route cannot be served as its proto file says; the message names the method.
    pub fn new(
        schema: &Schema,
        handlers: &Handlers,
        admit: Arc<dyn Admit>,
        tasks: Tasks,
        stranger: &'static Surface,
    ) -> Result<Rest, Defect> {
        let mut router = Router::default();
        for method in schema.methods() {
            let handler = handlers.get(method.path);
            for (at, binding) in method.bindings.iter().enumerate() {
                let plan = Plan::new(schema, method, at, handler)?;
                router.insert(Verb::Http(binding.verb.clone()), &binding.template, Target::Call(plan));
            }
            if let Some(socket) = &method.socket {
                let plan = socket::Plan::new(schema, method, socket, handler)?;
                router.insert(Verb::Socket, &socket.template, Target::Socket(plan));
            }
        }
        Ok(Rest(Arc::new(Doors { router, admit, tasks, stranger })))
    }
}

impl Rest {
    /// Records a refusal that was answered in front of this door.
    pub(super) fn recorded(&self, stray: &Stray<'_>, answer: Response<Body>) -> Response<Body> {
        recorded(&*self.0.admit, stray, answer)
    }
}

impl Web for Rest {
    fn call(&self, head: Box<Parts>, body: Body, peer: Peer, id: RequestId) -> BoxFuture<Response<Body>> {
        Box::pin(Arc::clone(&self.0).answer(head, body, peer, id))
    }

    fn dialect(&self) -> Dialect {
        self.0.stranger.dialect
    }
}

impl Doors {
    async fn answer(self: Arc<Self>, mut head: Box<Parts>, body: Body, peer: Peer, id: RequestId) -> Response<Body> {
        let mut inlet = Inlet::new(body);
        let path = head.uri.path().to_owned();
        let verb = match &head.method {
            _ if socket::is_asked(&head) => Verb::Socket,
            // HEAD is GET without the body.
            &Method::HEAD => Verb::Http(Method::GET),
            method => Verb::Http(method.clone()),
        };
        let mut found = self.router.find(&verb, &path);
        if verb == Verb::Socket && !matches!(found, Match::Route(..)) {
            // Asking for an upgrade does not oblige a server; the same path may have an ordinary answer.
            found = self.router.find(&Verb::Http(head.method.clone()), &path);
        }
        if matches!(found, Match::Others(_) | Match::Nothing) {
            // Whatever came with it, the answer is the same.
            let _broken = inlet.ended().await.is_err();
        }
        match found {
            Match::Route(Target::Call(plan), segments) => self.call(plan, &segments, head, &mut inlet, peer, &id).await,
            Match::Route(Target::Socket(plan), segments) => {
                let dialect = plan.method.surface.dialect;
                let sockets = Sockets { admit: &*self.admit, tasks: &self.tasks };
                // Boxed, so that every other call does not carry room for it.
                let result = Box::pin(sockets.open(plan, &segments, &mut head, peer.clone(), &id)).await;
                result.unwrap_or_else(|error| {
                    let (door, method) = (Door::Socket, plan.method.path);
                    self.refuse(&Stray { door, method, id: &id, peer: &peer, error: &error }, dialect)
                })
            }
            Match::Others(others) => match self.socket(&path, &head.method, &others) {
                Some(plan) => {
                    let sockets = Sockets { admit: &*self.admit, tasks: &self.tasks };
                    let mut refusal = Box::pin(sockets.turn_away(plan, &mut head, peer, &id)).await;
                    refusal.headers_mut().extend(told(&others));
                    refusal
                }
                None => elsewhere(&head.method, &others).unwrap_or_else(|error| {
                    let stray = Stray { door: Door::Rest, method: "", id: &id, peer: &peer, error: &error };
                    self.refuse(&stray, self.stranger.dialect)
                }),
            },
            Match::Nothing => {
                let error = Error::new(Code::NotFound, reason::NO_SUCH_ROUTE, "no route has this path");
                let stray = Stray { door: Door::Rest, method: "", id: &id, peer: &peer, error: &error };
                self.refuse(&stray, self.stranger.dialect)
            }
        }
    }

    /// The socket that a plain GET stands in front of, where it leads nowhere else.
    fn socket(&self, path: &str, asked: &Method, others: &Others) -> Option<&socket::Plan> {
        if !others.socket || asked != Method::GET {
            return None;
        }
        match self.router.find(&Verb::Socket, path) {
            Match::Route(Target::Socket(plan), _) => Some(plan),
            _ => None,
        }
    }

    /// Refuses what is no call.
    fn refuse(&self, stray: &Stray<'_>, dialect: Dialect) -> Response<Body> {
        recorded(&*self.admit, stray, dialect::render(stray.error, dialect, stray.id))
    }

    async fn call(
        &self,
        plan: &Plan,
        segments: &Segments<'_>,
        mut head: Box<Parts>,
        inlet: &mut Inlet,
        peer: Peer,
        id: &RequestId,
    ) -> Response<Body> {
        let headers = std::mem::take(&mut head.headers);
        let request = plan.read_head(&head, &headers, id);
        let asked = render::Asked::of(&head, &headers);
        let (door, deadline) = (plan.door(&request), Deadline::NONE);
        let authority = head.uri.authority().cloned();
        let entering = Head { headers, authority, peer, door, id: id.clone(), deadline, bearer: None };
        let admission = self.admit.admit(Arc::clone(&plan.method), entering);
        let Admission { context, entry } = match admission.await {
            Ok(admission) => admission,
            Err(Refusal { error, entry }) => {
                let refusal = dialect::render(&error, plan.method.surface.dialect, id);
                return refusal.map(|body| body.refused_by(entry));
            }
        };
        inlet.metered(entry.clone());
        let reply = context.reply.clone();
        let exchanged = plan.exchange(segments, &request, &asked, inlet, context, &reply, &entry, &self.tasks).await;
        let mut response = exchanged.unwrap_or_else(|error| {
            entry.fail(&error);
            // Rendered here, so that its bytes are counted like those of every answer.
            let mut refusal = dialect::render(&error, plan.method.surface.dialect, id);
            render::beside(&mut refusal, reply.take());
            refusal
        });
        response.body_mut().sent_by(entry);
        response
    }
}

/// The answer for a path that takes other verbs.
///
/// # Errors
/// The refusal, unless the verbs themselves were asked for.
fn elsewhere(asked: &Method, others: &Others) -> Result<Response<Body>> {
    if *asked == Method::OPTIONS {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        *answer.headers_mut() = told(others);
        return Ok(answer);
    }
    let error = Error::new(Code::Unimplemented, reason::METHOD_NOT_ALLOWED, "the path does not take this method");
    Err(error.with_metadata(told(others)))
}

fn told(others: &Others) -> HeaderMap {
    HeaderValue::try_from(allowed(others)).map(|allowed| (header::ALLOW, allowed)).into_iter().collect()
}

fn allowed(others: &Others) -> String {
    let mut names: Vec<&str> = others.methods.iter().map(Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    // A handshake is a GET, and has nothing that could be asked for without it.
    if others.socket {
        names.push("GET");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
