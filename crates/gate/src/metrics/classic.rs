//! The metrics in the text format that came before OpenMetrics, which every scraper reads.
//!
//! A newcomer's usual mistake is to send OpenMetrics to everybody. The older format names a counter by its samples, has no
//! type for what only informs, and takes a closing line for a comment at best.
//!
//! *Knows:* both formats, line by line. *Does not know:* metrics.

/// Rewrites the registry's text.
pub(super) fn text(open: &str) -> String {
    let mut classic = String::with_capacity(open.len());
    // What is said of a metric comes before its type, which decides its name.
    let mut help = None;
    for line in open.lines() {
        match line.strip_prefix("# ").and_then(|said| said.split_once(' ')) {
            Some(("HELP", said)) => help = said.split_once(' '),
            Some(("TYPE", said)) => {
                let (name, kind) = said.split_once(' ').unwrap_or((said, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                if let Some((_, text)) = help.take_if(|(of, _)| *of == name) {
                    push(&mut classic, &["# HELP ", name, suffix, " ", text]);
                }
                push(&mut classic, &["# TYPE ", name, suffix, " ", kind]);
            }
            Some(("UNIT", _)) => {}
            _ if line == "# EOF" => {}
            _ => push(&mut classic, &[line]),
        }
    }
    classic
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}
