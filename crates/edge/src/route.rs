//! Finds the route of a path: a tree over the segments of all templates.
//!
//! A newcomer's usual mistake is to decode a path before it is split. Segments are split first and decoded one by one,
//! so that an encoded slash parts nothing; and a colon is only special when what follows it is the verb of a template, so that
//! ids may contain colons.
//!
//! *Knows:* templates, verbs. *Does not know:* methods, what a route leads to.

use std::{borrow::Cow, collections::BTreeMap};

use http::Method;
use percent_encoding::percent_decode_str;
use portico_schema::{Segment, Template, Variable};

/// Most segments in the path of a request. Beyond that nothing is looked up; templates stay far below.
const SEGMENTS_MAX: usize = 256;

/// Room that the paths of templates need, so that splitting one allocates once.
const SEGMENTS_USUAL: usize = 8;

/// Routes by path and verb.
pub struct Router<T> {
    root: Node<T>,
}

/// How a route is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// By this HTTP method.
    Http(Method),
    /// By a WebSocket handshake.
    Socket,
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Match<'r, 'p, T> {
    /// This route.
    Route(&'r T, Segments<'p>),
    /// Routes, but none for this verb.
    Others(Others),
    /// Nothing.
    Nothing,
}

/// The verbs that a path takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// HTTP methods, in alphabetical order.
    pub methods: Vec<Method>,
    /// Whether a WebSocket can be opened.
    pub socket: bool,
}

/// The segments of a matched path, still encoded, without the verb of the template.
#[derive(Debug, PartialEq, Eq)]
pub struct Segments<'p>(Vec<&'p str>);

struct Node<T> {
    /// Few in each node, so that comparing is quicker than hashing.
    literals: BTreeMap<Box<str>, Node<T>>,
    one: Option<Box<Node<T>>>,
    /// Routes that end here.
    ends: Vec<Leaf<T>>,
    /// Routes that take whatever follows.
    rests: Vec<Leaf<T>>,
}

struct Leaf<T> {
    suffix: Option<Box<str>>,
    verb: Verb,
    target: T,
}

struct Search<'s> {
    verb: &'s Verb,
    suffix: Option<&'s str>,
    others: Others,
}

impl<T> Default for Router<T> {
    fn default() -> Router<T> {
        Router { root: Node::empty() }
    }
}

impl<T> Router<T> {
    /// Adds a route. Of two that match the same paths by the same verb, the first one holds.
    pub fn insert(&mut self, verb: Verb, template: &Template, target: T) {
        let suffix = template.verb.as_deref().map(Box::from);
        let leaf = Leaf { suffix, verb, target };
        let mut node = &mut self.root;
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.as_str().into()).or_insert_with(Node::empty),
                Segment::One => node.one.get_or_insert_with(|| Box::new(Node::empty())),
                Segment::Rest => return node.rests.push(leaf),
            };
        }
        node.ends.push(leaf);
    }

    /// Looks a path up. A literal segment is preferred to `*`, and that to `**`.
    pub fn find<'r, 'p>(&'r self, verb: &Verb, path: &'p str) -> Match<'r, 'p, T> {
        let Some(mut segments) = split(path) else { return Match::Nothing };
        let whole = segments.last().copied().unwrap_or_default();
        let mut search = Search { verb, suffix: None, others: Others::default() };
        if let Some((text, suffix)) = whole.rsplit_once(':')
            && !text.is_empty()
        {
            replace_last(&mut segments, text);
            search.suffix = Some(suffix);
            if let Some(target) = self.root.find(&segments, &mut search) {
                return Match::Route(target, Segments(segments));
            }
            replace_last(&mut segments, whole);
            search.suffix = None;
        }
        match self.root.find(&segments, &mut search) {
            Some(target) => Match::Route(target, Segments(segments)),
            None if search.others == Others::default() => Match::Nothing,
            None => {
                search.others.methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
                search.others.methods.dedup();
                Match::Others(search.others)
            }
        }
    }
}

impl Segments<'_> {
    /// The text that a variable captures, decoded; `None` when that is not UTF-8.
    ///
    /// A variable of one segment is decoded as a whole, and so is one that takes whatever follows: makers of clients encode
    /// the slashes of a path that is a parameter, and whoever takes the text judges it as it is then. One with a form of its
    /// own keeps an encoded slash as it is, so that it cannot be taken for a separator.
    pub fn capture(&self, template: &Template, variable: &Variable) -> Option<String> {
        let spanned = &template.segments[variable.start..variable.end];
        let is_open = matches!(spanned.last(), Some(Segment::Rest));
        let end = if is_open { self.0.len() } else { variable.end };
        let captured = self.0.get(variable.start..end)?;
        let is_free = spanned.len() == 1;
        let parts: Option<Vec<String>> = captured
            .iter()
            .map(|part| if is_free { decoded(part).map(Cow::into_owned) } else { decoded_but_slashes(part) })
            .collect();
        parts.map(|parts| parts.join("/"))
    }
}

impl<T> Node<T> {
    fn empty() -> Node<T> {
        Node { literals: BTreeMap::new(), one: None, ends: Vec::new(), rests: Vec::new() }
    }

    fn find(&self, segments: &[&str], search: &mut Search<'_>) -> Option<&T> {
        match segments.split_first() {
            None => {
                if let Some(target) = search.among(&self.ends) {
                    return Some(target);
                }
                // Where the path has a route of its own, `**` stands for what is below it.
                if self.ends.iter().any(|leaf| leaf.suffix.as_deref() == search.suffix) {
                    return None;
                }
            }
            Some((first, rest)) => {
                let literal = if self.literals.is_empty() { None } else { decoded(first) };
                let literal = literal.and_then(|text| self.literals.get(&*text));
                if let Some(target) = literal.and_then(|node| node.find(rest, search)) {
                    return Some(target);
                }
                let one = self.one.as_ref().filter(|_| !first.is_empty());
                if let Some(target) = one.and_then(|node| node.find(rest, search)) {
                    return Some(target);
                }
            }
        }
        search.among(&self.rests)
    }
}

impl Search<'_> {
    fn among<'r, T>(&mut self, leaves: &'r [Leaf<T>]) -> Option<&'r T> {
        for leaf in leaves.iter().filter(|leaf| leaf.suffix.as_deref() == self.suffix) {
            if leaf.verb == *self.verb {
                return Some(&leaf.target);
            }
            match &leaf.verb {
                Verb::Http(method) => self.others.methods.push(method.clone()),
                Verb::Socket => self.others.socket = true,
            }
        }
        None
    }
}

/// Empty segments stay: a path with a slash too many is another path, and only what takes any path takes it.
fn split(path: &str) -> Option<Vec<&str>> {
    let mut segments = Vec::with_capacity(SEGMENTS_USUAL);
    let mut rest = Some(path.strip_prefix('/')?);
    while let Some(path) = rest {
        // Byte by byte: segments are shorter than what a search of text is made for.
        let end = path.bytes().position(|byte| byte == b'/');
        let (segment, after) = end.map_or((path, None), |at| (&path[..at], Some(&path[at + 1..])));
        if segments.len() == SEGMENTS_MAX {
            return None;
        }
        segments.push(segment);
        rest = after;
    }
    Some(segments)
}

fn replace_last<'p>(segments: &mut [&'p str], with: &'p str) {
    if let Some(last) = segments.last_mut() {
        *last = with;
    }
}

fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    // Most segments are plain, and looking is cheaper than decoding.
    if !segment.as_bytes().contains(&b'%') {
        return Some(Cow::Borrowed(segment));
    }
    // It never grows, so the room for it is known.
    let mut text = Vec::with_capacity(segment.len());
    text.extend(percent_decode_str(segment));
    String::from_utf8(text).ok().map(Cow::Owned)
}

fn decoded_but_slashes(segment: &str) -> Option<String> {
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find("%2F").into_iter().chain(rest.find("%2f")).min() {
        text.push_str(&decoded(&rest[..at])?);
        text.push_str(&rest[at..at + 3]);
        rest = &rest[at + 3..];
    }
    text.push_str(&decoded(rest)?);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATES: &[(&str, &str)] = &[
        ("GET", "/v1/things"),
        ("POST", "/v1/things"),
        ("GET", "/v1/things/{id}"),
        ("GET", "/v1/things/new"),
        ("POST", "/v1/things/{id}:stop"),
        ("GET", "/v1/things/{id}/logs"),
        ("GET", "/v1/things/{id}/logs:follow"),
        ("GET", "/v1/things/{id}/files/{path=**}"),
        ("GET", "/v1/things/{id}/notes"),
        ("POST", "/v1/things/{id}/notes/{path=**}"),
        ("GET", "/v1/{name=shelves/*/books/*}"),
        ("SOCKET", "/agent/{id}"),
    ];

    fn router() -> (Router<usize>, Vec<Template>) {
        let mut router = Router::default();
        let templates: Vec<Template> = TEMPLATES.iter().map(|(_, text)| Template::parse(text).unwrap()).collect();
        for (at, (verb, _)) in TEMPLATES.iter().enumerate() {
            router.insert(self::verb(verb), &templates[at], at);
        }
        (router, templates)
    }

    fn verb(name: &str) -> Verb {
        if name == "SOCKET" { Verb::Socket } else { Verb::Http(name.parse().unwrap()) }
    }

    fn look_up(name: &str, path: &str) -> String {
        let (router, templates) = router();
        match router.find(&verb(name), path) {
            Match::Route(at, segments) => {
                let template = &templates[*at];
                let captures = template.variables.iter().map(|variable| segments.capture(template, variable).unwrap());
                format!("{template} {:?}", captures.collect::<Vec<_>>())
            }
            Match::Others(others) => format!("{:?} {}", others.methods, others.socket),
            Match::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn paths_lead_where_their_templates_say() {
        let cases: &[(&str, &str, &str)] = &[
            ("GET", "/v1/things", r#"/v1/things []"#),
            ("GET", "/v1/things/new", r#"/v1/things/new []"#),
            ("GET", "/v1/things/old", r#"/v1/things/{id} ["old"]"#),
            ("GET", "/v1/th%69ngs/old", r#"/v1/things/{id} ["old"]"#),
            ("GET", "/v1/things/claude:1.0.0@2b795103", r#"/v1/things/{id} ["claude:1.0.0@2b795103"]"#),
            ("GET", "/v1/things/claude%3A1.0.0%402b795103", r#"/v1/things/{id} ["claude:1.0.0@2b795103"]"#),
            ("GET", "/v1/things/a%2Fb", r#"/v1/things/{id} ["a/b"]"#),
            ("POST", "/v1/things/a:stop", r#"/v1/things/{id}:stop ["a"]"#),
            ("GET", "/v1/things/a:stop", r#"/v1/things/{id} ["a:stop"]"#),
            ("GET", "/v1/things/a/logs:follow", r#"/v1/things/{id}/logs:follow ["a"]"#),
            ("GET", "/v1/things/a/files/b/c%20d%2Fe:x", r#"/v1/things/{id}/files/{path=**} ["a", "b/c d/e:x"]"#),
            ("GET", "/v1/things/a/files", r#"/v1/things/{id}/files/{path=**} ["a", ""]"#),
            ("GET", "/v1/things/a/files//b/", r#"/v1/things/{id}/files/{path=**} ["a", "/b/"]"#),
            ("GET", "/v1/things/a/files/%2e%2e%2fb", r#"/v1/things/{id}/files/{path=**} ["a", "../b"]"#),
            ("GET", "/v1/things/a/files/%252e", r#"/v1/things/{id}/files/{path=**} ["a", "%2e"]"#),
            ("POST", "/v1/things/a/notes", "[GET] false"),
            ("POST", "/v1/things/a/notes/b", r#"/v1/things/{id}/notes/{path=**} ["a", "b"]"#),
            ("GET", "/v1/shelves/1/books/2%2f3", r#"/v1/{name=shelves/*/books/*} ["shelves/1/books/2%2f3"]"#),
            ("SOCKET", "/agent/a", r#"/agent/{id} ["a"]"#),
            ("DELETE", "/v1/things", "[GET, POST] false"),
            ("DELETE", "/v1/things/a:stop", "[GET, POST] false"),
            ("GET", "/agent/a", "[] true"),
            ("GET", "/v1/things/", "nothing"),
            ("GET", "/v1//things", "nothing"),
            ("GET", "/", "nothing"),
            ("GET", "/v1/things/a/logs:other", "nothing"),
        ];
        for (verb, path, expected) in cases {
            assert_eq!(look_up(verb, path), *expected, "{verb} {path}");
        }
    }
}
