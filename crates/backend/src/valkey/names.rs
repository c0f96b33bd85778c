//! What keys are called, so that an operator finds in the server what the facts of the platform call it.
//!
//! A newcomer's usual mistake is to touch two names in one script and forget clusters, which keep names apart unless they
//! share a hash tag. On a cluster the shared part of such names stands in braces; elsewhere there are none.
//!
//! *Knows:* names. *Does not know:* what is kept under them.

/// Names of keys. Cheap to copy.
#[derive(Clone, Copy)]
pub(super) struct Names {
    tagged: bool,
}

impl Names {
    pub(super) fn new(cluster: bool) -> Names {
        Names { tagged: cluster }
    }

    /// The ids of everything of this kind: `podium:coordinators`.
    pub(super) fn kind(self, kind: &str) -> String {
        self.tag(&format!("podium:{kind}"))
    }

    /// What one of them says: `podium:coordinators:{id}`.
    pub(super) fn announcement(self, kind: &str, id: &str) -> String {
        format!("{}:{id}", self.kind(kind))
    }

    /// The places that are reserved with it, by when each is forgotten: `podium:coordinators:{id}:pending`.
    pub(super) fn pending(self, kind: &str, id: &str) -> String {
        format!("{}:{id}:pending", self.kind(kind))
    }

    /// Which of its lives it announced last: `podium:coordinators:{id}:epoch`.
    pub(super) fn epoch(self, kind: &str, id: &str) -> String {
        format!("{}:{id}:epoch", self.kind(kind))
    }

    /// The channel that is told who comes and goes: `podium:events:coordinators`. Clusters tell every member.
    pub(super) fn events(self, kind: &str) -> String {
        format!("podium:events:{kind}")
    }

    /// When the bucket is full again: `podium:ratelimit:{key}:{bucket}`.
    pub(super) fn bucket(self, bucket: &str, key: &str) -> String {
        format!("podium:ratelimit:{key}:{bucket}")
    }

    /// The messages of a topic: `podium:bus:{topic}`. All topics share a tag: one command reads them all.
    pub(super) fn topic(self, topic: &str) -> String {
        format!("{}:{topic}", self.tag("podium:bus"))
    }

    fn tag(self, name: &str) -> String {
        if self.tagged { format!("{{{name}}}") } else { name.to_owned() }
    }
}
