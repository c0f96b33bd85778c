//! Comments of the proto files, by where they stand.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FileDescriptor};

/// Every comment, by file and path.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    pub(super) fn read(pool: &DescriptorPool) -> Comments {
        let mut all = HashMap::new();
        for file in pool.files() {
            let Some(source) = &file.file_descriptor_proto().source_code_info else { continue };
            for location in &source.location {
                if let Some(comment) = &location.leading_comments {
                    all.insert((file.name().to_owned(), location.path.clone()), text(comment));
                }
            }
        }
        Comments(all)
    }

    /// The comment above what stands at this path; empty when there is none.
    pub(super) fn of(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.0.get(&(file.name().to_owned(), path.to_vec())).map_or("", String::as_str)
    }
}

fn text(comment: &str) -> String {
    comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n").trim().to_owned()
}
