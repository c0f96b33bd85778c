//! Turns proto files into what needs a Rust type: messages, one trait and one mount per service, and the raw schema.
//!
//! A newcomer's usual mistake is to look for routes, JSON or OpenAPI here. Those are derived from the schema when the
//! gateway starts; generating them would only make builds slow and give the same fact two places.
//!
//! *Knows:* protox, prost, the access rule that every method must state. *Does not know:* what any method means.

mod redact;
mod service;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_reflect::DescriptorPool;

/// What went wrong, for the build log.
pub type Error = Box<dyn std::error::Error>;

/// A compilation of proto files into the build's output folder.
#[derive(Clone, Debug)]
pub struct Compilation {
    includes: Vec<PathBuf>,
    files: Vec<PathBuf>,
    access_required: bool,
}

impl Compilation {
    /// All `.proto` files below `root`, which is also where imports are looked up.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn tree(root: impl AsRef<Path>) -> Result<Compilation, Error> {
        let root = root.as_ref();
        let mut files = Vec::new();
        collect(root, &mut files)?;
        files.sort();
        Ok(Compilation { includes: vec![root.to_owned()], files, access_required: true })
    }

    /// Only these files; imports are looked up in `includes`. Their methods need no access rule.
    pub fn foreign(includes: Vec<PathBuf>, files: Vec<PathBuf>) -> Compilation {
        Compilation { includes, files, access_required: false }
    }

    /// Writes `schema.bin` (the raw descriptor set, custom options included) and `messages.rs` into cargo's `OUT_DIR`.
    ///
    /// # Errors
    /// When a file does not compile, or a method states no access rule; the message names file and method.
    #[expect(clippy::disallowed_methods, reason = "cargo hands a build script its output folder by the environment")]
    pub fn write(&self) -> Result<(), Error> {
        let out =
            PathBuf::from(std::env::var_os("OUT_DIR").ok_or("not running as a build script: OUT_DIR is not set")?);
        let (schema, pool) = self.compile()?;
        fs::write(out.join("schema.bin"), &schema)?;

        let redacted = redact::Redacted::find(&pool)?;
        prost_build::Config::new()
            .out_dir(&out)
            .skip_debug(redacted.paths())
            .bytes(["."])
            .btree_map(["."])
            .enable_type_names()
            .service_generator(Box::new(service::Generator::default()))
            .include_file("messages.rs")
            .compile_fds(prost_types::FileDescriptorSet::decode(schema.as_slice())?)?;
        let mut messages = fs::OpenOptions::new().append(true).open(out.join("messages.rs"))?;
        messages.write_all(redacted.impls().as_bytes())?;
        Ok(())
    }

    /// The raw descriptor set, and the same to look things up in.
    fn compile(&self) -> Result<(Vec<u8>, DescriptorPool), Error> {
        let mut compiler = protox::Compiler::new(&self.includes)?;
        compiler.include_imports(true).include_source_info(true).open_files(&self.files)?;
        // Raw bytes: prost's descriptor types forget the custom options that the schema reads at start-up.
        let schema = compiler.encode_file_descriptor_set();
        let pool = DescriptorPool::decode(schema.as_slice())?;
        if self.access_required {
            refuse_undeclared_access(&pool)?;
        }
        Ok((schema, pool))
    }

    /// Tells cargo what to watch.
    #[expect(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]
    pub fn rerun_if_changed(&self) {
        for path in self.includes.iter().chain(&self.files) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Default deny is structural: a method without a rule does not build.
fn refuse_undeclared_access(pool: &DescriptorPool) -> Result<(), Error> {
    let access = pool
        .get_extension_by_name("portico.v1.access")
        .ok_or("proto/portico/v1/options.proto does not define portico.v1.access")?;
    for service in pool.services() {
        for method in service.methods() {
            let options = method.options();
            let stated = options.has_extension(&access)
                && options.get_extension(&access).as_message().is_some_and(|rule| rule.fields().next().is_some());
            if !stated {
                let file = service.parent_file();
                return Err(format!(
                    "{}: {} states no access rule; add `option (portico.v1.access) = {{...}};`",
                    file.name(),
                    method.full_name()
                )
                .into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles a service whose second method says this.
    fn compiled(rule: &str) -> Result<(Vec<u8>, DescriptorPool), Error> {
        let folder = std::env::temp_dir().join(format!("portico-codegen-{}", std::process::id()));
        let file = folder.join("doors.proto");
        fs::create_dir_all(&folder)?;
        let written = format!(
            r#"syntax = "proto3";
            package doors.v1;
            import "portico/v1/options.proto";
            service DoorsService {{
              rpc Close(Door) returns (Door) {{ option (portico.v1.access) = {{authenticated: true}}; }}
              rpc Open(Door) returns (Door) {{ {rule} }}
            }}
            message Door {{}}"#
        );
        fs::write(&file, written)?;
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
        let compiled =
            Compilation { includes: vec![folder.clone(), proto], files: vec![file], access_required: true }.compile();
        fs::remove_dir_all(&folder)?;
        compiled
    }

    #[test]
    fn a_method_without_an_access_rule_does_not_build() {
        for rule in ["", "option (portico.v1.access) = {};"] {
            let refused = compiled(rule).unwrap_err().to_string();
            assert!(refused.starts_with("doors.proto: doors.v1.DoorsService.Open states no access rule"), "{refused}");
        }
        compiled("option (portico.v1.access) = {public: true};").unwrap();
    }
}
