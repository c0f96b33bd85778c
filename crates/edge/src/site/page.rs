//! How pages look.

use std::collections::HashMap;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) const REFERENCE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Portico API reference</title>
<link rel="stylesheet" href="/docs/api/reference.css">
</head>
<body>
<div id="reference"></div>
<script src="/docs/api/reference.js"></script>
<script src="/docs/api/start.js"></script>
</body>
</html>
"#;

pub(super) const REFERENCE_START: &str = r##"SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"##;

pub(super) const STYLE: &str = "\
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.6 system-ui, sans-serif; color: #1d2330; }
nav { margin-bottom: 2rem; } nav a { margin-right: 1rem; }
a { color: #1a56b0; } h1, h2, h3 { line-height: 1.25; }
code, pre { font: 0.9em/1.5 ui-monospace, monospace; background: #f3f5f9; }
pre { padding: 0.8rem 1rem; overflow-x: auto; } code { padding: 0.1em 0.3em; } pre code { padding: 0; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #d5dbe6; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
td code { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { background: #14171f; color: #dde2ec; } a { color: #8ab4f8; } code, pre { background: #1f2430; }
  th, td { border-color: #39414f; }
}
";

/// Where documents say that the gateway is. A page that it serves itself means itself by that.
const HERE: &str = "http://127.0.0.1:8080";

/// A Markdown document as a page. `name` is its place in the tree; links to other documents work from there.
pub(super) fn document(markdown: &str, name: &str) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let title = markdown.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("Portico");
    let mut events: Vec<_> = Parser::new_ext(markdown, Options::ENABLE_TABLES)
        .map(|event| match event {
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let dest_url = resolved(&dest_url, folder).map_or(dest_url, CowStr::from);
                Event::Start(Tag::Link { link_type, dest_url, title, id })
            }
            other => other,
        })
        .collect();
    name_headings(&mut events);
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    let mut shown_title = String::new();
    html::push_html(&mut shown_title, std::iter::once(Event::Text(title.into())));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{shown_title}</title>\n\
         <link rel=\"stylesheet\" href=\"/docs/style.css\">\n</head>\n<body>\n\
         <nav><a href=\"/docs\">Portico</a><a href=\"/docs/api\">API reference</a></nav>\n{body}</body>\n</html>\n"
    )
}

/// Gives every heading the id that links to it use.
fn name_headings(events: &mut [Event<'_>]) {
    let mut taken: HashMap<String, usize> = HashMap::new();
    for at in 0..events.len() {
        let (before, after) = events.split_at_mut(at + 1);
        let Some(Event::Start(Tag::Heading { id, .. })) = before.last_mut() else { continue };
        let said = after.iter().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
        let text: String = said
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        let name = anchor(&text);
        let times = taken.entry(name.clone()).or_default();
        *id = Some(if *times == 0 { name } else { format!("{name}-{times}") }.into());
        *times += 1;
    }
}

/// A heading's text as a fragment, as the usual viewers of Markdown make it.
fn anchor(text: &str) -> String {
    let kept = text.trim().chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// A relative link as an absolute path below `/docs`, one to this server as a path; `None` for links that go elsewhere.
fn resolved(link: &str, folder: &str) -> Option<String> {
    if let Some(path) = link.strip_prefix(HERE) {
        return Some(path.to_owned());
    }
    if link.starts_with(['/', '#']) || link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(format!("/docs/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_documents_work_from_where_they_stand() {
        assert_eq!(resolved("../glossary.md#key", "guides"), Some("/docs/glossary.md#key".to_owned()));
        assert_eq!(resolved("quickstart.md", "guides"), Some("/docs/guides/quickstart.md".to_owned()));
        assert_eq!(resolved("https://example.com", ""), None);
        assert_eq!(resolved("http://127.0.0.1:8080/docs/api", "guides"), Some("/docs/api".to_owned()));
    }

    #[test]
    fn headings_have_the_names_that_links_use() {
        let page = document("# A `b`: c & d\n\n## Again\n\n## Again\n\n## Ä_ö-ü?\n", "a.md");
        for id in ["a-b-c--d", "again", "again-1", "ä_ö-ü"] {
            assert!(page.contains(&format!(" id=\"{id}\"")), "{id} in {page}");
        }
    }
}
