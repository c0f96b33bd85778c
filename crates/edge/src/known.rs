//! What a caller has already, by its `If-None-Match` header.
//!
//! *Knows:* lists of tags, weak ones among them. *Does not know:* what a tag is made of.

use http::HeaderValue;

/// Whether what was asked means the answer of this tag (RFC 9110, section 13.1.2).
pub(super) fn means(asked: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(asked), Ok(tag)) = (asked.to_str(), tag.to_str()) else { return false };
    let tag = without_weakness(tag);
    asked.split(',').map(str::trim).any(|one| one == "*" || without_weakness(one) == tag)
}

/// Weak and strong tags of one text mean the same here.
fn without_weakness(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_meant_by_itself_in_a_list_and_by_a_star() {
        let tag = HeaderValue::from_static("\"a\"");
        for (asked, is_meant) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(means(&HeaderValue::from_static(asked), &tag), is_meant, "{asked}");
        }
    }
}
