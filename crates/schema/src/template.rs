//! Path templates of google.api.http.
//!
//! The grammar, from google/api/http.proto:
//!
//! ```text
//! Template = "/" Segments [ Verb ] ;
//! Segments = Segment { "/" Segment } ;
//! Segment  = "*" | "**" | LITERAL | Variable ;
//! Variable = "{" FieldPath [ "=" Segments ] "}" ;
//! FieldPath = IDENT { "." IDENT } ;
//! Verb     = ":" LITERAL ;
//! ```
//!
//! *Knows:* the grammar. *Does not know:* which fields exist, or how a request is matched.

use std::fmt;

use super::Defect;

/// Most segments in a template; published pages stay far below.
const SEGMENTS_MAX: usize = 32;

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The segments, with variables opened up.
    pub segments: Vec<Segment>,
    /// Which segments each variable spans, in order of appearance.
    pub variables: Vec<Variable>,
    /// The verb after the last colon, if there is one.
    pub verb: Option<String>,
    text: String,
}

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// Any one segment (`*`).
    One,
    /// Any number of segments (`**`); only last.
    Rest,
}

/// A variable and the segments that it captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The field of the request, for example `agent.id`.
    pub field: String,
    /// The first segment.
    pub start: usize,
    /// One past the last segment.
    pub end: usize,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// When it does not fit the grammar; the message shows the template.
    pub fn parse(text: &str) -> Result<Template, Defect> {
        let defect = |problem: &str| Defect::new(format!("path template {text:?}: {problem}"));
        let rest = text.strip_prefix('/').ok_or_else(|| defect("must begin with /"))?;
        let (path, verb) = split_verb(rest);
        let mut template = Template {
            segments: Vec::new(),
            variables: Vec::new(),
            verb: verb.map(str::to_owned),
            text: text.to_owned(),
        };
        if verb.is_some_and(|verb| verb.is_empty() || verb.contains(['{', '}', '*'])) {
            return Err(defect("the verb must be a literal"));
        }
        for part in split_segments(path) {
            let Some(variable) = part.strip_prefix('{') else {
                template.segments.push(segment(part).map_err(&defect)?);
                continue;
            };
            let variable = variable.strip_suffix('}').ok_or_else(|| defect("a variable must fill its segment"))?;
            let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
            if !is_field_path(field) {
                return Err(defect("a variable must name a field"));
            }
            let start = template.segments.len();
            for part in pattern.split('/') {
                template.segments.push(segment(part).map_err(&defect)?);
            }
            template.variables.push(Variable { field: field.to_owned(), start, end: template.segments.len() });
        }
        let rest_is_last = template.segments.iter().rev().skip(1).all(|segment| *segment != Segment::Rest);
        if !rest_is_last {
            return Err(defect("** may only be the last segment"));
        }
        if template.segments.len() > SEGMENTS_MAX {
            return Err(defect("too many segments"));
        }
        Ok(template)
    }

    /// What two templates share when they match the same paths: the template with its variables' names left out.
    pub fn shape(&self) -> String {
        let mut shape = String::with_capacity(self.text.len());
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Literal(literal) => shape.push_str(literal),
                Segment::One => shape.push('*'),
                Segment::Rest => shape.push_str("**"),
            }
        }
        if let Some(verb) = &self.verb {
            shape.push(':');
            shape.push_str(verb);
        }
        shape
    }
}

/// The template as it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The verb follows the last colon that stands outside of braces and behind the last slash.
fn split_verb(path: &str) -> (&str, Option<&str>) {
    let tail = path.rfind(['/', '}']).map_or(0, |at| at + 1);
    match path[tail..].rfind(':') {
        Some(at) => (&path[..tail + at], Some(&path[tail + at + 1..])),
        None => (path, None),
    }
}

/// Splits at slashes that stand outside of braces.
fn split_segments(path: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'/' if depth == 0 => {
                parts.push(&path[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&path[start..]);
    parts
}

fn segment(part: &str) -> Result<Segment, &'static str> {
    match part {
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        "" => Err("a segment is empty"),
        literal if literal.contains(['{', '}', '*']) => Err("braces and stars must fill their segment"),
        literal => Ok(Segment::Literal(literal.to_owned())),
    }
}

fn is_field_path(path: &str) -> bool {
    path.split('.').all(|part| {
        let mut bytes = part.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_variables_and_finds_the_verb() {
        let template = Template::parse("/v1/{name=shelves/*/books/**}:read").unwrap();
        assert_eq!(template.shape(), "/v1/shelves/*/books/**:read");
        assert_eq!(template.variables, [Variable { field: "name".into(), start: 1, end: 5 }]);
        assert_eq!(template.verb.as_deref(), Some("read"));
        assert_eq!(Template::parse("/a/{b.c}").unwrap().shape(), "/a/*");
    }

    #[test]
    fn refuses_what_the_grammar_does_not_allow() {
        for text in ["a", "/", "/a//b", "/**/a", "/{a", "/a}", "/x{a}", "/{1}", "/{a=}", "/a:", "/{a=**}/b", "/*x"] {
            assert!(Template::parse(text).is_err(), "{text} was taken");
        }
    }
}
