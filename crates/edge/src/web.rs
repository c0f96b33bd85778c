//! What is not an RPC: the site's few pages first, then REST, event streams and sockets.

use http::{Response, StatusCode, request::Parts};
use portico_base::{Code, Error, RequestId, reason};
use portico_gate::{Door, Peer, Stray};
use portico_schema::Dialect;
use portico_wire::BoxFuture;

use super::{Body, Rest, Site, Web, unread};

/// The site, and REST behind it.
pub struct Pages {
    site: Site,
    rest: Rest,
}

impl Pages {
    /// The site before these routes.
    pub fn new(site: Site, rest: Rest) -> Pages {
        Pages { site, rest }
    }
}

impl Web for Pages {
    fn call(&self, head: Box<Parts>, body: Body, peer: Peer, id: RequestId) -> BoxFuture<Response<Body>> {
        match self.site.answer(&head) {
            Some(page) if page.status() == StatusCode::METHOD_NOT_ALLOWED => {
                let error = Error::new(Code::Unimplemented, reason::METHOD_NOT_ALLOWED, "a page is only read");
                let stray = Stray { door: Door::Rest, method: "", id: &id, peer: &peer, error: &error };
                Box::pin(shown(self.rest.recorded(&stray, page.map(Body::from)), body))
            }
            Some(page) => Box::pin(shown(page.map(Body::from), body)),
            None => self.rest.call(head, body, peer, id),
        }
    }

    fn dialect(&self) -> Dialect {
        self.rest.dialect()
    }
}

/// A page, once the request for it has ended. Who asks for one with a body that breaks gets the page all the same.
async fn shown(page: Response<Body>, mut asked: Body) -> Response<Body> {
    let _broken = unread::ended(&mut asked).await.is_err();
    page
}
