//! Field masks as text: `user.displayName,photo` stands for `user.display_name` and `photo`.
//!
//! A newcomer would convert and hope: a path that does not come back from its camelCase form as it was is refused, or the
//! mask would name another field on the other side.
//!
//! Knows: the two spellings. Does not know: whether a field exists.

use crate::error::Refusal;

/// The proto paths of a mask in JSON's spelling, one by one.
pub(crate) fn read(text: &str, mut path: impl FnMut(&str)) -> Result<(), Refusal> {
    if text.is_empty() {
        return Ok(());
    }
    let mut snake = String::new();
    for camel in text.split(',') {
        snake.clear();
        for c in camel.chars() {
            match c {
                'A'..='Z' => snake.extend(['_', c.to_ascii_lowercase()]),
                'a'..='z' | '0'..='9' | '.' => snake.push(c),
                _ => return Err("a path of the field mask is not in lowerCamelCase".into()),
            }
        }
        if camel.split('.').any(str::is_empty) {
            return Err("a path of the field mask has an empty part".into());
        }
        path(&snake);
    }
    Ok(())
}

/// One proto path in JSON's spelling.
pub(crate) fn write(path: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut after_underscore = false;
    for byte in path.bytes() {
        match (byte, after_underscore) {
            (b'a'..=b'z', true) => out.push(byte.to_ascii_uppercase()),
            (b'a'..=b'z' | b'0'..=b'9' | b'.', false) => out.push(byte),
            (b'_', false) => {}
            _ => return Err("a path of the field mask has no lowerCamelCase form that leads back to it".into()),
        }
        after_underscore = byte == b'_';
    }
    if after_underscore || path.split('.').any(str::is_empty) {
        return Err("a path of the field mask has no lowerCamelCase form that leads back to it".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_both_ways_or_nowhere() {
        for (snake, camel) in [("foo_bar", "fooBar"), ("a.b_c", "a.bC"), ("foo3", "foo3"), ("_a", "A")] {
            let mut out = Vec::new();
            write(snake, &mut out).unwrap();
            assert_eq!(out, camel.as_bytes());
            let mut back = Vec::new();
            read(camel, |path| back.push(path.to_owned())).unwrap();
            assert_eq!(back, [snake]);
        }
        for snake in ["fooBar", "foo_3_bar", "foo__bar", "foo_", "", "a..b", "a b"] {
            assert!(write(snake, &mut Vec::new()).is_err(), "{snake}");
        }
        for camel in ["foo_bar", "a,,b", "a.", "a b", "é"] {
            assert!(read(camel, |_| {}).is_err(), "{camel}");
        }
    }
}
